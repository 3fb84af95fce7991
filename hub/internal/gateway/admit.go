package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ropeway/certs"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

const (
	helloLimit = 10 * time.Second // until the session is taken or refused
	lastWord   = 2 * time.Second  // for an agent to read why it is refused
)

// Bounds on what an agent says about itself.
const (
	maxHelloText  = 256
	maxConnectors = 256
)

// Serve runs one session until it ends, and closes it. Who the agent is comes
// from its certificate alone, which TLS has verified. The error says why the
// session ended; it is never nil.
func (g *Gateway) Serve(ctx context.Context, session tunnel.Session) error {
	defer session.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { session.Close() })()
	id, err := identity(session.Info())
	if err != nil {
		return err
	}
	log := g.log.With("agent", id.Agent.String(), "tenant", id.Tenant.String(), "remote", session.Info().Remote)
	conn, err := dialAgent(session)
	if err != nil {
		return fmt.Errorf("serve agent %s: %w", id.Agent, err)
	}
	defer conn.Close()
	client := control.NewAgentClient(conn)
	p := &peer{g: g, session: session, id: id, log: log, gone: make(chan struct{}),
		calls: map[uint64]*call{}, settled: map[string]*control.Settled{},
		out: control.NewOutbox[*control.ToAgent]()}
	g.arrive(p)
	defer g.arrived(p)
	// The agent decides when its side of a call begins: it gets as long as for
	// its hello, so that nobody waits at the door with an old answer in hand.
	late := time.AfterFunc(2*helloLimit, func() { session.Close() })
	defer late.Stop()
	admitted := g.hello(ctx, client, p)
	stream, err := client.Work(ctx)
	if err != nil {
		return fmt.Errorf("serve agent %s: %w", id.Agent, errors.Join(admitted, err))
	}
	if admitted == nil {
		admitted = g.register(p)
	}
	late.Stop()
	if admitted != nil {
		log.Info("agent refused", "cause", admitted)
		refuse(ctx, session, stream, admitted)
		return admitted
	}
	return p.run(ctx, stream)
}

// arrive notes a session before it is looked up: whatever closes the agent from
// now on closes this session too.
func (g *Gateway) arrive(p *peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.arriving[p] = struct{}{}
}

func (g *Gateway) arrived(p *peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.arriving, p)
}

func identity(info tunnel.Info) (certs.Identity, error) {
	if len(info.TLS.PeerCertificates) == 0 {
		return certs.Identity{}, errors.New("serve session: no client certificate")
	}
	id, err := certs.ParseIdentity(info.TLS.PeerCertificates[0])
	if err != nil {
		return certs.Identity{}, fmt.Errorf("serve session: %w", err)
	}
	return id, nil
}

// dialAgent opens the control stream; gRPC's own security is off because the
// stream runs inside the session's TLS.
func dialAgent(session tunnel.Session) (*grpc.ClientConn, error) {
	var dialled atomic.Bool
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, tunnel.ErrPeerClosed // one control stream a session
		}
		st, err := session.Open(ctx)
		if err != nil {
			return nil, err
		}
		if err := tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Control}); err != nil {
			return nil, err
		}
		return tunnel.NetConn(st, session.Info()), nil
	}
	return grpc.NewClient("passthrough:///agent",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(control.MaxMessage)),
		grpc.WithMaxHeaderListSize(16<<10),
		grpc.WithReadBufferSize(8<<10),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0))
}

// hello exchanges versions and asks the hub who this is. The result is what the
// agent is told when it is refused.
func (g *Gateway) hello(ctx context.Context, client control.AgentClient, p *peer) error {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	hello, err := client.Hello(ctx, &control.HubHello{
		HubVersion:     g.cfg.Version,
		PageFormats:    []uint32{control.PageFormat},
		ControlFormats: []uint32{control.Format},
		NowUs:          time.Now().UnixMicro(),
	})
	if err != nil {
		return fault.New(fault.Connection, "E_HELLO", "the agent does not say hello").WithCause(err)
	}
	if f := control.ToError(hello.GetFault()); f != nil {
		return f.WithSource("agent")
	}
	if f := control.Speaks("agent", hello.GetControlFormats(), hello.GetPageFormats()); f != nil {
		return f
	}
	if err := checkHello(hello); err != nil {
		return err
	}
	p.hello = hello
	if p.info, err = g.cfg.Hello(ctx, p.id, hello.GetProcess()); err != nil {
		return p.outward(err)
	}
	return nil
}

// outward is what an agent may read of an error: of the hub's own troubles no
// more than that there are some. The log has the rest.
func (p *peer) outward(err error) error {
	if fault.CodeOf(err) != "E_INTERNAL" {
		return err
	}
	p.log.Error("agent not answered", "error", err)
	return fault.Of("E_INTERNAL").WithSource("hub").Wrap(err)
}

func checkHello(h *control.AgentHello) error {
	bad := func(what string) error {
		return fault.New(fault.Internal, "E_HELLO", "the agent's hello is not valid").WithCause(what)
	}
	if len(h.GetProcess()) != 16 {
		return bad(fmt.Sprintf("process of %d bytes", len(h.GetProcess())))
	}
	if len(h.GetConnectors()) > maxConnectors {
		return bad(fmt.Sprintf("%d connectors", len(h.GetConnectors())))
	}
	texts := append([]string{h.GetVersion(), h.GetOs(), h.GetArch(), h.GetHostname()}, h.GetConnectors()...)
	if slices.ContainsFunc(texts, func(s string) bool { return len(s) > maxHelloText }) {
		return bad("a text is too long")
	}
	return nil
}

// refuse tells the agent why, and gives it time to read it.
func refuse(ctx context.Context, session tunnel.Session, stream control.Agent_WorkClient, why error) {
	err := stream.Send(&control.ToAgent{Message: &control.ToAgent_Refusal{
		Refusal: &control.Refusal{Fault: control.FromError(why)}}})
	if err != nil {
		return
	}
	wait := time.NewTimer(lastWord)
	defer wait.Stop()
	select {
	case <-session.Done():
	case <-wait.C:
	case <-ctx.Done():
	}
}

// register takes a session in and ends those it replaces: of older processes
// always, of the same process unless it is draining or was moved from (then its
// calls end first).
func (g *Gateway) register(p *peer) error {
	g.mu.Lock()
	if g.draining {
		g.mu.Unlock()
		return fault.Of("E_DRAINING").WithSource("hub").WithRetryAfter(time.Second)
	}
	if newest := g.epochs[p.id.Agent]; p.info.Epoch < newest {
		g.mu.Unlock()
		return superseded()
	}
	if why := p.endedBy(); why != nil {
		g.mu.Unlock()
		return why
	}
	delete(g.arriving, p)
	g.epochs[p.id.Agent] = p.info.Epoch
	var replaced []*peer
	for _, group := range g.groups {
		for _, old := range group {
			switch {
			case old.id.Agent != p.id.Agent:
			case p.movedFrom(old):
				old.startsNothing()
			case old.info.Epoch < p.info.Epoch || !old.isDraining():
				replaced = append(replaced, old)
			}
		}
	}
	g.groups[p.info.Group] = append(g.groups[p.info.Group], p)
	p.send(p.welcome())
	g.mu.Unlock()
	for _, old := range replaced {
		old.log.Info("session replaced", "epoch", old.info.Epoch, "by", p.info.Epoch)
		if old.info.Epoch < p.info.Epoch {
			old.dismiss(superseded())
		} else {
			old.end(fault.New(fault.Connection, "E_TUNNEL_CUT", "the agent has made a new session"))
		}
	}
	return nil
}

func superseded() *fault.Error {
	return fault.New(fault.Auth, "E_SUPERSEDED", "a newer process of this agent is connected").
		WithSource("hub").WithFix("stop the other process, or enroll this one as an agent of its own")
}

func (g *Gateway) unregister(p *peer) {
	g.mu.Lock()
	group := slices.DeleteFunc(g.groups[p.info.Group], func(q *peer) bool { return q == p })
	if len(group) == 0 {
		delete(g.groups, p.info.Group)
	} else {
		g.groups[p.info.Group] = group
	}
	g.mu.Unlock()
	g.change(p)
}

func (g *Gateway) change(p *peer) {
	g.signal()
	g.cfg.OnChange(p.id.Tenant, p.id.Environment, p.info.Group)
}
