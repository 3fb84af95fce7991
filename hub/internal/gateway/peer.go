package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ropeway/certs"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// A peer is one session of one agent.
type peer struct {
	g       *Gateway
	session tunnel.Session
	id      certs.Identity
	info    AgentInfo
	hello   *control.AgentHello
	log     *slog.Logger
	out     *control.Outbox[*control.ToAgent]
	resumes sync.WaitGroup

	mu       sync.Mutex
	calls    map[uint64]*call
	lastID   uint64
	settled  map[string]*control.Settled // newest mark of a chain that has not left
	buffer   Buffer
	draining bool
	cause    *fault.Error  // why the session ended
	gone     chan struct{} // closed with it
}

// run serves the session until it ends.
func (p *peer) run(ctx context.Context, stream control.Agent_WorkClient) error {
	p.log.Info("agent connected", "name", p.info.Name, "epoch", p.info.Epoch, "version", p.hello.GetVersion())
	ctx, cancel := context.WithCancel(ctx)
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := p.out.Run(ctx, func(m *control.ToAgent) error { return stream.Send(p.newest(m)) }); err != nil {
			p.end(cut(err))
		}
	})
	p.g.change(p)
	for {
		m, err := stream.Recv()
		if err != nil {
			if broken := p.session.Err(); broken != nil {
				err = broken
			}
			p.end(cut(err))
			break
		}
		p.receive(m)
	}
	p.g.unregister(p)
	cancel()
	sending.Wait()
	p.resumes.Wait()
	p.log.Info("agent disconnected", "name", p.info.Name, "cause", p.cause)
	return p.cause
}

func cut(err error) *fault.Error {
	return fault.New(fault.Connection, "E_TUNNEL_CUT", "the tunnel to the agent was cut").
		WithSource("hub").WithCause(err).WithFix("nothing; the work is joined or done again when the agent is back")
}

func (p *peer) receive(m *control.ToHub) {
	switch m := m.GetMessage().(type) {
	case *control.ToHub_StepDone:
		if c := p.call(m.StepDone.GetId()); c != nil {
			c.finish(m.StepDone)
		}
	case *control.ToHub_Resume:
		p.resume(m.Resume)
	case *control.ToHub_BufferState:
		p.noteBuffer(m.BufferState)
	case *control.ToHub_Draining:
		p.mu.Lock()
		p.draining = true
		p.mu.Unlock()
		p.g.change(p)
	}
}

// resume answers in its own goroutine: the store may take its time, and other
// calls of the session go on.
func (p *peer) resume(r *control.Resume) {
	answer := func(a *control.Resumed) {
		a.Id = r.GetId()
		p.send(&control.ToAgent{Message: &control.ToAgent_Resumed{Resumed: a}})
	}
	c := p.call(r.GetId())
	if c == nil || c.exchange.Resume == nil || !c.beginResume() {
		answer(&control.Resumed{Fault: control.FromError(fault.Of("E_CANCELLED").WithSource("hub"))})
		return
	}
	p.resumes.Go(func() {
		defer c.endResume()
		a, err := c.exchange.Resume(c.ctx, r)
		if err != nil || a == nil {
			a = &control.Resumed{Fault: control.FromError(p.outward(err))}
		}
		answer(a)
	})
}

func (p *peer) noteBuffer(b *control.BufferState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buffer = Buffer{Pages: b.GetPages(), Bytes: b.GetBytes(), Unacked: b.GetUnacked(), Quota: b.GetQuota()}
	if b.GetPages() > 0 {
		p.buffer.Oldest = time.UnixMicro(b.GetOldestUs())
	}
}

func (p *peer) welcome() *control.ToAgent {
	return &control.ToAgent{Message: &control.ToAgent_Welcome{Welcome: &control.Welcome{
		ProcessEpoch: p.info.Epoch,
		Agent:        p.id.Agent[:], Tenant: p.id.Tenant[:], Environment: p.id.Environment[:], Group: p.info.Group[:],
		AgentName: p.info.Name, GroupName: p.info.GroupName,
		ControlFormat: control.Format, PageFormat: control.PageFormat,
	}}}
}

// send never waits; a session that cannot take more ends.
func (p *peer) send(m *control.ToAgent) { p.out.Put(m) }

// settle keeps the newest mark of each chain until the sender takes it.
func (p *peer) settle(s *control.Settled) {
	key := string(s.GetJob()) + s.GetStep()
	p.mu.Lock()
	_, waiting := p.settled[key]
	p.settled[key] = s
	p.mu.Unlock()
	if !waiting {
		p.send(&control.ToAgent{Message: &control.ToAgent_Settled{Settled: s}})
	}
}

// newest replaces a settled mark by the newest of its chain.
func (p *peer) newest(m *control.ToAgent) *control.ToAgent {
	s := m.GetSettled()
	if s == nil {
		return m
	}
	key := string(s.GetJob()) + s.GetStep()
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.settled[key]; last != nil {
		s = last
	}
	delete(p.settled, key)
	return &control.ToAgent{Message: &control.ToAgent_Settled{Settled: s}}
}

// end stops the use of the session and closes it.
func (p *peer) end(cause *fault.Error) {
	if p.giveUp(cause) {
		go p.session.Close()
	}
}

// giveUp ends the calls of the session; the first cause counts.
func (p *peer) giveUp(cause *fault.Error) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause != nil {
		return false
	}
	p.cause = cause
	close(p.gone)
	return true
}

// endedBy is why the session is over, nil while it is not.
func (p *peer) endedBy() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == nil {
		return nil
	}
	return p.cause
}

// dismiss tells the agent why it must go, and ends the session when it has gone
// or did not listen. Its calls end at once.
func (p *peer) dismiss(why *fault.Error) {
	if !p.giveUp(why) {
		return
	}
	p.send(&control.ToAgent{Message: &control.ToAgent_Refusal{Refusal: &control.Refusal{Fault: control.FromError(why)}}})
	go func() {
		wait := time.NewTimer(lastWord)
		defer wait.Stop()
		select {
		case <-p.session.Done():
		case <-wait.C:
		}
		p.session.Close()
	}()
}

func (p *peer) takesWork() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause == nil && !p.draining
}

// movedFrom tells a move from a new beginning: an agent goes over to QUIC only
// from a session over TCP that works, and lets its calls end there.
func (p *peer) movedFrom(old *peer) bool {
	return old.info.Epoch == p.info.Epoch &&
		old.session.Info().Transport == "tcp" && p.session.Info().Transport == "quic"
}

// startsNothing keeps new work from a session that its agent has moved from. The
// agent says so too, later; a session that it leaves silently ends by silence.
func (p *peer) startsNothing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
}

func (p *peer) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining && p.cause == nil
}

func (p *peer) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

func (p *peer) presence() Presence {
	info := p.session.Info()
	p.mu.Lock()
	defer p.mu.Unlock()
	return Presence{
		Tenant: p.id.Tenant, Environment: p.id.Environment, Agent: p.id.Agent,
		Name: p.info.Name, Group: p.info.Group, GroupName: p.info.GroupName,
		Transport: info.Transport, Remote: info.Remote, Since: info.Opened, RTT: info.RTT,
		Epoch: p.info.Epoch, Version: p.hello.GetVersion(),
		OS: p.hello.GetOs(), Arch: p.hello.GetArch(), Hostname: p.hello.GetHostname(),
		Connectors: p.hello.GetConnectors(),
		Running:    len(p.calls), Draining: p.draining, Buffer: p.buffer,
	}
}

// cutFault is what a call ends with when its session has ended.
func (p *peer) cutFault() *fault.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause.Code == "E_TUNNEL_CUT" {
		return p.cause
	}
	return cut(fmt.Errorf("%s: %w", p.cause.Code, p.cause))
}
