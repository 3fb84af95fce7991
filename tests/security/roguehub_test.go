package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/certs/enroll"
	"ropeway/connectors"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
	"ropeway/tests/rig"
)

// rogue is a hub that was taken over: its authority is the one the agent trusts,
// and it says whatever its new owner likes.
type rogue struct {
	t         *testing.T
	authority *ca.Authority
	secret    enroll.Secret
	cert      certs.ServerCertificate
	listener  net.Listener
	sessions  chan tunnel.Session
	id        certs.Identity
}

func newRogue(t *testing.T) *rogue {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{t: t, authority: authority, secret: enroll.NewSecret(), sessions: make(chan tunnel.Session, 10),
		id: certs.Identity{TrustDomain: authority.TrustDomain(), Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}}
	if r.cert, err = authority.HubCertificates([]string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			raw, err := r.listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { r.take(raw) })
		}
	})
	t.Cleanup(func() { r.listener.Close(); work.Wait() })
	return r
}

func (r *rogue) take(raw net.Conn) {
	tunnelTLS := certs.HubTunnelTLS(r.cert, r.authority.Roots(), r.authority.TrustDomain(), nil)
	enrollTLS := certs.HubEnrollTLS(r.cert)
	conn := tls.Server(tcp.Wrap(raw), &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.SupportedProtos[0] == certs.ALPNEnroll {
			return enrollTLS, nil
		}
		return tunnelTLS, nil
	}})
	if err := conn.HandshakeContext(context.Background()); err != nil {
		raw.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == certs.ALPNEnroll {
		_ = enroll.Serve(context.Background(), conn, r)
		return
	}
	session, err := tcp.Server(conn, tcp.Options{})
	if err == nil {
		r.sessions <- session
	}
}

// Enroll implements enroll.Issuer.
func (r *rogue) Enroll(_ context.Context, a enroll.Application) (enroll.Grant, error) {
	return r.grant(a.CSR)
}

// Renew implements enroll.Issuer.
func (r *rogue) Renew(_ context.Context, a enroll.Renewal) (enroll.Grant, error) {
	return r.grant(a.CSR)
}

func (r *rogue) grant(csr *x509.CertificateRequest) (enroll.Grant, error) {
	chain, err := r.authority.SignAgent(r.id, csr)
	return enroll.Grant{ChainPEM: string(chain), RootPEM: string(r.authority.RootPEM()), Agent: r.id.Agent, AgentName: "press",
		Tenant: r.id.Tenant, TenantName: "main", Environment: r.id.Environment, EnvironmentName: "default", GroupName: "plant"}, err
}

// captive is the agent's session in the hands of the rogue.
type captive struct {
	t       *testing.T
	session tunnel.Session
	stream  control.Agent_WorkClient

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *control.StepDone
	resumed atomic.Int64
}

// capture takes the session of the agent that comes.
func (r *rogue) capture() *captive {
	r.t.Helper()
	c := &captive{t: r.t, waiting: map[uint64]chan *control.StepDone{}}
	select {
	case c.session = <-r.sessions:
	case <-time.After(20 * time.Second):
		r.t.Fatal("no agent came")
	}
	r.t.Cleanup(func() { c.session.Close() })
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		st, err := c.session.Open(ctx)
		if err != nil {
			return nil, err
		}
		return tunnel.NetConn(st, c.session.Info()), tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Control})
	}
	conn, err := grpc.NewClient("passthrough:///agent", grpc.WithContextDialer(dial), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	client := control.NewAgentClient(conn)
	ctx := context.Background()
	if _, err := client.Hello(ctx, &control.HubHello{PageFormats: []uint32{1}, ControlFormats: []uint32{1}}); err != nil {
		r.t.Fatal(err)
	}
	if c.stream, err = client.Work(ctx); err != nil {
		r.t.Fatal(err)
	}
	c.send(&control.ToAgent{Message: &control.ToAgent_Welcome{Welcome: &control.Welcome{ProcessEpoch: 1, Agent: r.id.Agent[:],
		Tenant: r.id.Tenant[:], Environment: r.id.Environment[:], ControlFormat: 1, PageFormat: 1}}})
	go c.listen()
	return c
}

func (c *captive) send(m *control.ToAgent) {
	if err := c.stream.Send(m); err != nil && err != io.EOF {
		c.t.Errorf("the agent ended the session: %v", err)
	}
}

func (c *captive) listen() {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return
		}
		if q := m.GetResume(); q != nil {
			c.resumed.Add(1)
			c.send(&control.ToAgent{Message: &control.ToAgent_Resumed{Resumed: &control.Resumed{Id: q.GetId()}}})
		}
		if done := m.GetStepDone(); done != nil {
			c.mu.Lock()
			waiting := c.waiting[done.GetId()]
			c.mu.Unlock()
			if waiting != nil {
				waiting <- done
			}
		}
	}
}

// ask asks for a step and returns the agent's fault; nil when it did it.
func (c *captive) ask(step *control.RunStep) *fault.Error {
	c.t.Helper()
	c.mu.Lock()
	c.last++
	step.Id = c.last
	answer := make(chan *control.StepDone, 1)
	c.waiting[step.Id] = answer
	c.mu.Unlock()
	if step.Kind == control.KindRead || step.Kind == control.KindImport {
		st, err := c.session.Open(context.Background())
		if err != nil {
			c.t.Fatal(err)
		}
		defer func() { _ = st.Reset() }()
		if err := tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Step, ID: step.Id}); err != nil {
			c.t.Fatal(err)
		}
		go acknowledge(st)
	}
	c.send(&control.ToAgent{Message: &control.ToAgent_RunStep{RunStep: step}})
	select {
	case done := <-answer:
		return control.ToError(done.GetFault())
	case <-time.After(20 * time.Second):
		c.t.Fatalf("no answer to %s %.200s", step.Kind, step.Connection.GetSettingsJson())
	}
	return nil
}

// acknowledge takes whatever pages come.
func acknowledge(st tunnel.Stream) {
	r, w := control.NewFrameReader(st), control.NewFrameWriter(st)
	for {
		p, err := r.Page()
		if err != nil || w.Ack(control.Ack{Seq: p.Header.Seq, Status: control.Accepted}) != nil {
			return
		}
	}
}

// step is a step over a connection, of which each hostile case changes a part.
func (r *rogue) step(kind control.Kind, connector string, settings any) *control.RunStep {
	job, flow, connection := page.NewID(), page.NewID(), page.NewID()
	raw, ok := settings.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(settings); err != nil {
			r.t.Fatal(err)
		}
	}
	spec, err := json.Marshal(connectors.Query{Table: "t", Key: []string{"id"}})
	name := page.ReadName(page.Chain{Job: job, Step: "export"}, 0)
	if kind == control.KindImport {
		spec, err = json.Marshal(connectors.ImportSpec{Table: "t", Mode: "insert"})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return &control.RunStep{Kind: kind, Name: name, Claim: &control.Claim{Created: 1, Delivery: 1}, Tenant: r.id.Tenant[:],
		Environment: r.id.Environment[:], Job: job[:], Flow: flow[:], FlowVersion: 1, Step: "export", SpecJson: spec, TimeoutMs: 5000,
		Connection: &control.Connection{Id: connection[:], Name: "c", Connector: connector, SettingsJson: raw,
			Credential: &control.Credential{Custody: "vault", FieldsJson: []byte(`{"username":"u","password":"p"}`)}}}
}

// trap listens and counts who comes.
type trap struct {
	net.Listener
	hits atomic.Int64
}

func newTrap(t *testing.T, address string) *trap {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("no listener on %s: %v", address, err)
	}
	tr := &trap{Listener: l}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tr.hits.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return tr
}

func (tr *trap) port() string {
	_, port, _ := net.SplitHostPort(tr.Addr().String())
	return port
}

// Promise S1: a hub that was taken over reaches nothing that the site did not
// allow. A real agent, a hub with the right authority, over 500 hostile targets,
// and listeners that nobody may reach.
func TestS1_ATakenOverHubReachesNothing(t *testing.T) {
	r := newRogue(t)
	dir := t.TempDir()
	state := filepath.Join(dir, "agent")
	allowed, trapped := newTrap(t, "127.0.0.1:0"), newTrap(t, "0.0.0.0:0")
	for name, text := range map[string]string{
		"token": enroll.Token{Hub: "https://" + r.listener.Addr().String(), Pin: r.authority.Pin(), Secret: r.secret}.Text(),
		// the allowed name resolves to where the trap listens as well: only the port differs
		"policy.yaml": fmt.Sprintf("rules:\n  - {connector: postgres, target: \"localhost:%s\", allow: [export]}\n"+
			"  - {connector: sqlite, target: %s/open/, allow: [export, import]}\n", allowed.port(), dir),
		"outside.db": "", "open/empty.db": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"link.db": filepath.Join(dir, "outside.db"), "zero.db": "/dev/zero", "state": state, "loop.db": filepath.Join(dir, "open/loop.db")}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, "open", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "open/pipe.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startAgent(t, r, dir, state)
	c := r.capture()
	if f := c.ask(r.step(control.KindPing, "postgres", target("localhost", allowed.port()))); f == nil || f.Code == "E_POLICY_DENIED" || allowed.hits.Load() == 0 {
		t.Fatalf("the allowed target was not dialled: %v", f)
	}
	reached := allowed.hits.Load()

	tried := 0
	attack := func(steps []*control.RunStep) {
		for _, step := range steps {
			tried++
			if f := c.ask(step); f == nil {
				t.Errorf("the agent did %s over %s %.200s", step.Kind, step.Connection.Connector, step.Connection.SettingsJson)
			}
		}
	}
	attack(r.hostile(dir, trapped.port(), allowed.port()))
	if allowed.hits.Load() != reached {
		t.Errorf("%d hostile steps reached the allowed system by another name than the allowed", allowed.hits.Load()-reached)
	}
	attack(r.malformed(dir, trapped.port(), allowed.port()))
	if trapped.hits.Load() != 0 {
		t.Errorf("of %d hostile steps %d reached a trap", tried, trapped.hits.Load())
	}
	if tried < 500 {
		t.Errorf("only %d hostile steps", tried)
	}
	if peak := p.PeakRSS(); peak > 150<<20 {
		t.Errorf("the agent took %d MiB", peak>>20)
	}
	if policy, err := os.ReadFile(filepath.Join(dir, "policy.yaml")); err != nil || !strings.HasPrefix(string(policy), "rules:\n  - {connector: postgres, target: \"localhost:") {
		t.Errorf("the policy was touched: %v %s", err, policy)
	}
	t.Logf("%d hostile steps, %d KiB of memory", tried, p.PeakRSS()>>10)
}

func target(host, port string) map[string]any {
	var n int
	_, _ = fmt.Sscan(port, &n)
	return map[string]any{"host": host, "port": n, "database": "d", "tls": "disable"}
}

func startAgent(t *testing.T, r *rogue, dir, state string) *rig.Process {
	t.Helper()
	site := &rig.Site{Bins: bins, Dir: dir, Data: dir}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if out, err := site.AgentAt(ctx, state, "enroll", "--token-file", filepath.Join(dir, "token"), "--hub", "https://"+r.listener.Addr().String()); err != nil {
		t.Fatal(err, out)
	}
	p, err := rig.Start("agent", filepath.Join(dir, "agent.log"), bins.Agent, nil,
		"run", "--state", state, "--policy", filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// hostile is what the rogue asks for.
func (r *rogue) hostile(dir, trapped, allowed string) []*control.RunStep {
	var out []*control.RunStep
	hosts := []string{"127.0.0.1", "127.0.0.2", "127.1", "0x7f000001", "0177.0.0.1", "2130706433", "0", "0.0.0.0", "::1", "::", "[::1]", "[::]",
		"::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "fe80::1%lo", "localhost", "LOCALHOST", "localhost.",
		"localhost.localdomain", "ip6-localhost", "169.254.169.254", "fd00:ec2::254", "metadata.google.internal", "127.0.0.1.nip.io",
		"localtest.me", "127。0。0。1", "localhost#", "localhost\x00", "localhost\n", " localhost", "user@localhost", "localhost/x", "localhost,127.0.0.1",
		"/run/postgresql", "/var/run/docker.sock", "@abstract", "localhost sslmode=disable", "localhost?x", "localhost;x", "", "..", strings.Repeat("a", 300)}
	for _, host := range hosts {
		for _, port := range []string{trapped, allowed, "1", "0", "-1", "65536"} {
			if port == allowed && strings.EqualFold(host, "localhost") {
				continue // that is the site's own word
			}
			for _, kind := range []control.Kind{control.KindPing, control.KindRead} {
				out = append(out, r.step(kind, "postgres", target(host, port)))
			}
		}
	}
	for _, path := range []string{"outside.db", "open/../outside.db", "open/link.db", "open/zero.db", "open/pipe.db", "open/state/buffer.db", "open/state/identity.pem",
		"open/loop.db", "agent/buffer.db", "agent/identity.pem", "agent/agent.sock", "agent/credentials.key", "policy.yaml", "open", "open/", "open/.", "open/missing/x.db"} {
		for _, form := range []string{dir + "/" + path, "file:" + dir + "/" + path, path, dir + "//" + path, dir + "/./" + path, dir + "/" + path + "\x00", dir + "/" + path + "?mode=rwc"} {
			for _, kind := range []control.Kind{control.KindPing, control.KindRead} {
				out = append(out, r.step(kind, "sqlite", map[string]any{"path": form}))
			}
		}
	}
	for _, path := range []string{"/dev/zero", "/dev/random", "/proc/self/environ", "/proc/self/mem", "/etc/passwd", "//server/share", `\\server\share`, `C:\x`, ":memory:", "file::memory:?cache=shared", ""} {
		out = append(out, r.step(control.KindPing, "sqlite", map[string]any{"path": path}))
	}
	return out
}

// malformed are steps that are wrong in themselves, and rights the site gave for
// something else.
func (r *rogue) malformed(dir, trapped, allowed string) []*control.RunStep {
	good := target("localhost", allowed)
	var out []*control.RunStep
	for _, settings := range []any{
		[]byte(strings.Repeat(`{"a":`, 100_000)), []byte(`{"host":"localhost","host":"127.0.0.1","port":` + trapped + `,"database":"d","tls":"disable"}`), []byte(`[]`), []byte(`null`), []byte(``), []byte("\xff"),
		map[string]any{"host": strings.Repeat("x", 1<<20), "port": 1, "database": "d"}, map[string]any{"path": strings.Repeat("/x", 1<<20)},
		map[string]any{"host": "localhost", "port": allowed, "database": "d"}, map[string]any{"host": []string{"localhost"}, "database": "d"},
		map[string]any{"host": "localhost", "port": 1e300, "database": "d"}, map[string]any{"dsn": "postgres://localhost:" + trapped},
		map[string]any{"host": "localhost", "database": "d", "tls": "disable", "service": "x"},
	} {
		out = append(out, r.step(control.KindPing, "postgres", settings), r.step(control.KindPing, "sqlite", settings))
	}
	for _, connector := range []string{"", "mysql", "POSTGRES", "postgres ", "shell", "http", "../postgres", strings.Repeat("x", 1<<20)} {
		out = append(out, r.step(control.KindPing, connector, target("127.0.0.1", trapped)))
	}
	for _, kind := range []control.Kind{control.KindLookup, control.KindDiscover, control.KindPreview, 0, 99, -1} {
		out = append(out, r.step(kind, "postgres", target("127.0.0.1", trapped)), r.step(kind, "sqlite", map[string]any{"path": dir + "/outside.db"}))
	}
	// the allowed system, in another way than allowed
	out = append(out, r.step(control.KindImport, "postgres", good))
	for _, change := range []func(*control.RunStep){
		func(s *control.RunStep) { s.Connection = nil },
		func(s *control.RunStep) { s.Connection.Id = nil },
		func(s *control.RunStep) { s.Tenant = nil },
		func(s *control.RunStep) { s.SpecJson = []byte(`{`) },
		func(s *control.RunStep) { s.SpecJson = []byte(`{"sql":"SELECT 1","table":"t"}`) },
		func(s *control.RunStep) { s.SpecJson = []byte(strings.Repeat(`{"where":`, 50_000)) },
		func(s *control.RunStep) { s.Name = "other" },
		func(s *control.RunStep) { s.Name = strings.Repeat("x", 1<<16) },
		func(s *control.RunStep) { s.Job = []byte("short") },
		func(s *control.RunStep) { s.JoinOnly = true },
		func(s *control.RunStep) {
			s.Connection.Credential = &control.Credential{Custody: "everybody"}
		},
		func(s *control.RunStep) {
			s.Connection.Credential = &control.Credential{Custody: "site"}
		},
		func(s *control.RunStep) {
			s.Connection.Credential = &control.Credential{Custody: "vault", FieldsJson: []byte(`[`)}
		},
	} {
		step := r.step(control.KindRead, "postgres", good)
		change(step)
		out = append(out, step)
	}
	return out
}
