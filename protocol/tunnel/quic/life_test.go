package quic_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/quic"
)

func TestDial_EndsWithItsContext(t *testing.T) {
	hole, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close() // takes datagrams, never answers
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = quic.Dial(ctx, hole.LocalAddr().String(), tlsConfig(t), quic.Options{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dial gave %v, want the deadline", err)
	}
}

// ticketTrap notes whether a server hands out session tickets.
type ticketTrap struct {
	mu  sync.Mutex
	got int
}

func (c *ticketTrap) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *ticketTrap) Put(_ string, s *tls.ClientSessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.got++
	}
}

func TestDial_NoTicketsNoResumption(t *testing.T) {
	cfg := tlsConfig(t)
	l := listen(t, cfg, quic.Options{})
	trap := &ticketTrap{}
	client := cfg.Clone()
	client.SessionTicketsDisabled = false
	client.ClientSessionCache = trap
	for range 2 {
		a, b := meet(t, l.Addr().String(), l, client, quic.Options{})
		echoes(t, a, b)
		if a.Info().TLS.DidResume || b.Info().TLS.DidResume {
			t.Error("a session was resumed")
		}
		a.Close()
	}
	if trap.got != 0 {
		t.Errorf("%d tickets were handed out", trap.got)
	}
}

// A restarted hub is known by its key: its agents need not wait for silence.
func TestListen_RestartWithItsKeyIsNoticedAtOnce(t *testing.T) {
	cfg := tlsConfig(t)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := socket.LocalAddr().String()
	key := &[32]byte{7}
	l, err := quic.Listen(socket, cfg, quic.Options{ResetKey: key})
	if err != nil {
		t.Fatal(err)
	}
	a, b := meet(t, address, l, cfg, quic.Options{Keepalive: 3 * time.Second})
	echoes(t, a, b)
	l.Close() // as a kill: nobody is told
	if socket, err = net.ListenPacket("udp", address); err != nil {
		t.Fatal(err)
	}
	if l, err = quic.Listen(socket, cfg, quic.Options{ResetKey: key}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now()
	st, err := a.Open(t.Context()) // it says something, and is told
	if err == nil {
		_, _ = st.Write([]byte("are you there?"))
	}
	select {
	case <-a.Done():
	case <-time.After(2 * time.Second):
		t.Fatal("the session lives on")
	}
	t.Logf("noticed after %s: %v", time.Since(start), a.Err())
	if errors.Is(a.Err(), tunnel.ErrDead) {
		t.Errorf("noticed by silence: %v", a.Err())
	}
}

func TestSession_SurvivesANewAddress(t *testing.T) {
	cfg := tlsConfig(t)
	l := listen(t, cfg, quic.Options{Keepalive: time.Second})
	r := newRoad(t, l.Addr())
	a, b := meet(t, r.addr(), l, cfg, quic.Options{Keepalive: time.Second})
	echoes(t, a, b)
	r.rebind(t) // as a router that forgot us does
	echoes(t, a, b)
	echoes(t, b, a)
}

// rebind makes the relay speak to the hub from another port.
func (r *road) rebind(t *testing.T) {
	t.Helper()
	fresh, err := net.DialUDP("udp", nil, r.far.Load().RemoteAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	old := r.far.Swap(fresh)
	r.work.Go(func() { r.homeward(fresh) })
	old.Close()
	t.Cleanup(func() { fresh.Close() })
}

func TestClose_LosesNothingOnABadRoad(t *testing.T) {
	cfg := tlsConfig(t)
	l := listen(t, cfg, quic.Options{})
	r := newRoad(t, l.Addr())
	r.lose.Store(5)
	words := make([]byte, 150<<10)
	_, _ = mrand.NewChaCha8([32]byte{4}).Read(words)
	for range 10 {
		a, b := meet(t, r.addr(), l, cfg, quic.Options{})
		for range 3 {
			st, err := a.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write(words); err != nil {
				t.Fatal(err)
			}
			st.Close()
		}
		half, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := half.Write(words); err != nil { // and does not say the end
			t.Fatal(err)
		}
		a.Close()
		for i := range 4 {
			st, err := b.Accept(t.Context())
			if err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
			got, err := io.ReadAll(st)
			if !bytes.Equal(got, words) || (err == nil) != (i < 3) {
				t.Fatalf("stream %d: %d of %d bytes, %v", i, len(got), len(words), err)
			}
		}
		<-b.Done()
		if !errors.Is(b.Err(), tunnel.ErrPeerClosed) {
			t.Errorf("b ended with %v", b.Err())
		}
	}
}

// Streams that nobody reads take their first window each, and nothing from the
// others, however many they are.
func TestBudget_ManyStuckReadersHoldNobodyUp(t *testing.T) {
	cfg := tlsConfig(t)
	const stuck = 200
	l := listen(t, cfg, quic.Options{Streams: stuck + 1})
	a, b := meet(t, l.Addr().String(), l, cfg, quic.Options{Streams: stuck + 1})
	var writers sync.WaitGroup
	for range stuck {
		st, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Accept(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = st.SetWriteDeadline(time.Now().Add(2 * time.Second))
		writers.Go(func() { _, _ = st.Write(make([]byte, 1<<20)) })
	}
	writers.Wait()
	st, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = st.Write(make([]byte, 8<<20)); st.Close() }()
	_ = other.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{other}); err != nil || n != 8<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
