package flow

import (
	"cmp"
	"context"
	"math"
	"slices"

	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// retryPageRecords and retryPageBytes bound one page of a retry.
const (
	retryPageRecords = 500
	retryPageBytes   = 1 << 20
)

// fixed is one page of a retry: what the store records of it, and the page
// itself with the step it enters at. It is made of the parked records alone, so
// that it can be made again, equal, after a crash.
type fixed struct {
	store.RetryPage
	page *page.Page
	step string
}

// fix cuts parked records into pages: by the step they enter at, in the order of
// their ids.
func (e *Engine) fix(ctx context.Context, p *plan, job page.ID, rows []store.Parked) ([]fixed, error) {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b store.Parked) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	var out []fixed
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && n < retryPageRecords && rows[n].Step == rows[0].Step {
			n++
		}
		f, err := e.fixOne(ctx, p, job, uint64(len(out)), rows[:n], retryPageBytes)
		if err != nil {
			return nil, err
		}
		out, rows = append(out, f), rows[len(f.Records):]
	}
	return out, nil
}

// fixOne makes a page of the first of rows, at least of one: as many as most bytes
// hold.
func (e *Engine) fixOne(
	ctx context.Context, p *plan, job page.ID, seq uint64, rows []store.Parked, most int,
) (fixed, error) {
	f := fixed{step: rows[0].Step}
	enc := page.NewEncoder()
	created := rows[0].Updated
	for i, r := range rows {
		if i > 0 && enc.Size() >= most {
			break
		}
		opened, err := e.Open(ctx, r)
		if err != nil {
			return f, err
		}
		record, err := page.ParseRecord(opened.Record)
		if err != nil {
			return f, err
		}
		enc.Fields(record)
		if err := enc.EndDerived(r.Origin, opened.TraceKey); err != nil {
			return f, err
		}
		f.Records = append(f.Records, r.ID)
		f.Seen = append(f.Seen, r.Updated)
		if r.Updated.After(created) {
			created = r.Updated
		}
	}
	h := page.Header{
		Version: page.Version, Tenant: p.scope.Tenant, Environment: p.scope.Environment,
		Flow: p.flow, FlowVersion: p.version, Chain: page.Chain{Job: job, Step: retryStep},
		Seq: seq, Created: created,
	}
	root := page.New(h, enc.Finish(nil), len(f.Records))
	f.Root, f.Hash, f.Bytes = root.Header.Name(), root.Header.Hash(), uint64(root.Header.PayloadSize)
	root.Header.Path = "/" + retryStep
	f.page, f.Published = root, root.Header.Name()
	return f, nil
}

// retryStep is the step token of the chain of a retry job.
const retryStep = "retry"

// send puts a fixed page on the queue of the import it leads to.
func (e *Engine) send(ctx context.Context, p *plan, f fixed) error {
	i, at, err := p.entry(f.step)
	if err != nil {
		return err
	}
	if at >= 0 && i+1 < len(p.hops) {
		i++
	}
	target, err := e.object(ctx, p.scope, p.hops[i].Connection)
	if err != nil {
		return err
	}
	key, err := e.Secrets.DataKey(ctx, p.scope.Tenant)
	if err != nil {
		return err
	}
	h := &f.page.Header
	err = e.Queue.Publish(ctx, queue.Message{
		Place: place(p.scope), Connection: target.ID, Kind: queue.KindPage, Name: h.Name(),
		Job: h.Chain.Job, Step: f.step, Flow: p.flow, FlowVersion: p.version,
		Body: page.SealPage(key, f.page, 0),
	})
	if err != nil {
		return err
	}
	return e.Store.MarkRetryPublished(ctx, p.scope, f.Root, e.Clock())
}

// publishFixed makes a page of a retry again and publishes it, after a crash.
func (e *Engine) publishFixed(ctx context.Context, lost store.FixedPage) error {
	rows, err := e.Store.RetryRecords(ctx, lost.Scope, lost.Root)
	if err != nil || len(rows) == 0 {
		return err
	}
	p, err := e.plan(ctx, lost.Scope, lost.Flow, lost.Version)
	if err != nil {
		return err
	}
	name, err := page.ParseName(lost.Root)
	if err != nil {
		return err
	}
	f, err := e.fixOne(ctx, p, lost.Job, name.Seq, rows, math.MaxInt)
	if err != nil {
		return err
	}
	return e.send(ctx, p, f)
}
