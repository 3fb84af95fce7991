package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ropeway/certs"
	"ropeway/hub/internal/gateway"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

func TestAgents_ShowsWhoIsThere(t *testing.T) {
	h := newHub(t)
	dir, id := h.agent(t)
	p := h.start(t, dir, h.addr)
	h.online(t, true)
	eventually(t, nil, func() bool { a := h.Agents()[0]; return a.Buffer.Pages == 3 && a.RTT > 0 })
	a := h.Agents()[0]
	if a.Agent != id || a.Tenant != h.tenant || a.Group != h.group || a.Name != "puppet" || a.Version != "puppet" ||
		a.Transport != "tcp" || a.Epoch != 1 || len(a.Connectors) != 1 || a.Buffer.Bytes != 99 {
		t.Errorf("presence %+v", a)
	}
	h.Settled(h.group, page.Chain{Job: page.NewID(), Step: "export"}, page.NewEpoch(), 17)
	p.says(t, "settled 17")
	h.Settled(page.NewID(), page.Chain{}, page.Epoch{}, 18) // another group
	p.signal(t, syscall.SIGKILL)
	h.online(t, false)
	if n := len(h.Agents()); n != 0 {
		t.Errorf("%d agents after the kill", n)
	}
}

// Promise T4: of two processes of one identity the newest wins, and the old one
// neither gets work nor comes back.
func TestT4_NewestProcessWins(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	old := h.start(t, dir, h.addr)
	old.says(t, "welcome 1")
	running := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), h.group, &control.RunStep{Name: "x", SpecJson: []byte(`{"wait":true}`)}, gateway.Exchange{})
		running <- err
	}()
	old.says(t, "run x")
	newer := h.start(t, dir, h.addr)
	newer.says(t, "welcome 2")
	wantCode(t, <-running, "E_TUNNEL_CUT")
	old.says(t, "down E_SUPERSEDED")
	if list := h.Agents(); len(list) != 1 || list[0].Epoch != 2 {
		t.Errorf("agents %+v", list)
	}
	old.signal(t, syscall.SIGKILL)
	// the same process coming back is no new one
	h.Close(h.Agents()[0].Agent, fault.New(fault.Connection, "E_TUNNEL_CUT", "for a test").WithRetryAfter(time.Millisecond))
	newer.says(t, "welcome 2")
}

func TestClose_RevokedAgentIsGoneAtOnceAndToldWhy(t *testing.T) {
	h := newHub(t)
	dir, id := h.agent(t)
	p := h.start(t, dir, h.addr)
	h.online(t, true)
	h.setRevoked(true)
	start := time.Now()
	h.Close(id, fault.Of("E_REVOKED"))
	if h.Online(h.group) {
		t.Error("a revoked agent is online")
	}
	p.says(t, "down E_REVOKED")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	// and its certificate does not pass the handshake any more
	again := h.start(t, dir, h.addr)
	again.says(t, "down E_UNAUTHENTICATED")
}

func TestServe_RefusedAgentIsToldWhy(t *testing.T) {
	h := newHub(t)
	h.unknown = fault.Of("E_NOT_FOUND").WithSentence("the agent is not known")
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.addr)
	p.says(t, "down E_NOT_FOUND")
	if h.Online(h.group) {
		t.Error("a refused agent is online")
	}
}

func TestDrain_AgentEndsItsCallsAndLeaves(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.addr)
	h.online(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(ctx, h.group, &control.RunStep{Name: "last", SpecJson: []byte(`{"wait":true}`)}, gateway.Exchange{})
		ended <- err
	}()
	p.says(t, "run last")
	p.signal(t, syscall.SIGTERM)
	h.online(t, false) // nothing new
	_, err := h.Run(t.Context(), h.group, readStep(1), gateway.Exchange{})
	wantCode(t, err, "E_AGENT_OFFLINE")
	select {
	case err := <-ended:
		t.Fatalf("the running call ended: %v", err)
	default:
	}
	cancel()
	p.says(t, "cancelled last")
	p.says(t, "end")
	wantCode(t, <-ended, "E_CANCELLED")
}

func TestDrain_HubWaitsForCallsAndTakesNothingNew(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.addr)
	h.online(t, true)
	l := ledger{}
	begun := make(chan struct{})
	l.taken = func(seq uint64) {
		if seq == 3 {
			close(begun)
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), h.group, readStep(200), l.exchange())
		ended <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	h.Drain(ctx)
	if err := <-ended; err != nil || l.next != 200 {
		t.Errorf("the running read ended with %v after %d pages", err, l.next)
	}
	p.says(t, "down E_DRAINING")
	_, err := h.Run(t.Context(), h.group, readStep(1), gateway.Exchange{})
	wantCode(t, err, "E_AGENT_OFFLINE")
}

// strange is an agent written by hand: what it says about itself is the test's.
type strange struct {
	control.UnimplementedAgentServer
	hello *control.AgentHello
	told  chan *fault.Error
}

func (s *strange) Hello(context.Context, *control.HubHello) (*control.AgentHello, error) {
	return s.hello, nil
}

func (s *strange) Work(w grpc.BidiStreamingServer[control.ToAgent, control.ToHub]) error {
	m, err := w.Recv()
	if err != nil {
		return err
	}
	s.told <- control.ToError(m.GetRefusal().GetFault())
	return nil
}

func TestServe_StrangeHellosAreRefused(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	ok := func() *control.AgentHello {
		return &control.AgentHello{PageFormats: []uint32{1}, ControlFormats: []uint32{1}, Process: make([]byte, 16)}
	}
	cases := map[string]struct {
		change func(*control.AgentHello)
		code   string
	}{
		"unknown control format": {func(h *control.AgentHello) { h.ControlFormats = []uint32{2, 3} }, "E_FORMAT_VERSION"},
		"unknown page format":    {func(h *control.AgentHello) { h.PageFormats = []uint32{9} }, "E_FORMAT_VERSION"},
		"no formats":             {func(h *control.AgentHello) { h.PageFormats, h.ControlFormats = nil, nil }, "E_FORMAT_VERSION"},
		"process of 15 bytes":    {func(h *control.AgentHello) { h.Process = h.Process[1:] }, "E_HELLO"},
		"no process":             {func(h *control.AgentHello) { h.Process = nil }, "E_HELLO"},
		"a hostname of 1 MiB":    {func(h *control.AgentHello) { h.Hostname = string(make([]byte, 1<<20)) }, "E_HELLO"},
		"1000 connectors":        {func(h *control.AgentHello) { h.Connectors = make([]string, 1000) }, "E_HELLO"},
		"a fault of its own":     {func(h *control.AgentHello) { h.Fault = &control.Fault{Code: "E_FORMAT_VERSION"} }, "E_FORMAT_VERSION"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			session, err := tcp.Dial(t.Context(), h.addr, agentTLS(t, h, dir), tcp.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := &strange{hello: ok(), told: make(chan *fault.Error, 1)}
			c.change(s.hello)
			server := grpc.NewServer()
			control.RegisterAgentServer(server, s)
			st, err := session.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if o, err := tunnel.ReadOpening(st); err != nil || o.Kind != tunnel.Control {
				t.Fatalf("opening %v, %v", o, err)
			}
			l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
			l.conn <- tunnel.NetConn(st, session.Info())
			go func() { _ = server.Serve(l) }()
			wantCode(t, <-s.told, c.code)
			server.Stop()
			session.Close()
		})
	}
	if n := len(h.Agents()); n != 0 {
		t.Errorf("%d strangers got in", n)
	}
}

type oneConn struct {
	conn chan net.Conn
	done chan struct{}
}

func (o *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-o.conn:
		return c, nil
	case <-o.done:
		return nil, net.ErrClosed
	}
}
func (o *oneConn) Close() error   { close(o.done); return nil }
func (o *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func agentTLS(t *testing.T, h *testHub, dir string) *tls.Config {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(dir+"/agent.pem", dir+"/agent.key")
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(dir + "/root.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return certs.AgentTLS(show, roots, h.authority.TrustDomain())
}

// HOSTILE §3: what is no agent gets nothing from the port, and agents do not
// notice.
func TestHostile_3_StrangersAtThePort(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	h.start(t, dir, h.addr)
	h.online(t, true)
	good := agentTLS(t, h, dir)
	cases := map[string]func(c net.Conn) error{
		"plain HTTP": func(c net.Conn) error { return talk(c, []byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n")) },
		"ssh":        func(c net.Conn) error { return talk(c, []byte("SSH-2.0-OpenSSH_9.9\r\n")) },
		"zeros":      func(c net.Conn) error { return talk(c, make([]byte, 70_000)) },
		"nothing":    func(c net.Conn) error { return talk(c, nil) },
		"tls without certificate": func(c net.Conn) error {
			cfg := good.Clone()
			cfg.GetClientCertificate = nil
			return shake(c, cfg)
		},
		"tls with an unknown certificate": func(c net.Conn) error {
			other := newHub(t)
			otherDir, _ := other.agent(t)
			cfg := agentTLS(t, other, otherDir)
			cfg.VerifyConnection = nil
			return shake(c, cfg)
		},
		"tls 1.2": func(c net.Conn) error {
			cfg := good.Clone()
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return shake(c, cfg)
		},
		"other protocol": func(c net.Conn) error {
			cfg := good.Clone()
			cfg.NextProtos = []string{"h2"}
			return shake(c, cfg)
		},
		"no protocol": func(c net.Conn) error {
			cfg := good.Clone()
			cfg.NextProtos = nil
			return shake(c, cfg)
		},
	}
	for name, try := range cases {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if err := try(c); err == nil {
				t.Error("a stranger got an answer")
			}
			if len(h.Agents()) != 1 {
				t.Errorf("agents %v", h.Agents())
			}
		})
	}
	done, err := h.Run(within(t), h.group, &control.RunStep{SpecJson: []byte(`{}`)}, gateway.Exchange{})
	if err != nil || len(done.GetAnswer()) == 0 {
		t.Errorf("the good agent answers %v, %v", done, err)
	}
}

// talk sends bytes and reads until the end; nil if it was answered with more
// than a TLS alert.
func talk(c net.Conn, b []byte) error {
	_, _ = c.Write(b)
	answer, err := io.ReadAll(c)
	if len(answer) > 16 {
		return nil
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// shake makes a TLS connection and reads from it: with TLS 1.3 the client hears
// of a refused certificate only then.
func shake(c net.Conn, cfg *tls.Config) error {
	cfg.VerifyConnection = nil
	cfg.InsecureSkipVerify = true
	conn := tls.Client(c, cfg)
	if err := conn.Handshake(); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

// An agent whose bytes come one at a time is slow, not wrong.
func TestHostile_3_OneByteAtATime(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", h.addr)
			if err != nil {
				in.Close()
				return
			}
			go func() { drip(out, in); out.Close() }()
			go func() { drip(in, out); in.Close() }()
		}
	}()
	h.start(t, dir, l.Addr().String())
	h.online(t, true)
	body := bytes.Repeat([]byte("slow "), 100)
	done, err := h.Run(within(t), h.group, &control.RunStep{Kind: control.KindImport, SpecJson: []byte(`{}`)},
		gateway.Exchange{Page: importOf(body)})
	if err != nil || done.GetFault() != nil {
		t.Fatalf("import gave %v, %v", done, err)
	}
}

func drip(to io.Writer, from io.Reader) {
	b := make([]byte, 1)
	for {
		if _, err := from.Read(b); err != nil {
			return
		}
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// Promise S4: a revocation that comes while the session is being looked up
// reaches it too: what the look-up said before does not let it in.
func TestS4_RevokedWhileItSaysHello(t *testing.T) {
	h := newHub(t)
	h.atHello = func(agent page.ID) { h.Close(agent, fault.Of("E_REVOKED")) }
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.addr)
	p.says(t, "down E_REVOKED")
	if h.Online(h.group) {
		t.Error("an agent that was revoked during its hello is online")
	}
}

// What goes wrong inside the hub is not for agents.
func TestServe_InternalErrorsStayInside(t *testing.T) {
	h := newHub(t)
	h.unknown = errors.New("read /secret/place/hub.db: SELECT canary")
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.addr)
	if text := p.says(t, "down E_INTERNAL"); strings.Contains(text, "canary") || strings.Contains(text, "/secret/place") {
		t.Errorf("the agent read %s", text)
	}
}
