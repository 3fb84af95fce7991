package gateway

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/protobuf/proto"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// An Exchange is what goes on beside a running step.
type Exchange struct {
	// Page is the body of an import; nil if the step has none.
	Page *page.Page
	// Accept takes the next page of a read and says what became of it. It is
	// called in order, one at a time, while later pages are on their way. After a
	// status that is not Taken no further page of this run reaches it.
	Accept func(ctx context.Context, p *page.Page) (control.AckStatus, *fault.Error)
	// Resume answers where a read goes on. An error refuses the execution.
	Resume func(ctx context.Context, r *control.Resume) (*control.Resumed, error)
}

// Run lets an agent of the group do a step and returns its answer, which may
// hold a fault of its own. It prefers the agent that ran a step of this name
// last, so that a running execution is joined, and then the one with the least
// to do. The ID of the step is given here.
//
// Errors: E_AGENT_OFFLINE when nobody is there, E_TUNNEL_CUT as soon as the
// session breaks (both of class connection), E_PAGE_FORMAT when the agent sends
// something else than pages, and the cause of ctx, after which the agent is told
// to cancel. Accept and Resume never run after Run has returned.
func (g *Gateway) Run(
	ctx context.Context, group page.ID, step *control.RunStep, ex Exchange,
) (*control.StepDone, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, c, err := g.begin(ctx, group, step.GetName(), ex)
	if err != nil {
		return nil, err
	}
	defer g.finish(p, c)
	defer cancel()
	b, err := openBody(ctx, p, c)
	if err != nil {
		return nil, err
	}
	defer b.stop()
	msg := proto.Clone(step).(*control.RunStep)
	msg.Id = c.id
	p.send(&control.ToAgent{Message: &control.ToAgent_RunStep{RunStep: msg}})
	select {
	case done := <-c.done:
		return done, nil
	case err := <-b.failed:
		p.cancel(c, "the body stream is not valid")
		return nil, err
	case <-p.gone:
		select {
		case done := <-c.done: // it came just before
			return done, nil
		default:
			return nil, p.cutFault()
		}
	case <-ctx.Done():
		cause := context.Cause(ctx)
		p.cancel(c, cause.Error())
		return nil, stopped(cause)
	}
}

func stopped(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return fault.Of("E_CANCELLED").WithSource("hub").Wrap(cause)
	}
	return fault.From(cause)
}

func (p *peer) cancel(c *call, reason string) {
	p.send(&control.ToAgent{Message: &control.ToAgent_Cancel{Cancel: &control.Cancel{Id: c.id, Reason: reason}}})
}

// begin chooses a session and counts the call there, in one critical section:
// many calls that start at once spread over the agents.
func (g *Gateway) begin(ctx context.Context, group page.ID, name string, ex Exchange) (*peer, *call, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var best *peer
	least := 0
	last, known := g.ran.agent(name)
	for _, p := range g.groups[group] {
		if !p.takesWork() || g.draining {
			continue
		}
		if known && p.id.Agent == last {
			best = p
			break
		}
		if n := p.running(); best == nil || n < least {
			best, least = p, n
		}
	}
	if best == nil {
		return nil, nil, fault.Of("E_AGENT_OFFLINE").WithSource("hub")
	}
	if name != "" {
		g.ran.remember(name, best.id.Agent)
	}
	return best, best.begin(ctx, ex), nil
}

func (g *Gateway) finish(p *peer, c *call) {
	p.mu.Lock()
	delete(p.calls, c.id)
	p.mu.Unlock()
	c.resuming.Lock() // a resume under way ends first
	c.over = true
	c.resuming.Unlock()
	g.signal()
}

// A call is one running step at a session.
type call struct {
	id       uint64
	ctx      context.Context
	exchange Exchange
	done     chan *control.StepDone

	resuming sync.Mutex // held while Exchange.Resume runs
	over     bool
}

func (p *peer) begin(ctx context.Context, ex Exchange) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	c := &call{id: p.lastID, ctx: ctx, exchange: ex, done: make(chan *control.StepDone, 1)}
	p.calls[c.id] = c
	return c
}

func (p *peer) call(id uint64) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[id]
}

func (c *call) finish(done *control.StepDone) {
	select {
	case c.done <- done:
	default: // said twice
	}
}

// beginResume is false when a resume runs or the call is over.
func (c *call) beginResume() bool {
	if !c.resuming.TryLock() {
		return false
	}
	if c.over {
		c.resuming.Unlock()
		return false
	}
	return true
}

func (c *call) endResume() { c.resuming.Unlock() }
