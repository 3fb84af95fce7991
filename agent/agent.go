// Package agent puts the agent together: it opens the parts in the state
// directory, starts what runs, and ends it in order. Reading Run from top to
// bottom tells what an agent is; the parts know nothing of each other.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ropeway/agent/internal/localapi"
	"ropeway/agent/internal/runner"
	"ropeway/agent/internal/uplink"
	"ropeway/connectors/builtin"
	"ropeway/protocol/control"
)

// Process is what surrounds a running agent.
type Process struct {
	Log   *slog.Logger
	Ready func()          // called once, when the first tunnel is up
	Drain <-chan struct{} // closed: finish what runs, then end

	Reload  <-chan struct{} // each value: read the policy again now; may be nil
	Service *Service        // nil when somebody started it by hand
}

// Run is an agent from start to end. It ends at once when ctx does, in order when
// it is drained, or with the error that keeps it from running.
func Run(ctx context.Context, c Config, process Process) (err error) {
	service := &manager{log: process.Log}
	defer service.watch(ctx)()
	if process.Service != nil {
		if err := awaitEnrollment(ctx, c, process, service); errors.Is(err, errWaitEnded) {
			return nil
		} else if err != nil {
			return err
		}
	}
	p, err := open(ctx, c, process.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()

	a := &running{parts: p, service: service, started: time.Now(), drained: make(chan struct{})}
	settled := newSettlements()
	a.runner = runner.New(runner.Config{
		Types:  builtin.Find,
		Policy: p.policy,
		Buffer: p.buffer,
		Site:   p.siteCredential,
		Log:    p.log.With("part", "runner"),
	})
	choice := a.transport()
	a.uplink = uplink.New(uplink.Config{
		Dial:    choice.Dial,
		Better:  choice.Better,
		Hub:     p.identity.Facts().Hub,
		Log:     p.log.With("part", "uplink"),
		Hello:   hello(),
		Run:     a.runner.Run,
		Welcome: func(*control.Welcome) { service.status("online"); a.ready.Do(process.Ready) },
		Settled: settled.settled,
		Buffer:  a.bufferState,
	})
	api := localapi.New(c.SocketPath(), a.source(), p.log.With("part", "localapi"))

	ctx, end := context.WithCancel(ctx)
	defer end()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.policy.Run(ctx) })
	group.Go(func() error { p.renewals(ctx); return nil })
	group.Go(func() error { settled.run(ctx, p); return nil })
	group.Go(func() error { return api.Run(ctx, func() { service.ready("connecting") }) })
	group.Go(func() error { a.reloadWhenTold(ctx, process.Reload); return nil })
	group.Go(func() error { a.drainWhenTold(ctx, process.Drain); return nil })
	group.Go(func() error {
		defer end() // drained: now the rest may end too
		return errors.Join(a.uplink.Run(ctx), a.runner.Close())
	})
	p.log.Info("agent started", "agent", p.identity.Facts().Name, "hub", p.identity.Facts().Hub, "version", Version())
	service.ask(a.answer)
	err = group.Wait()
	service.forget()
	p.log.Info("agent ended")
	return err
}

// running is an agent while it runs.
type running struct {
	*parts
	service *manager
	runner  *runner.Runner
	uplink  *uplink.Uplink
	started time.Time
	ready   sync.Once

	draining sync.Once
	drained  chan struct{} // closed when a drain was asked for over the local API
}

// drainWhenTold waits for either of the two ways to ask for a drain.
func (a *running) drainWhenTold(ctx context.Context, told <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-told:
	case <-a.drained:
	}
	a.log.Info("draining")
	a.service.stopping()
	a.drain()
	a.uplink.Drain(ctx)
}

// drain asks for a drain; asking again does nothing.
func (a *running) drain() { a.draining.Do(func() { close(a.drained) }) }

func (a *running) isDraining() bool {
	select {
	case <-a.drained:
		return true
	default:
		return false
	}
}

// reloadWhenTold reads the policy at each value, until ctx ends.
func (a *running) reloadWhenTold(ctx context.Context, told <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
			a.service.reload(a.policy.Reload)
		}
	}
}

// answer returns when neither uplink nor runner is stuck in its own locks, and
// shows how the agent is.
func (a *running) answer() {
	a.runner.Running()
	link := a.uplink.State()
	text := a.word(link)
	if c := cause(link); c != nil {
		text += ": " + c.Sentence + ": " + c.Cause
	}
	a.service.status(text)
}
