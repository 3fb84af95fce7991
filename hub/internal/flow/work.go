package flow

import (
	"context"
	"errors"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// work is one delivery being worked on.
type work struct {
	*queue.Delivery
	scope store.Scope
	plan  *plan
	key   *page.Key // the tenant's current data key
	state store.Admitted
}

// handle works one delivery off. What comes back from it decides what happens to
// the message; nothing is acknowledged before its receipt is durable.
func (e *Engine) handle(ctx context.Context, d *queue.Delivery) {
	w := &work{Delivery: d, scope: scope(d.Place)}
	err := e.admit(ctx, w)
	if err == nil {
		switch d.Kind {
		case queue.KindRead:
			err = e.read(ctx, w)
		default:
			err = e.page(ctx, w)
		}
	}
	if err == nil && w.state.JobState == model.JobPaused && held(w.state) {
		err = e.goOn(ctx, w)
	}
	if err == nil {
		err = d.Ack(ctx)
	}
	e.react(ctx, w, err)
}

// Reasons to end a delivery early that are no faults.
var (
	errSettled = errors.New("nothing left to do")      // ack and forget
	errNotYet  = errors.New("root not accepted yet")   // put off for a moment
	errHeld    = errors.New("job is paused")           // put off until its next try
	errFenced  = errors.New("a newer delivery has it") // touch nothing
)

// admit asks the ledger whether this delivery may be executed and loads what it
// needs. See docs/decisions/0001.
func (e *Engine) admit(ctx context.Context, w *work) error {
	err := e.ask(ctx, w)
	if err != nil {
		return err
	}
	switch w.state.Entry {
	case store.EntryDone, store.EntryOrphan:
		return errSettled
	case store.EntryPending:
		return errNotYet
	case store.EntrySuperseded:
		return errFenced
	}
	if w.state.JobState == model.JobPaused && held(w.state) {
		won, err := e.Store.TryPaused(ctx, w.scope, w.Job, e.Clock())
		if err != nil {
			return err
		}
		if !won {
			return errHeld
		}
	}
	if w.plan, err = e.plan(ctx, w.scope, w.Flow, w.FlowVersion); err != nil {
		return err
	}
	w.key, err = e.Secrets.DataKey(ctx, w.scope.Tenant)
	return err
}

// ask asks the ledger. A page is published a moment before its acceptance is
// recorded, so a fetch that is quicker than that waits a little for it.
func (e *Engine) ask(ctx context.Context, w *work) error {
	for wait := askFirst; ; wait *= 2 {
		var err error
		w.state, err = e.Store.Admit(ctx, store.Admission{
			Scope: w.scope, Name: w.Name, Job: w.Job, Claim: w.Claim, NeedClaim: w.NeedClaim, Now: e.Clock(),
		})
		if err != nil || w.state.Entry != store.EntryPending || wait > askLast {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// How long a delivery waits for the acceptance of its root before it is put off:
// about one second in all.
const (
	askFirst = 2 * time.Millisecond
	askLast  = 512 * time.Millisecond
)

// held reports whether a paused job keeps its pages back. A job that waits for a
// connection does not: its pages for other connections go on.
func held(a store.Admitted) bool {
	if a.Cause == nil {
		return true
	}
	switch a.Cause.Class {
	case fault.Auth, fault.Connection, fault.Intermittent, fault.RateLimit:
		return false
	}
	return true
}

// goOn resumes a job whose held page has just succeeded.
func (e *Engine) goOn(ctx context.Context, w *work) error {
	reads, err := e.Store.ResumeJob(ctx, w.scope, w.Job, e.Clock())
	if err != nil {
		return err
	}
	e.Log.Info("job goes on", "job", w.Job, "flow", w.plan.name)
	e.watch.changed(w.Job)
	return e.publishReads(ctx, reads)
}

func (e *Engine) publishReads(ctx context.Context, reads store.Reads) error {
	for _, r := range reads.Next {
		if err := e.publishRead(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// moved publishes what a write made due and tells who waits.
func (e *Engine) moved(ctx context.Context, w *work, chain page.Chain, p store.Progress) error {
	if p.JobEnded != nil {
		j := p.JobEnded
		e.Log.Info("job ended", "job", j.ID, "flow", j.FlowName, "state", j.State,
			"exported", j.Records.Exported, "delivered", j.Records.Delivered,
			"filtered", j.Records.Filtered, "parked", j.Records.Parked)
		e.watch.changed(j.ID)
	}
	if p.SumOpen != nil {
		e.Log.Error("sum of job is open", "job", p.SumOpen.ID, "flow", p.SumOpen.FlowName)
		e.watch.changed(p.SumOpen.ID)
	}
	if p.ReadNext == nil {
		return nil
	}
	h := w.plan.hops[0]
	ep, err := e.object(ctx, w.scope, h.Connection)
	if err != nil {
		return err
	}
	return e.publishRead(ctx, store.PendingRead{
		Scope: w.scope, Chain: chain, Request: *p.ReadNext, Connection: ep.ID,
		Flow: w.plan.flow, FlowVersion: w.plan.version,
	})
}
