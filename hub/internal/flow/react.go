package flow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"time"

	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Reactions to errors (DELIVERY §8).
const (
	maxAttempts = 5                      // further tries after an intermittent fault
	notYetDelay = 2 * time.Second        // a page whose root is not accepted yet
	nakDelay    = 500 * time.Millisecond // work that another delivery shall take up
	heldDelay   = 5 * time.Second        // a page of a paused job
	probeFirst  = 3 * time.Second        // until a paused job tries one page again

	reactTimeout = 30 * time.Second
)

// react decides what happens to a delivery that ended with err. Errors of the
// reaction itself are logged: the message comes back when its lease ends.
func (e *Engine) react(ctx context.Context, w *work, err error) {
	if err == nil || errors.Is(err, errFenced) {
		return
	}
	log := e.Log.With("message", w.Name, "step", w.Step)
	if done := e.notAFault(ctx, w, err); done != nil {
		if *done != nil {
			log.Warn("delivery not ended", "error", *done)
		}
		return
	}
	if ctx.Err() != nil {
		// Lease lost or hub stopping: whoever gets the message next goes on.
		_ = w.Nak(0)
		return
	}
	f := fault.From(err)
	log.Info("step did not succeed", "class", f.Class, "code", f.Code, "cause", f.Cause, "attempt", w.Attempt)
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), reactTimeout)
	defer cancel()
	if err := e.reactTo(limited, w, f); err != nil {
		log.Error("reaction did not succeed", "error", err)
	}
}

// notAFault handles the early ends of admit. It returns nil when err is none of them.
func (e *Engine) notAFault(ctx context.Context, w *work, err error) *error {
	var out error
	switch {
	case errors.Is(err, errSettled):
		out = w.Ack(ctx)
	case errors.Is(err, errNotYet):
		out = w.Later(ctx, notYetDelay, w.Attempt)
	case errors.Is(err, errHeld), errors.Is(err, errInHand):
		out = w.Later(ctx, jitter(heldDelay), w.Attempt)
	case errors.Is(err, errOffline) && w.own:
		out = w.Nak(nakDelay) // its lane is paused, or will be in a moment
	case errors.Is(err, errOffline):
		out = w.Later(ctx, jitter(heldDelay), w.Attempt) // the slot is the lender's
	default:
		return nil
	}
	return &out
}

func (e *Engine) reactTo(ctx context.Context, w *work, f *fault.Error) error {
	switch {
	case f.Code == "E_SUPERSEDED":
		return w.Nak(again(w.Claim.Delivery))
	case cutOff(f):
		return w.Nak(nakDelay)
	case f.Code == "E_NOT_RESUMABLE" || f.Code == "E_SPILL":
		return e.fail(ctx, w, f)
	}
	if f.Source == "vault" && f.Class == fault.Intermittent {
		// The hub's own secrets are out of reach: no fault of the connection, and no attempt.
		return w.Later(ctx, jitter(heldDelay), w.Attempt)
	}
	switch f.Class {
	case fault.Intermittent:
		if n := tries(w.Attempt); n < maxAttempts {
			return w.Later(ctx, backoff(n), w.Attempt+1)
		}
		return e.offline(ctx, w, f)
	case fault.Auth, fault.Connection, fault.RateLimit:
		return e.offline(ctx, w, f)
	}
	return e.pause(ctx, w, f)
}

// offline reports the fault to the connection and gives the message back; it is
// fetched again when the connection is online.
func (e *Engine) offline(ctx context.Context, w *work, f *fault.Error) error {
	if err := e.report(ctx, w.scope, w.Connection, f); err != nil {
		return err
	}
	if w.Attempt > 0 {
		return w.Later(ctx, nakDelay, 0)
	}
	return w.Nak(nakDelay)
}

// pause stops the job where it is. One of its pages tries again later.
func (e *Engine) pause(ctx context.Context, w *work, f *fault.Error) error {
	wait := probeFirst << min(pauses(w.Attempt), 4)
	at := e.Clock().Add(wait)
	err := e.Store.PauseJob(ctx, w.scope, w.Job, store.Pause{Cause: f, RetryAt: &at}, e.Clock())
	if over(err) {
		return w.Ack(ctx)
	}
	if err != nil {
		return err
	}
	e.Log.Warn("job paused", "job", w.Job, "code", f.Code, "cause", f.Cause)
	e.watch.changed(w.Job)
	return w.Later(ctx, wait, paused(w.Attempt))
}

// fail ends the job; what was delivered stays.
func (e *Engine) fail(ctx context.Context, w *work, f *fault.Error) error {
	_, err := e.Store.FailJob(ctx, w.scope, w.Job, f, e.Clock())
	if over(err) {
		return w.Ack(ctx)
	}
	if err != nil {
		return err
	}
	e.Log.Warn("job failed", "job", w.Job, "code", f.Code, "cause", f.Cause)
	e.watch.changed(w.Job)
	e.freeBuffers(ctx, w.scope, w.plan)
	return w.Ack(ctx)
}

// over reports whether a job could not be changed because it has ended: whoever
// still held one of its messages has nothing left to do.
func over(err error) bool { return err != nil && fault.CodeOf(err) == "E_STATE_CONFLICT" }

// cutOff reports faults that say nothing about the work: it was cut off in the
// middle, or another execution goes on with it.
func cutOff(f *fault.Error) bool {
	switch f.Code {
	case "E_TUNNEL_CUT", "E_SUPERSEDED", "E_CANCELLED", "E_DRAINING":
		return true
	}
	return false
}

// again is the wait before work that someone else has taken over is looked at:
// longer each time, so that two replicas with a copy of one read each stop taking
// it from one another.
func again(delivery uint64) time.Duration {
	return jitter(nakDelay << min(max(delivery, 1)-1, 5))
}

// The attempt of a message counts two things: tries after an intermittent fault,
// and pauses of its job.
const pauseUnit = 1 << 16

func tries(attempt uint32) uint32  { return attempt % pauseUnit }
func pauses(attempt uint32) uint32 { return attempt / pauseUnit }

// paused is the attempt after one more pause. The tries begin anew: what comes
// after the pause is another trouble.
func paused(attempt uint32) uint32 { return (min(pauses(attempt), 1<<10) + 1) * pauseUnit }

// report takes a fault to the connection. An agent that came back between the
// fault and its report would else be waited for until the next probe.
func (e *Engine) report(ctx context.Context, s store.Scope, id page.ID, f *fault.Error) error {
	if err := e.Connections.Report(ctx, s, id, f); err != nil || f.Code != "E_AGENT_OFFLINE" {
		return err
	}
	object, err := e.Store.ObjectByID(ctx, s, id)
	if err != nil {
		return err
	}
	ep, err := e.resolve(ctx, object)
	if err == nil && e.Gateway.Online(ep.group) {
		e.Connections.AgentChanged(ep.group)
	}
	return err
}

// parksPage reports whether a fault of a whole import concerns its records: then
// they are parked, each of them. A fault of settings, objects or the hub's own
// words is not theirs.
func parksPage(f *fault.Error, attempt uint32) bool {
	if f.Class == fault.Intermittent {
		return !network(f) && !cutOff(f) && tries(attempt) >= maxAttempts
	}
	switch f.Code {
	case "E_SETTINGS", "E_REQUEST", "E_MANIFEST", "E_EXPRESSION", "E_REFERENCE", "E_NOT_FOUND", "E_UNKNOWN_KIND",
		"E_CONFLICT", "E_STATE_CONFLICT", "E_EXISTS", "E_IN_USE":
		return false
	}
	return f.Class.Parks()
}

// network reports faults of the way to an endpoint, not of its answer.
func network(f *fault.Error) bool {
	switch f.Code {
	case "E_UNREACHABLE", "E_TIMEOUT", "E_AGENT_OFFLINE", "E_TUNNEL_CUT":
		return true
	}
	return f.Class == fault.Connection
}

// backoff is 1 s, 2 s, 4 s, … with jitter.
func backoff(attempt uint32) time.Duration { return jitter(time.Second << min(attempt, 6)) }

// jitter spreads d over 50 to 150 percent.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // spreading load, not a secret
}

// fingerprint groups parked records of one cause. It holds no record data.
func fingerprint(step string, f *fault.Error) string {
	sum := sha256.Sum256([]byte(step + "\x00" + f.Code + "\x00" + string(f.Class) + "\x00" + f.Field))
	return hex.EncodeToString(sum[:8])
}
