package flow

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
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
	trace tracer
	state store.Admitted
	tried bool // it is the one try of a paused job
	own   bool // its connection lends the slot to itself

	inPage string // name of the page whose records are in hand
	atEnd  []func()
}

// handle works one delivery off. What comes back from it decides what happens to
// the message; nothing is acknowledged before its receipt is durable.
func (e *Engine) handle(ctx context.Context, d *queue.Delivery, lane page.ID) {
	w := &work{Delivery: d, scope: scope(d.Place), own: d.Connection == lane}
	if !e.inHand.begin(d.Name) {
		e.react(ctx, w, errInHand)
		return
	}
	defer e.inHand.end(d.Name)
	err := e.work(ctx, w)
	if err == nil {
		// The receipt is durable. A message whose ack is lost comes again and is
		// found done; it is no fault of the work.
		if err := d.Ack(ctx); err != nil {
			e.Log.Info("message not acknowledged", "message", w.Name, "error", err)
		}
	}
	e.react(ctx, w, err)
	for _, end := range w.atEnd {
		end()
	}
}

// work does what the message asks for. A part of it that panics is a fault of
// this message, not the end of all others.
func (e *Engine) work(ctx context.Context, w *work) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e.Log.Error("work panicked", "message", w.Name, "panic", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
			err = fault.Of("E_INTERNAL").WithSource("hub").WithCause("a part of the hub panicked; its log says where")
		}
	}()
	if err := e.admit(ctx, w); err != nil {
		return err
	}
	if w.Kind == queue.KindRead {
		return e.read(ctx, w)
	}
	return e.page(ctx, w)
}

// Reasons to end a delivery early that are no faults.
var (
	errSettled = errors.New("nothing left to do")       // ack and forget
	errNotYet  = errors.New("root not accepted yet")    // put off for a moment
	errHeld    = errors.New("job is paused")            // put off until its next try
	errFenced  = errors.New("a newer delivery has it")  // touch nothing
	errInHand  = errors.New("it is in hand already")    // look again later
	errOffline = errors.New("connection is not online") // give back
)

// at is a named point at which a test may crash.
func (e *Engine) at(point string, w *work) error {
	if e.crashAt == nil {
		return nil
	}
	return e.crashAt(point, w.Name)
}

// admit asks the ledger whether this delivery may be executed and loads what it
// needs. See docs/decisions/0001.
func (e *Engine) admit(ctx context.Context, w *work) error {
	err := e.ask(ctx, w)
	if err != nil {
		return err
	}
	switch w.state.Entry {
	case store.EntryDone:
		return errSettled
	case store.EntryOrphan:
		e.Log.Info("message dropped: its job is over, or its page was never accepted", "message", w.Name, "job", w.Job)
		return errSettled
	case store.EntryPending:
		return errNotYet
	case store.EntrySuperseded:
		return errFenced
	}
	if err := e.online(ctx, w.scope, w.Connection); err != nil {
		return err
	}
	if w.state.JobState == model.JobPaused && held(w.state) {
		won, err := e.Store.TryPaused(ctx, w.scope, w.Job, e.Clock())
		if err != nil {
			return err
		}
		if !won {
			return errHeld
		}
		w.tried = true
	}
	if w.plan, err = e.plan(ctx, w.scope, w.Flow, w.FlowVersion); err != nil {
		return err
	}
	w.trace = func(key string) (page.Hash, error) {
		return e.Secrets.MAC(ctx, w.scope.Tenant, "trace key", []byte(key))
	}
	w.key, err = e.Secrets.DataKey(ctx, w.scope.Tenant)
	return err
}

// tracer hashes a trace key, so that a record is found by it again though the
// key, which is customer data, is stored nowhere in clear.
type tracer func(key string) (page.Hash, error)

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

func (e *Engine) publishReads(ctx context.Context, reads store.Reads) error {
	for _, r := range reads.Next {
		if err := e.publishRead(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// moved publishes what a write made due and tells who waits. The write is durable,
// so that nothing here is a fault of its page: what is not published now, the
// sweep publishes.
func (e *Engine) moved(ctx context.Context, w *work, chain page.Chain, p store.Progress) {
	if p.Resumed {
		e.Log.Info("job goes on", "job", w.Job, "flow", w.plan.name)
		e.watch.changed(w.Job)
	}
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
		return
	}
	h := w.plan.hops[0]
	ep, err := e.object(ctx, w.scope, h.Connection)
	if err == nil {
		err = e.publishRead(ctx, store.PendingRead{
			Scope: w.scope, Chain: chain, Request: *p.ReadNext, Connection: ep.ID,
			Flow: w.plan.flow, FlowVersion: w.plan.version,
		})
	}
	if err != nil {
		e.Log.Warn("read request not published yet", "chain", chain.String(), "error", err)
	}
}
