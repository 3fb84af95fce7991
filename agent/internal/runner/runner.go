// Package runner does the hub's steps at the site: it asks the policy, opens
// connections and runs one bounded request at a time, so that a step which
// arrives a second time joins the first. It knows connectors and pages; it does
// not know tunnels beyond one call, nor flows, nor how a step was queued.
package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"ropeway/agent/internal/buffer"
	"ropeway/agent/internal/policy"
	"ropeway/agent/internal/uplink"
	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Config is what a runner works with.
type Config struct {
	Types  func(name string) (*connectors.Type, bool)
	Policy *policy.Guard
	Buffer *buffer.Buffer
	// Site finds the fields of a credential that is kept at the site.
	Site   func(ctx context.Context, name string) (map[string]string, error)
	Limits request.Limits   // of reads; zero fields mean their defaults
	Clock  func() time.Time // nil = time.Now
	Log    *slog.Logger     // nil = silent
}

const (
	// joinWait is how long an execution lives without a call that wants it, and
	// spillWait how long one does whose pages are in the buffer: it cannot be
	// repeated, so it outlives a hub that is down or a tunnel that is cut for long.
	joinWait  = time.Minute
	spillWait = 24 * time.Hour
	// idleClose is how long a connection stays open without a request.
	idleClose = 5 * time.Minute
	// recordedAnswers is how many answers are kept for a second call.
	recordedAnswers = 4096
	// defaultTimeout and maxTimeout bound a step (DELIVERY §1.1).
	defaultTimeout = 10 * time.Minute
	maxTimeout     = time.Hour
)

// Runner runs steps. Run may be called from any goroutine.
type Runner struct {
	config Config
	conns  *pool

	mu       sync.Mutex
	closed   bool
	running  map[string]*execution // by the step's name
	recorded *records
	work     sync.WaitGroup

	dead         sync.Once   // the executions of a former process are given up
	processEpoch *page.Epoch // of a mutation run; nil = an epoch for each execution
}

// Option changes what only tests may change.
type Option func(*Runner)

// MutationProcessEpoch draws one epoch for all executions of this runner. It exists
// so that the tests of agents that take turns can be seen to fail: pages of two
// executions get the same name.
func MutationProcessEpoch() Option {
	return func(r *Runner) {
		e := page.NewEpoch()
		r.processEpoch = &e
	}
}

// epoch is that of a new execution of a read (DELIVERY §2.1).
func (r *Runner) epoch() page.Epoch {
	if r.processEpoch != nil {
		return *r.processEpoch
	}
	return page.NewEpoch()
}

// New makes a runner that does nothing yet.
func New(c Config, options ...Option) *Runner {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runner{config: c, conns: newPool(c.Log), running: map[string]*execution{},
		recorded: newRecords(recordedAnswers)}
	for _, o := range options {
		o(r)
	}
	return r
}

// Running is the number of executions under way.
func (r *Runner) Running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.running)
}

// Close cancels what runs, waits for it and closes all connections.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	for _, e := range r.running {
		e.cancel(errClosing())
	}
	r.mu.Unlock()
	r.work.Wait()
	return r.conns.close()
}

func errClosing() error {
	return fault.Of("E_DRAINING").WithSource("agent")
}

// Run does one step and returns its answer; it never returns nil. It returns
// soon after ctx ends: a step whose session was cut lives on for a minute and
// waits to be joined, a cancelled one ends.
func (r *Runner) Run(ctx context.Context, c uplink.Call) *control.StepDone {
	done, err := r.run(ctx, c)
	if err != nil {
		f := fault.From(err)
		r.config.Log.Info("step ended with a fault",
			"step", c.Step.GetName(), "kind", c.Step.GetKind().String(), "error", f)
		done = &control.StepDone{Fault: control.FromError(f)}
	}
	done.Id = c.Step.GetId()
	return done
}

func (r *Runner) run(ctx context.Context, c uplink.Call) (*control.StepDone, error) {
	r.dead.Do(r.giveUpDead)
	s, err := r.parse(c.Step)
	if err != nil {
		return nil, err
	}
	if err := s.admit(r.config.Policy); err != nil {
		return nil, err
	}
	switch s.kind {
	case control.KindPing:
		return r.ping(ctx, s)
	case control.KindRead:
		return r.join(ctx, s, c, r.beginRead)
	default:
		return r.join(ctx, s, c, r.beginImport)
	}
}

// beginner makes the work of a new execution with the help of its first call.
type beginner func(context.Context, *step, uplink.Call) (work, error)

// join brings the call together with the execution of its name: the one that
// runs, the recorded answer of one that ran, or a new one made by begin.
func (r *Runner) join(ctx context.Context, s *step, c uplink.Call, begin beginner) (*control.StepDone, error) {
	for {
		e, joined, recorded, err := r.enter(s)
		if err != nil || recorded != nil {
			return recorded, err
		}
		if !joined {
			w, err := begin(ctx, s, c)
			if err != nil {
				r.leave(e, nil, err)
				return nil, err
			}
			r.start(e, w)
		}
		done, err := r.serve(ctx, e, c)
		if joined && ctx.Err() == nil && outdated(err, e.claim, s.claim) {
			continue // this call begins anew
		}
		if err != nil {
			return nil, err
		}
		return &control.StepDone{Answer: done.Answer, End: done.End, Joined: joined}, nil
	}
}

// outdated reports whether a call should not take the fault of what it joined:
// the beginning was cut off, or another agent had taken over before this call
// was handed out.
func outdated(err error, began, mine page.Claim) bool {
	return uplink.IsCut(err) || errors.Is(err, fault.Of("E_SUPERSEDED")) && began.Less(mine)
}
