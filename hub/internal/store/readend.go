package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// EndRead writes the receipt of a read request and its continuation in one
// transaction (DELIVERY §1.2). Writing it again changes nothing.
func (s *Store) EndRead(ctx context.Context, r ReadEnd) (ReadEnded, error) {
	name := page.ReadName(r.Chain, r.Request)
	var out ReadEnded
	err := s.write(ctx, func(t *tx) error {
		j, foundJob, err := loadJob(t, r.Scope, r.Chain.Job)
		if err != nil {
			return err
		}
		c, foundChain, err := loadChain(t, r.Scope, r.Chain)
		if err != nil {
			return err
		}
		if !foundJob || !foundChain {
			return notFound("chain", r.Chain.String())
		}
		out.SettledTo = c.settledTo
		if out.Already, err = receiptExists(t, name); err != nil {
			return err
		}
		out.Over = !out.Already && j.state.Terminal()
		if !out.Already && !out.Over {
			if err := s.endRead(t, name, &r, c); err != nil {
				return err
			}
			if err := s.afterTry(t, j, r.Tried, &out.Progress, r.Now); err != nil {
				return err
			}
		}
		out.ReadNext = c.readNext(j, s.opt)
		return nil
	})
	if err != nil {
		return ReadEnded{}, fmt.Errorf("end read %s: %w", name, err)
	}
	return out, nil
}

func (s *Store) endRead(t *tx, name string, r *ReadEnd, c *chainRow) error {
	switch {
	case int64(r.Request) != c.nextRead:
		return superseded("the request is not the chain's next one")
	case !r.Epoch.IsZero() && r.Epoch != c.epoch:
		return superseded("another execution reads the chain now")
	case r.Exhausted && !c.ended:
		return totalsWrong("the source is exhausted, but the last page was not accepted")
	}
	if err := s.checkClaim(t, name, r.Claim); err != nil {
		return err
	}
	c.nextRead++
	c.continuation = r.Cursor
	receipt := &Receipt{Scope: r.Scope, Name: name, Job: r.Chain.Job, Step: r.Chain.Step,
		Claim: r.Claim, Now: r.Now}
	return inOrder(
		func() error { return insertReceipt(t, receipt, page.Root(name), 0) },
		func() error { return dropClaim(t, name) },
		func() error { return c.saveRead(t) },
	)
}

// MarkReadPublished notes that read request n is in the queue. A mark of an
// older request changes nothing.
func (s *Store) MarkReadPublished(
	ctx context.Context, scope Scope, chain page.Chain, n uint64, now time.Time,
) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE chains SET published_read = ?, published_at = ?
			WHERE job = ? AND step = ? AND tenant = ? AND environment = ? AND published_read <= ?`,
			int64(n), micros(now), chain.Job.String(), chain.Step,
			scope.Tenant.String(), scope.Environment.String(), int64(n))
		return err
	})
	if err != nil {
		return fmt.Errorf("mark read %s: %w", page.ReadName(chain, n), err)
	}
	return nil
}

// PendingReads lists, over all tenants, the continuations of running jobs that
// have no receipt and are not published, or were published long ago: what the
// sweep publishes every 10 s (DELIVERY §1.2). It is the engine's own call.
func (s *Store) PendingReads(ctx context.Context, now time.Time) ([]PendingRead, error) {
	var out []PendingRead
	err := s.pendingReads(s.read(ctx), &out, `c.open = 1 AND c.ended = 0 AND j.state = ?
		AND c.out_pages < ? AND c.out_bytes < ?
		AND (c.next_read > c.published_read OR c.published_at < ?)`,
		string(model.JobRunning), s.opt.maxPages, s.opt.maxBytes, micros(now.Add(-s.opt.readStale)))
	if err != nil {
		return nil, fmt.Errorf("list pending reads: %w", err)
	}
	return out, nil
}

// nextReads lists the reads of one job to publish now, published before or not.
func (s *Store) nextReads(q querier, job page.ID) (out []PendingRead, err error) {
	err = s.pendingReads(q, &out, `c.job = ? AND c.open = 1 AND c.ended = 0
		AND c.out_pages < ? AND c.out_bytes < ?`, job.String(), s.opt.maxPages, s.opt.maxBytes)
	return out, err
}

func (s *Store) pendingReads(q querier, out *[]PendingRead, where string, args ...any) error {
	rows, err := q.query(`SELECT c.tenant, c.environment, c.job, c.step, c.next_read, c.connection,
		c.last_cursor, c.continuation, j.flow, j.flow_version
		FROM chains c JOIN jobs j ON j.id = c.job WHERE `+where, args...)
	return each(rows, err, func(r rowScanner) error {
		var p PendingRead
		var continuation []byte
		err := r.Scan(idScan{&p.Scope.Tenant}, idScan{&p.Scope.Environment}, idScan{&p.Chain.Job},
			&p.Chain.Step,
			&p.Request, idScan{&p.Connection}, &p.Cursor, &continuation, idScan{&p.Flow}, &p.FlowVersion)
		if len(p.Cursor) == 0 {
			p.Cursor = continuation
		}
		p.Cursor = nilIfEmpty(p.Cursor)
		*out = append(*out, p)
		return err
	})
}

// Settledness says how far a chain is settled, for agents that keep its pages.
type Settledness struct {
	Chain     page.Chain
	Epoch     page.Epoch // current
	SettledTo uint64     // every page with a lower seq is settled
	Cursor    []byte     // sealed end cursor of the last of those: the watermark (DELIVERY §6)
}

// Watermark returns how far the chain is settled without a hole.
func (s *Store) Watermark(ctx context.Context, scope Scope, chain page.Chain) (Settledness, error) {
	q := s.read(ctx)
	c, found, err := loadChain(q, scope, chain)
	if err == nil && !found {
		err = notFound("chain", chain.String())
	}
	out := Settledness{Chain: chain}
	if err == nil {
		out.Epoch, out.SettledTo = c.epoch, c.settledTo
		if c.settledTo > 0 {
			_, err = q.row(`SELECT last_cursor FROM roots WHERE job = ? AND step = ? AND seq = ? AND
				accepted = 1`,
				[]any{chain.Job.String(), chain.Step, int64(c.settledTo - 1)}, &out.Cursor)
		}
	}
	if err != nil {
		return Settledness{}, fmt.Errorf("read watermark of %s: %w", chain, fault.From(err))
	}
	out.Cursor = nilIfEmpty(out.Cursor)
	return out, nil
}
