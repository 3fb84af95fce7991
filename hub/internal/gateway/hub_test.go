package gateway_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/hub/internal/gateway"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel/tcp"
)

// A testHub is a gateway behind a real port with a real authority, and a proxy
// in front of it that can be cut.
type testHub struct {
	*gateway.Gateway
	authority *ca.Authority
	addr      string // of the port
	proxy     *proxy
	group     page.ID
	tenant    page.ID

	mu        sync.Mutex
	processes map[string]uint64 // epochs given, by process
	revoked   bool
	unknown   error
	atHello   func(agent page.ID) // after the look-up, before its answer is used
	changed   chan struct{}
}

func newHub(t *testing.T) *testHub {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &testHub{authority: authority, group: page.NewID(), tenant: page.NewID(),
		processes: map[string]uint64{}, changed: make(chan struct{}, 1)}
	h.Gateway = gateway.New(gateway.Config{
		Version: "test",
		Hello:   h.hello,
		OnChange: func(_, _, group page.ID) {
			if group != h.group {
				t.Error("a change in another group")
			}
			select {
			case h.changed <- struct{}{}:
			default:
			}
		},
	})
	h.listen(t)
	h.proxy = newProxy(t, h.addr)
	return h
}

func (h *testHub) hello(_ context.Context, id certs.Identity, process []byte) (gateway.AgentInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unknown != nil {
		return gateway.AgentInfo{}, h.unknown
	}
	if h.atHello != nil {
		defer h.atHello(id.Agent)
	}
	key := id.Agent.String() + string(process)
	if h.processes[key] == 0 {
		h.processes[key] = uint64(len(h.processes) + 1)
	}
	return gateway.AgentInfo{Name: "puppet", Group: h.group, GroupName: "puppets", Epoch: h.processes[key]}, nil
}

func (h *testHub) setRevoked(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revoked = yes
}

// listen accepts tunnels until the end of the test.
func (h *testHub) listen(t *testing.T) {
	t.Helper()
	cert, err := h.authority.HubCertificate([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	revoked := func(*x509.Certificate, certs.Identity) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.revoked {
			return errors.New("revoked")
		}
		return nil
	}
	show := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	cfg := certs.HubTunnelTLS(show, h.authority.Roots(), h.authority.TrustDomain(), revoked)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { h.take(ctx, tls.Server(tcp.Wrap(raw), cfg)) })
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); work.Wait() })
}

func (h *testHub) take(ctx context.Context, conn *tls.Conn) {
	limited, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(limited); err != nil {
		conn.Close()
		return
	}
	session, err := tcp.Server(conn, tcp.Options{Keepalive: 500 * time.Millisecond})
	if err != nil {
		return
	}
	_ = h.Serve(ctx, session)
}

// agent makes the files of a new agent and returns their directory.
func (h *testHub) agent(t *testing.T) (dir string, id page.ID) {
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
	id = page.NewID()
	chain, err := h.authority.SignAgent(certs.Identity{
		TrustDomain: h.authority.TrustDomain(), Tenant: h.tenant, Environment: page.NewID(), Agent: id}, csr)
	if err != nil {
		t.Fatal(err)
	}
	keyText, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, text := range map[string][]byte{"agent.pem": chain, "agent.key": keyText, "root.pem": h.authority.RootPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, id
}

// A process is a running puppet.
type process struct {
	cmd   *exec.Cmd
	lines chan string
}

// start runs a puppet with the agent of dir against addr.
func (h *testHub) start(t *testing.T, dir, addr string) *process {
	t.Helper()
	cmd := exec.Command(puppet, addr, dir, h.authority.TrustDomain())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range p.lines { // until it has ended
		}
		_ = cmd.Wait()
	})
	return p
}

// says waits for a line with this beginning.
func (p *process) says(t *testing.T, beginning string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	var heard []string
	for {
		select {
		case line, ok := <-p.lines:
			if strings.HasPrefix(line, beginning) {
				return line
			}
			if !ok {
				t.Fatalf("the puppet ended without %q, it said %q", beginning, heard)
			}
			heard = append(heard, line)
		case <-limit:
			t.Fatalf("the puppet did not say %q, it said %q", beginning, heard)
		}
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// online waits until the group is online, or is not.
func (h *testHub) online(t *testing.T, want bool) {
	t.Helper()
	eventually(t, h.changed, func() bool { return h.Online(h.group) == want })
}

func eventually(t *testing.T, changed <-chan struct{}, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-changed:
		case <-look.C:
		case <-limit:
			t.Fatal("it did not come about in 20 s")
		}
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Fatalf("got %s (%v), want %s", got, err, code)
	}
}

// A proxy passes connections to a port and can cut them all.
type proxy struct {
	addr string
	mu   sync.Mutex
	live map[net.Conn]struct{}
	shut bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), live: map[net.Conn]struct{}{}}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.carry(in, to) })
		}
	})
	t.Cleanup(func() { l.Close(); p.cut(true); work.Wait() })
	return p
}

func (p *proxy) carry(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	shut := p.shut
	p.live[in], p.live[out] = struct{}{}, struct{}{}
	p.mu.Unlock()
	if shut {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(out, in); out.Close() })
	both.Go(func() { _, _ = io.Copy(in, out); in.Close() })
	both.Wait()
}

// cut breaks all connections; while shut no new one gets through.
func (p *proxy) cut(shut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = shut
	for c := range p.live {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	p.live = map[net.Conn]struct{}{}
}
