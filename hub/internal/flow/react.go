package flow

import (
	"context"
	"crypto/hmac"
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
	maxAttempts = 5                      // of an intermittent fault
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
	case errors.Is(err, errHeld):
		out = w.Later(ctx, jitter(heldDelay), w.Attempt)
	default:
		return nil
	}
	return &out
}

func (e *Engine) reactTo(ctx context.Context, w *work, f *fault.Error) error {
	switch {
	case f.Code == "E_TUNNEL_CUT" || f.Code == "E_SUPERSEDED" || f.Code == "E_STOPPING":
		return w.Nak(nakDelay)
	case f.Code == "E_NOT_RESUMABLE" || f.Code == "E_SPILL":
		return e.fail(ctx, w, f)
	}
	switch f.Class {
	case fault.Intermittent:
		if w.Attempt < maxAttempts {
			return w.Later(ctx, backoff(w.Attempt), w.Attempt+1)
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
	if err := e.Connections.Report(ctx, w.scope, w.Connection, f); err != nil {
		return err
	}
	if w.Attempt > 0 {
		return w.Later(ctx, nakDelay, 0)
	}
	return w.Nak(nakDelay)
}

// pause stops the job where it is. One of its pages tries again later.
func (e *Engine) pause(ctx context.Context, w *work, f *fault.Error) error {
	wait := probeFirst << min(w.Attempt, 4)
	at := e.Clock().Add(wait)
	if err := e.Store.PauseJob(ctx, w.scope, w.Job, store.Pause{Cause: f, RetryAt: &at}, e.Clock()); err != nil {
		return err
	}
	e.Log.Warn("job paused", "job", w.Job, "code", f.Code, "cause", f.Cause)
	e.watch.changed(w.Job)
	return w.Later(ctx, wait, w.Attempt+1)
}

// fail ends the job; what was delivered stays.
func (e *Engine) fail(ctx context.Context, w *work, f *fault.Error) error {
	if _, err := e.Store.FailJob(ctx, w.scope, w.Job, f, e.Clock()); err != nil {
		return err
	}
	e.Log.Warn("job failed", "job", w.Job, "code", f.Code, "cause", f.Cause)
	e.watch.changed(w.Job)
	return w.Ack(ctx)
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

// traceHash finds a trace key without storing it: keyed by the tenant's id, so
// that equal keys of two tenants differ.
func (w *work) traceHash(key string) page.Hash {
	mac := hmac.New(sha256.New, w.scope.Tenant[:])
	mac.Write([]byte(key))
	return page.Hash(mac.Sum(nil))
}
