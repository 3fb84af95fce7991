package uplink_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ropeway/agent/internal/uplink"
	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

// A handHub is a hub written by hand, over a real tunnel: what it says is the
// test's. The real gateway meets this package in hub/internal/gateway.
type handHub struct {
	session tunnel.Session
	// dialAgain makes another session of the same agent.
	dialAgain func(ctx context.Context) (tunnel.Session, error)

	client control.AgentClient
	work   control.Agent_WorkClient
}

// rig connects an uplink with a hand-written hub; the first session is at hub.
func rig(t *testing.T, cfg uplink.Config) (*uplink.Uplink, <-chan *handHub) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	authority, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	hubs := make(chan *handHub, 10)
	l := listen(t, authority, hubs)
	clientTLS := agentTLS(t, authority)
	cfg.Dial = func(ctx context.Context) (tunnel.Session, error) {
		return tcp.Dial(ctx, l.Addr().String(), clientTLS, tcp.Options{Keepalive: time.Second})
	}
	u := uplink.New(cfg)
	again := make(chan *handHub, cap(hubs))
	go func() {
		for {
			select {
			case h := <-hubs:
				h.dialAgain = cfg.Dial
				again <- h
			case <-t.Context().Done():
				return
			}
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = u.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return u, again
}

func listen(t *testing.T, authority *ca.Authority, hubs chan<- *handHub) net.Listener {
	t.Helper()
	cert, err := authority.HubCertificate([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	show := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	cfg := certs.HubTunnelTLS(show, authority.Roots(), authority.TrustDomain(), nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			session, err := tcp.Server(handshaken(tls.Server(tcp.Wrap(raw), cfg)), tcp.Options{Keepalive: time.Second})
			if err != nil {
				continue
			}
			hubs <- newHandHub(t, session)
		}
	}()
	return l
}

func handshaken(c *tls.Conn) *tls.Conn { _ = c.Handshake(); return c }

func newHandHub(t *testing.T, session tunnel.Session) *handHub {
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			st, err := session.Open(ctx)
			if err != nil {
				return nil, err
			}
			return tunnel.NetConn(st, session.Info()), tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Control})
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { conn.Close(); session.Close() })
	return &handHub{session: session, client: control.NewAgentClient(conn)}
}

func agentTLS(t *testing.T, authority *ca.Authority) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certs.ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := authority.SignAgent(certs.Identity{TrustDomain: authority.TrustDomain(),
		Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}, csr)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := certs.ParseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{PrivateKey: key}
	for _, c := range parsed {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return certs.AgentTLS(show, authority.Roots(), authority.TrustDomain())
}

// hello and welcome as a good hub does.
func (h *handHub) welcome(t *testing.T) {
	t.Helper()
	hello, err := h.client.Hello(t.Context(), &control.HubHello{PageFormats: []uint32{1}, ControlFormats: []uint32{1}})
	if err != nil || len(hello.GetProcess()) != 16 || hello.GetFault() != nil {
		t.Fatalf("hello %v, %v", hello, err)
	}
	h.begin(t)
	h.send(t, &control.ToAgent{Message: &control.ToAgent_Welcome{Welcome: &control.Welcome{ProcessEpoch: 5}}})
}

func (h *handHub) begin(t *testing.T) {
	t.Helper()
	var err error
	if h.work, err = h.client.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (h *handHub) send(t *testing.T, m *control.ToAgent) {
	t.Helper()
	if err := h.work.Send(m); err != nil {
		t.Fatal(err)
	}
}

func (h *handHub) step(t *testing.T, id uint64, name string) {
	t.Helper()
	h.send(t, &control.ToAgent{Message: &control.ToAgent_RunStep{RunStep: &control.RunStep{Id: id, Name: name}}})
}

// done waits for the answer of a step.
func (h *handHub) done(t *testing.T) *control.StepDone {
	t.Helper()
	for {
		m, err := h.work.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if d := m.GetStepDone(); d != nil {
			return d
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("%s: not in 20 s", what)
		}
	}
}

func TestUplink_ServesStepsWithBodies(t *testing.T) {
	u, hubs := rig(t, uplink.Config{
		Run: func(ctx context.Context, c uplink.Call) *control.StepDone {
			st, err := c.Body(ctx)
			if err != nil {
				return &control.StepDone{Fault: control.FromError(err)}
			}
			b, err := io.ReadAll(st)
			return &control.StepDone{Answer: b, Fault: control.FromError(err)}
		},
	})
	h := <-hubs
	h.welcome(t)
	body := func(id uint64, text string) {
		st, err := h.session.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Step, ID: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(st, text); err != nil {
			t.Fatal(err)
		}
		st.Close()
	}
	h.step(t, 1, "step first")
	eventually(t, "running", func() bool { return u.State().Running == 1 })
	body(1, "one")
	if d := h.done(t); d.GetId() != 1 || string(d.GetAnswer()) != "one" {
		t.Errorf("answer %v", d)
	}
	body(2, "two")
	h.step(t, 2, "body first")
	if d := h.done(t); d.GetId() != 2 || string(d.GetAnswer()) != "two" {
		t.Errorf("answer %v", d)
	}
	if s := u.State(); !s.Connected || s.ProcessEpoch != 5 || s.Transport != "tcp" {
		t.Errorf("state %+v", s)
	}
	report, err := h.client.Health(t.Context(), &control.HealthRequest{})
	if err != nil || !report.GetReady() {
		t.Errorf("health %v, %v", report, err)
	}
}

func TestUplink_ResumeAsksTheHub(t *testing.T) {
	_, hubs := rig(t, uplink.Config{
		Run: func(ctx context.Context, c uplink.Call) *control.StepDone {
			r, err := c.Resume(ctx, &control.Resume{Name: c.Step.GetName()})
			if err != nil {
				return &control.StepDone{Fault: control.FromError(err)}
			}
			return &control.StepDone{Answer: r.GetCursor()}
		},
	})
	h := <-hubs
	h.welcome(t)
	answer := func(r *control.Resumed) {
		m, err := h.work.Recv()
		if err != nil || m.GetResume() == nil {
			t.Fatalf("got %v, %v, want a resume", m, err)
		}
		r.Id = m.GetResume().GetId()
		h.send(t, &control.ToAgent{Message: &control.ToAgent_Resumed{Resumed: r}})
	}
	h.step(t, 7, "good")
	answer(&control.Resumed{Cursor: []byte("here")})
	if d := h.done(t); string(d.GetAnswer()) != "here" {
		t.Errorf("answer %v", d)
	}
	h.step(t, 8, "refused")
	answer(&control.Resumed{Fault: &control.Fault{Code: "E_SUPERSEDED", Class: "internal"}})
	if d := h.done(t); d.GetFault().GetCode() != "E_SUPERSEDED" {
		t.Errorf("answer %v", d)
	}
}

func TestUplink_CausesAreTold(t *testing.T) {
	causes := make(chan error, 2)
	u, hubs := rig(t, uplink.Config{
		Run: func(ctx context.Context, _ uplink.Call) *control.StepDone {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil
		},
	})
	h := <-hubs
	h.welcome(t)
	h.step(t, 1, "cancelled")
	h.send(t, &control.ToAgent{Message: &control.ToAgent_Cancel{Cancel: &control.Cancel{Id: 1, Reason: "not needed"}}})
	if err := <-causes; !errors.Is(err, uplink.ErrCancelled) || uplink.IsCut(err) {
		t.Errorf("cause of a cancel: %v", err)
	}
	if d := h.done(t); d.GetFault() == nil {
		t.Errorf("a handler without an answer gave %v", d)
	}
	h.step(t, 2, "cut")
	eventually(t, "running", func() bool { return u.State().Running == 1 })
	h.session.Close()
	if err := <-causes; !uplink.IsCut(err) || errors.Is(err, uplink.ErrCancelled) {
		t.Errorf("cause of a cut: %v", err)
	}
	again := <-hubs // it comes back by itself
	again.welcome(t)
	eventually(t, "connected", func() bool { return u.State().Connected })
}

func TestUplink_NewSessionDoesNotWaitForTheOld(t *testing.T) {
	release := make(chan struct{})
	u, hubs := rig(t, uplink.Config{
		Run: func(context.Context, uplink.Call) *control.StepDone {
			<-release // a handler that does not listen
			return &control.StepDone{}
		},
	})
	defer close(release)
	h := <-hubs
	h.welcome(t)
	h.step(t, 1, "deaf")
	eventually(t, "running", func() bool { return u.State().Running == 1 })
	h.session.Close()
	(<-hubs).welcome(t)
	eventually(t, "connected again", func() bool { return u.State().Connected })
}

func TestUplink_RefusesAnUnknownHub(t *testing.T) {
	u, hubs := rig(t, uplink.Config{})
	h := <-hubs
	hello, err := h.client.Hello(t.Context(), &control.HubHello{PageFormats: []uint32{1}, ControlFormats: []uint32{99}})
	if err != nil || hello.GetFault().GetCode() != "E_FORMAT_VERSION" {
		t.Fatalf("hello %v, %v", hello, err)
	}
	eventually(t, "refused", func() bool { f := u.State().LastError; return f != nil && f.Code == "E_FORMAT_VERSION" })
}

func TestUplink_RefusesWhatComesBeforeTheWelcome(t *testing.T) {
	ran := make(chan struct{}, 1)
	u, hubs := rig(t, uplink.Config{Run: func(context.Context, uplink.Call) *control.StepDone {
		ran <- struct{}{}
		return nil
	}})
	h := <-hubs
	h.begin(t)
	h.step(t, 1, "too early")
	eventually(t, "ended", func() bool { f := u.State().LastError; return f != nil && f.Code == "E_HELLO" })
	select {
	case <-ran:
		t.Error("the step ran")
	default:
	}
}

func TestUplink_RefusesOtherStreams(t *testing.T) {
	_, hubs := rig(t, uplink.Config{})
	h := <-hubs
	h.welcome(t)
	for name, first := range map[string][]byte{
		"route":         {byte(tunnel.Route), 0, 0, 0, 0, 0, 0, 0, 1},
		"inverse route": {byte(tunnel.InverseRoute), 0, 0, 0, 0, 0, 0, 0, 1},
		"unknown":       {77, 0, 0, 0, 0, 0, 0, 0, 1},
	} {
		st, err := h.session.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write(first); err != nil {
			t.Fatal(err)
		}
		_ = st.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
			t.Errorf("%s: %v, want a reset", name, err)
		}
	}
	second, err := h.client.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(); err == nil {
		t.Error("work was called twice on one session")
	}
}

func TestUplink_HubDrainsMakeBeforeBreak(t *testing.T) {
	release := make(chan struct{})
	u, hubs := rig(t, uplink.Config{
		Run: func(context.Context, uplink.Call) *control.StepDone {
			<-release
			return &control.StepDone{Answer: []byte("finished")}
		},
	})
	h := <-hubs
	h.welcome(t)
	h.step(t, 1, "long")
	eventually(t, "running", func() bool { return u.State().Running == 1 })
	h.send(t, &control.ToAgent{Message: &control.ToAgent_Drain{Drain: &control.Drain{}}})
	second := <-hubs // while the first still runs
	second.welcome(t)
	close(release)
	if d := h.done(t); string(d.GetAnswer()) != "finished" {
		t.Errorf("answer %v", d)
	}
	h.session.Close()
	eventually(t, "connected", func() bool { return u.State().Connected })
}

func TestUplink_Refusal(t *testing.T) {
	u, hubs := rig(t, uplink.Config{})
	h := <-hubs
	h.begin(t)
	h.send(t, &control.ToAgent{Message: &control.ToAgent_Refusal{
		Refusal: &control.Refusal{Fault: control.FromError(fault.Of("E_REVOKED"))}}})
	eventually(t, "told", func() bool { f := u.State().LastError; return f != nil && f.Code == "E_REVOKED" })
}
