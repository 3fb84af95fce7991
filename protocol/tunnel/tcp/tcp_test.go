package tcp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
	"ropeway/protocol/tunnel/tunneltest"
)

func TestContract(t *testing.T) {
	tunneltest.Run(t, func(t *testing.T, l tunneltest.Limits) tunneltest.Pair {
		road := newRoad(t)
		p := tunneltest.Pair{Blackhole: road.blackhole, Cut: road.cut}
		client, server := handshake(t, road)
		var err error
		p.A, err = tcp.Client(client, tcp.Options{Streams: l.StreamsA, Keepalive: l.Keepalive})
		if err != nil {
			t.Fatal(err)
		}
		p.B, err = tcp.Server(server, tcp.Options{Streams: l.StreamsB, Keepalive: l.Keepalive})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.A.Close(); p.B.Close() })
		return p
	})
}

// handshake makes both ends of a TLS connection over the road.
func handshake(t *testing.T, r *road) (client, server *tls.Conn) {
	t.Helper()
	cfg := tlsConfig(t)
	done := make(chan error, 1)
	raw, err := r.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server = tls.Server(tcp.Wrap(raw), cfg)
	go func() { done <- server.Handshake() }()
	client = tls.Client(tcp.Wrap(r.near), cfg)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client, server
}

func tlsConfig(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{tunnel.ALPN},
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
	}
}

// A road is a TCP path through a proxy that can be broken.
type road struct {
	listener net.Listener // where the far side arrives
	near     net.Conn     // the near side's connection
	middle   [2]*net.TCPConn

	mu     sync.Mutex
	closed chan struct{} // a black hole: nothing is read or passed on
}

func newRoad(t *testing.T) *road {
	t.Helper()
	r := &road{closed: make(chan struct{})}
	var err error
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	if r.near, err = net.Dial("tcp", proxy.Addr().String()); err != nil {
		t.Fatal(err)
	}
	in, err := proxy.Accept()
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r.middle = [2]*net.TCPConn{in.(*net.TCPConn), out.(*net.TCPConn)}
	var wg sync.WaitGroup
	wg.Go(func() { r.carry(r.middle[0], r.middle[1]) })
	wg.Go(func() { r.carry(r.middle[1], r.middle[0]) })
	t.Cleanup(func() {
		r.listener.Close()
		in.Close()
		out.Close()
		r.blackhole()
		wg.Wait()
	})
	return r
}

func (r *road) carry(from, to *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-r.closed:
			return
		default:
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

func (r *road) blackhole() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
	default:
		close(r.closed)
	}
}

func (r *road) cut() {
	for _, c := range r.middle {
		_ = c.SetLinger(0)
		c.Close()
	}
}

func TestDial_EndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts by the kernel, never shakes hands
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = tcp.Dial(ctx, l.Addr().String(), tlsConfig(t), tcp.Options{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dial gave %v, want the deadline", err)
	}
}

func TestServer_RefusesWhatIsNoTunnel(t *testing.T) {
	cases := map[string]func(*tls.Config){
		"other protocol": func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		"no protocol":    func(c *tls.Config) { c.NextProtos = nil },
		"tls 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no certificate": func(c *tls.Config) { c.ClientAuth = tls.NoClientCert },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := tlsConfig(t)
			change(cfg)
			a, b := net.Pipe()
			defer a.Close()
			go func() {
				_ = tls.Client(a, cfg).Handshake()
				_, _ = io.Copy(io.Discard, a)
			}()
			server := tls.Server(b, cfg)
			if err := server.Handshake(); err != nil {
				t.Fatal(err)
			}
			if s, err := tcp.Server(server, tcp.Options{}); err == nil {
				s.Close()
				t.Fatal("a session was made")
			}
		})
	}
}
