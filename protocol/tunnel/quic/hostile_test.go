package quic_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/quic"
)

// strange makes a datagram as strangers send them. Kinds: noise; long headers of
// every type with any version; an Initial that nobody can open; an early
// Handshake or 0-RTT packet; a version negotiation; a short header for a
// connection that is not there; a Retry nobody asked for.
func strange(r *mrand.ChaCha8, kind int) []byte {
	rnd := mrand.New(r)
	size := 1 + rnd.IntN(1400)
	if kind%2 == 1 {
		size = 1200 + rnd.IntN(200) // as large as an Initial must be
	}
	b := make([]byte, max(size, 40))
	_, _ = r.Read(b)
	version := func(v uint32) { binary.BigEndian.PutUint32(b[1:], v) }
	ids := func() { b[5] = byte(rnd.IntN(21)); b[6+b[5]] = byte(rnd.IntN(10)) }
	switch kind % 8 {
	case 1: // Initial
		b[0] = 0xc0 | b[0]&0x0f
		version(1)
		ids()
	case 2: // Handshake
		b[0] = 0xe0 | b[0]&0x0f
		version(1)
		ids()
	case 3: // 0-RTT
		b[0] = 0xd0 | b[0]&0x0f
		version(1)
		ids()
	case 4: // version negotiation
		b[0] |= 0x80
		version(0)
		ids()
	case 5: // another version
		b[0] |= 0x80
		version(rnd.Uint32())
		ids()
	case 6: // short header
		b[0] = 0x40 | b[0]&0x3f
	case 7: // Retry
		b[0] = 0xf0 | b[0]&0x0f
		version(1)
		ids()
	}
	return b
}

// echoes sends text there and back on a new stream.
func echoes(t *testing.T, a, b tunnel.Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	st, err := a.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(other, other); other.Close() }()
	if _, err := io.WriteString(st, "hello"); err != nil {
		t.Fatal(err)
	}
	_ = st.CloseWrite()
	_ = st.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(st); err != nil || string(got) != "hello" {
		t.Fatalf("echo %q, %v", got, err)
	}
	st.Close()
}

func TestHostile_3_TenThousandStrangeDatagramsHurtNobody(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("pair", func(t *testing.T) {
		cfg := tlsConfig(t)
		l := listen(t, cfg, quic.Options{ResetKey: &[32]byte{1}})
		a, b := meet(t, l.Addr().String(), l, cfg, quic.Options{})
		echoes(t, a, b)
		var seed [32]byte
		_, _ = rand.Read(seed[:])
		t.Logf("seed %x", seed)
		r := mrand.NewChaCha8(seed)
		sockets := make([]net.Conn, 4)
		for i := range sockets {
			var err error
			if sockets[i], err = net.Dial("udp", l.Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer sockets[i].Close()
		}
		for i := range 10_000 {
			if _, err := sockets[i%len(sockets)].Write(strange(r, i)); err != nil {
				t.Fatal(err)
			}
			if i%1000 == 0 {
				echoes(t, a, b)
			}
		}
		echoes(t, a, b)
		c, d := meet(t, l.Addr().String(), l, cfg, quic.Options{}) // and new agents come in
		echoes(t, c, d)
		if a.Err() != nil || b.Err() != nil {
			t.Errorf("the good session ended: %v, %v", a.Err(), b.Err())
		}
	})
}

// The other side of the agent's socket: it is hit from another address, and by
// forged packets with the hub's.
func TestHostile_3_StrangersAtTheAgent(t *testing.T) {
	cfg := tlsConfig(t)
	l := listen(t, cfg, quic.Options{})
	a, b := meet(t, l.Addr().String(), l, cfg, quic.Options{})
	_, port, err := net.SplitHostPort(a.Info().Local)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.Dial("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	r := mrand.NewChaCha8([32]byte{2})
	for i := range 2_000 {
		_, _ = socket.Write(strange(r, i))
	}
	echoes(t, a, b)
	echoes(t, b, a)
}

func FuzzStrangeDatagram(f *testing.F) {
	r := mrand.NewChaCha8([32]byte{3})
	for kind := range 8 {
		f.Add(strange(r, kind))
	}
	cfg := tlsConfig(f)
	l := listen(f, cfg, quic.Options{ResetKey: &[32]byte{1}})
	socket, err := net.Dial("udp", l.Addr().String())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { socket.Close() })
	a, _ := meet(f, l.Addr().String(), l, cfg, quic.Options{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if _, err := socket.Write(datagram[:min(len(datagram), 60_000)]); err != nil {
			t.Skip(err)
		}
		if err := a.Err(); err != nil {
			t.Fatalf("the good session ended: %v", err)
		}
	})
}

// rude is a peer that is authenticated and does not keep to the protocol.
func rude(t *testing.T, opt quic.Options) (tunnel.Session, *quicgo.Conn) {
	t.Helper()
	cfg := tlsConfig(t)
	l := listen(t, cfg, opt)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	accepted := make(chan tunnel.Session, 1)
	go func() {
		s, _ := l.Accept(ctx)
		accepted <- s
	}()
	conn, err := quicgo.DialAddr(ctx, l.Addr().String(), cfg, &quicgo.Config{EnableStreamResetPartialDelivery: true})
	if err != nil {
		t.Fatal(err)
	}
	s := <-accepted
	if s == nil {
		t.Fatal("nothing was accepted")
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, ""); s.Close() })
	return s, conn
}

func TestHostile_3_RudePeers(t *testing.T) {
	ends := map[string]func(*quicgo.Conn){
		"two goodbyes": func(c *quicgo.Conn) {
			for range 2 {
				if u, err := c.OpenUniStream(); err == nil {
					u.Close()
				}
			}
		},
		"a goodbye of many streams that never come": func(c *quicgo.Conn) {
			u, _ := c.OpenUniStream()
			_, _ = u.Write(binary.BigEndian.AppendUint64(nil, 1<<63))
			u.Close()
		},
		"an unknown end": func(c *quicgo.Conn) { _ = c.CloseWithError(77, "text that is not trusted") },
	}
	for name, act := range ends {
		t.Run(name, func(t *testing.T) {
			s, conn := rude(t, quic.Options{})
			act(conn)
			select {
			case <-s.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("the session lives on")
			}
			if !errors.Is(s.Err(), tunnel.ErrPeerClosed) {
				t.Errorf("ended with %v", s.Err())
			}
		})
	}
	t.Run("a goodbye that says nothing", func(t *testing.T) {
		s, conn := rude(t, quic.Options{Keepalive: 200 * time.Millisecond})
		u, err := conn.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = u.Write([]byte{1})
		select {
		case <-s.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("the session lives on")
		}
	})
	t.Run("a stream that begins otherwise", func(t *testing.T) {
		s, conn := rude(t, quic.Options{})
		st, err := conn.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Write([]byte("GET / HTTP/1.1\r\n"))
		got, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := got.Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
			t.Errorf("read gave %v", err)
		}
		if s.Err() != nil {
			t.Errorf("the session ended: %v", s.Err())
		}
	})
	t.Run("ten thousand streams opened and reset", func(t *testing.T) {
		s, conn := rude(t, quic.Options{Streams: 8})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		last := make(chan string, 1)
		go func() {
			for {
				got, err := s.Accept(ctx)
				if err != nil {
					last <- err.Error()
					return
				}
				if text, err := io.ReadAll(got); err == nil {
					last <- string(text)
					return
				}
				got.Close()
			}
		}()
		for range 10_000 {
			st, err := conn.OpenStreamSync(ctx)
			if err != nil {
				t.Fatal(err)
			}
			st.CancelRead(1)
			st.CancelWrite(1)
		}
		st, err := conn.OpenStreamSync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Write([]byte("\x00last"))
		st.Close()
		if text := <-last; text != "last" {
			t.Errorf("accepted %q", text)
		}
	})
}

func TestListen_RefusesWhatIsNoTunnel(t *testing.T) {
	cases := map[string]func(*tls.Config){
		"other protocol": func(c *tls.Config) { c.NextProtos = []string{"h3"} },
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
	}
	cfg := tlsConfig(t)
	l := listen(t, cfg, quic.Options{})
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			other := cfg.Clone()
			change(other)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := quic.Dial(ctx, l.Addr().String(), other, quic.Options{})
			if err != nil {
				return
			}
			defer s.Close()
			select { // the hub's refusal comes after the handshake of this side
			case <-s.Done():
				var op *net.OpError
				if !errors.As(s.Err(), &op) || op.Op != "remote error" {
					t.Errorf("ended with %v", s.Err())
				}
			case <-ctx.Done():
				t.Error("the session lives")
			}
		})
	}
	a, b := meet(t, l.Addr().String(), l, cfg, quic.Options{})
	echoes(t, a, b)
}
