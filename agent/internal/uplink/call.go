package uplink

import (
	"context"
	"errors"
	"fmt"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// maxCalls bounds the calls of a session; the hub's slots are far fewer.
const maxCalls = 1024

// A Call is one step that the hub wants done. Its functions may be used until
// the handler returns.
type Call struct {
	Step *control.RunStep
	// Body is the body stream of the step, whichever of the two arrives first;
	// the same stream each time. The handler may close or reset it, and it is
	// closed when the handler returns.
	Body func(ctx context.Context) (tunnel.Stream, error)
	// Resume asks the hub where a read goes on. A refusal is a *fault.Error. The
	// ID is filled in.
	Resume func(ctx context.Context, r *control.Resume) (*control.Resumed, error)
}

// call is the life of a Call.
type call struct {
	id      uint64
	cancel  context.CancelCauseFunc
	resumed chan *control.Resumed
}

// start runs the handler for one step.
func (l *link) start(step *control.RunStep) {
	id := step.GetId()
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &call{id: id, cancel: cancel, resumed: make(chan *control.Resumed, 1)}
	if f := l.admit(c); f != nil {
		cancel(f)
		l.done(&control.StepDone{Id: id, Fault: control.FromError(f.WithSource("agent"))})
		return
	}
	b := l.bodies.expect(id)
	l.work.Go(func() {
		defer cancel(nil)
		done := l.u.cfg.Run(ctx, Call{
			Step:   step,
			Body:   func(ctx context.Context) (tunnel.Stream, error) { return l.body(ctx, b) },
			Resume: func(ctx context.Context, r *control.Resume) (*control.Resumed, error) { return l.resume(ctx, c, r) },
		})
		if done == nil {
			done = &control.StepDone{Fault: control.FromError(
				fault.New(fault.Internal, "E_INTERNAL", "the step ended without an answer").WithSource("agent"))}
		}
		done.Id = id
		l.done(done) // before the end of the body: the hub waits for either
		l.bodies.forget(id)
		l.leave(c)
	})
}

// admit counts a call in, or says why it cannot start.
func (l *link) admit(c *call) *fault.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.draining || l.cause != nil:
		return fault.New(fault.Connection, "E_TUNNEL_CUT", "the agent is going down and starts nothing new")
	case l.calls[c.id] != nil:
		return fault.New(fault.Internal, "E_INTERNAL", "the id of the step is in use")
	case len(l.calls) >= maxCalls:
		return fault.New(fault.RateLimit, "E_RATE_LIMIT", "too many steps run at this agent")
	}
	l.calls[c.id] = c
	return nil
}

func (l *link) leave(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, c.id)
	close(l.idle)
	l.idle = make(chan struct{})
}

func (l *link) done(d *control.StepDone) {
	l.out.Put(&control.ToHub{Message: &control.ToHub_StepDone{StepDone: d}})
}

func (l *link) call(id uint64) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[id]
}

func (l *link) cancelCall(m *control.Cancel) {
	if c := l.call(m.GetId()); c != nil {
		reason := m.GetReason()
		c.cancel(fmt.Errorf("%w: %.200s", ErrCancelled, reason))
	}
}

func (l *link) body(ctx context.Context, b *body) (tunnel.Stream, error) {
	select {
	case <-b.here:
		if b.stream == nil {
			return nil, fmt.Errorf("open body: %w", ErrCut)
		}
		return b.stream, nil
	case <-l.gone:
		return nil, fmt.Errorf("open body: %w", ErrCut)
	case <-ctx.Done():
		return nil, fmt.Errorf("open body: %w", context.Cause(ctx))
	}
}

func (l *link) resume(ctx context.Context, c *call, r *control.Resume) (*control.Resumed, error) {
	r.Id = c.id
	select { // what an earlier question left
	case <-c.resumed:
	default:
	}
	if !l.out.Put(&control.ToHub{Message: &control.ToHub_Resume{Resume: r}}) {
		return nil, fmt.Errorf("resume: %w", ErrCut)
	}
	select {
	case a := <-c.resumed:
		if f := control.ToError(a.GetFault()); f != nil {
			return nil, f
		}
		return a, nil
	case <-l.gone:
		return nil, fmt.Errorf("resume: %w", ErrCut)
	case <-ctx.Done():
		return nil, fmt.Errorf("resume: %w", context.Cause(ctx))
	}
}

func (c *call) answer(a *control.Resumed) {
	select {
	case c.resumed <- a:
	default: // nobody asked
	}
}

// IsCut reports whether a call or its context ended because the session broke.
func IsCut(err error) bool { return errors.Is(err, ErrCut) }
