package runner

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"ropeway/agent/internal/uplink"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
)

// execution is one run of a step. Calls come and go; it ends by itself, when it
// is cancelled, or a minute after its last call was cut off.
type execution struct {
	name   string
	claim  page.Claim // of the call that began it
	ctx    context.Context
	cancel context.CancelCauseFunc

	begun chan struct{} // closed when work is set, or the beginning has failed
	work  work
	done  chan struct{} // closed when answer and err are set
	ended bool
	reply *control.StepDone
	err   error

	mu    sync.Mutex
	calls int
	kept  bool // no call can cancel it
	lease *time.Timer
}

// work is what an execution does.
type work interface {
	// run does it and returns the answer. It may wait for acks, which come
	// through serve.
	run(ctx context.Context) (*control.StepDone, error)
	// serve ties the body stream of a call to the work until the work is done
	// or the stream breaks. It returns when nothing of it uses the stream.
	serve(ctx context.Context, body tunnel.Stream, done <-chan struct{}) error
}

// enter finds or makes the execution of a step; joined says that it was there.
// An execution that has ended well is a recorded answer.
func (r *Runner) enter(s *step) (e *execution, joined bool, recorded *control.StepDone, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false, nil, errClosing()
	}
	if e := r.running[s.name]; e != nil {
		e.attach()
		return e, true, nil, nil
	}
	if done := r.recorded.answer(s.name); done != nil {
		return nil, true, done, nil
	}
	if s.join {
		return nil, false, nil, fault.Of("E_NOT_RESUMABLE").WithSource("agent").
			WithSentence("there is no running execution to join").WithCause(s.name + " does not run at this agent")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	e = &execution{name: s.name, claim: s.claim, ctx: ctx, cancel: cancel,
		begun: make(chan struct{}), done: make(chan struct{})}
	e.attach()
	r.running[s.name] = e
	r.work.Add(1)
	return e, false, nil, nil
}

// start runs the work of a new execution in a goroutine of its own.
func (r *Runner) start(e *execution, w work) {
	e.work = w
	if k, ok := w.(interface{ unrepeatable() bool }); ok && k.unrepeatable() {
		e.mu.Lock()
		e.kept = true
		e.mu.Unlock()
	}
	close(e.begun)
	go func() {
		done, err := runSafely(e.ctx, w)
		if cause := context.Cause(e.ctx); err != nil && cause != nil {
			err = ended(cause, err)
		}
		r.leave(e, done, err)
	}()
}

// runSafely turns a panic of a connector into a fault of its step.
func runSafely(ctx context.Context, w work) (done *control.StepDone, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.Of("E_INTERNAL").WithSource("agent").
				WithCause(fmt.Sprintf("a connector panicked (%T) at %s", r, panicAt()))
		}
	}()
	return w.run(ctx)
}

// panicAt names the function that panicked, without what was in its hands.
func panicAt() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") || !more {
			return f.Function
		}
	}
}

// ended says why a cancelled execution ended.
func ended(cause, err error) error {
	f := fault.From(err)
	if f.Code != "E_INTERNAL" && f.Code != "E_TIMEOUT" {
		return err
	}
	if c := fault.From(cause); c.Code != "E_INTERNAL" {
		return c
	}
	return fault.Of("E_CANCELLED").WithSource("agent").WithCause(cause)
}

// leave ends an execution: a good answer is recorded, a fault is not, so that
// the next call tries again.
func (r *Runner) leave(e *execution, done *control.StepDone, err error) {
	r.mu.Lock()
	e.reply, e.err = done, err
	delete(r.running, e.name)
	if err == nil {
		r.recorded.add(e.name, done)
	}
	r.mu.Unlock()
	e.release()
	if e.work == nil {
		close(e.begun)
	}
	close(e.done)
	e.cancel(nil)
	r.work.Done()
}

func (e *execution) keeps() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kept
}

// attach counts a call in.
func (e *execution) attach() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if e.lease != nil {
		e.lease.Stop()
		e.lease = nil
	}
}

// detach counts a call out. The last one leaves the execution on its own for a
// while: the hub sends the step again when its session is back.
func (e *execution) detach() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls--
	if e.calls > 0 || e.ended {
		return
	}
	wait := joinWait
	if e.kept {
		wait = spillWait
	}
	e.lease = time.AfterFunc(wait, func() {
		e.cancel(fault.Of("E_CANCELLED").WithSource("agent").
			WithCause(fmt.Sprintf("no session came back for it within %s", wait)))
	})
}

// release stops the wait for a call.
func (e *execution) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	if e.lease != nil {
		e.lease.Stop()
	}
}

// serve ties a call to an execution and waits for the answer.
func (r *Runner) serve(ctx context.Context, e *execution, c uplink.Call) (*control.StepDone, error) {
	defer e.detach()
	if err := e.wait(ctx, e.begun); err != nil {
		return nil, err
	}
	if e.work == nil {
		return nil, e.err
	}
	body, served := c.Body(ctx)
	if served == nil {
		served = e.work.serve(ctx, body, e.done)
	}
	select {
	case <-e.done:
		return e.reply, e.err
	default:
	}
	if err := e.wait(ctx, nil); err != nil {
		return nil, err
	}
	return nil, served
}

// wait waits for ready, nil for not at all, or for the end of ctx. A step that
// the hub has cancelled is cancelled here; one whose session was cut lives on. So
// does one that cannot be repeated: the hub cancels a call whose lease it has lost,
// and joins the step with the next one. If its job is over, the next page says so.
func (e *execution) wait(ctx context.Context, ready <-chan struct{}) error {
	if ready != nil {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if !uplink.IsCut(cause) && !e.keeps() {
		e.cancel(fault.Of("E_CANCELLED").WithSource("agent").WithCause(cause))
	}
	return cause
}
