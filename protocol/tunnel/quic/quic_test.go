package quic_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/quic"
	"ropeway/protocol/tunnel/tunneltest"
)

func TestContract(t *testing.T) {
	tunneltest.Run(t, func(t *testing.T, l tunneltest.Limits) tunneltest.Pair {
		keepalive := l.Keepalive
		if keepalive == 0 {
			keepalive = time.Second // a cut of UDP shows by silence only
		}
		cfg := tlsConfig(t)
		server := listen(t, cfg, quic.Options{Streams: l.StreamsB, Keepalive: keepalive})
		road := newRoad(t, server.Addr())
		p := tunneltest.Pair{Blackhole: road.cut, Cut: road.cut}
		p.A, p.B = meet(t, road.addr(), server, cfg, quic.Options{Streams: l.StreamsA, Keepalive: keepalive})
		return p
	})
}

func listen(t testing.TB, cfg *tls.Config, opt quic.Options) *quic.Listener {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := quic.Listen(socket, cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// meet makes both ends of a session.
func meet(t testing.TB, addr string, l *quic.Listener, cfg *tls.Config, opt quic.Options) (a, b tunnel.Session) {
	t.Helper()
	accepted := make(chan tunnel.Session, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() {
		s, _ := l.Accept(ctx)
		accepted <- s
	}()
	a, err := quic.Dial(ctx, addr, cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	if b = <-accepted; b == nil {
		t.Fatal("nothing was accepted")
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func tlsConfig(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, key.Public(), key)
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

// A road is a UDP path through a relay that can be broken.
type road struct {
	near *net.UDPConn
	far  atomic.Pointer[net.UDPConn]
	lose atomic.Int32 // so many of a hundred datagrams
	work sync.WaitGroup

	mu     sync.Mutex
	broken bool
	client net.Addr
}

func newRoad(t *testing.T, to net.Addr) *road {
	t.Helper()
	r := &road{}
	var err error
	if r.near, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	far, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	r.far.Store(far)
	for _, socket := range []*net.UDPConn{r.near, far} {
		_ = socket.SetReadBuffer(4 << 20)
	}
	r.work.Go(r.outward)
	r.work.Go(func() { r.homeward(far) })
	t.Cleanup(func() { r.near.Close(); far.Close(); r.work.Wait() })
	return r
}

func (r *road) addr() string { return r.near.LocalAddr().String() }

func (r *road) outward() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.near.ReadFrom(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.client = from
		broken := r.broken
		r.mu.Unlock()
		if !broken && !r.lost() {
			_, _ = r.far.Load().Write(buf[:n])
		}
	}
}

func (r *road) lost() bool { return rand.Int32N(100) < r.lose.Load() }

func (r *road) homeward(far *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := far.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		r.mu.Lock()
		to, broken := r.client, r.broken
		r.mu.Unlock()
		if err == nil && to != nil && !broken && !r.lost() {
			_, _ = r.near.WriteTo(buf[:n], to)
		}
	}
}

func (r *road) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true
}
