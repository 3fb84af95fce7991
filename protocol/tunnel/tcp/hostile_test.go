package tcp_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

const (
	data, window, ping = 0, 1, 2
	syn, fin, rst      = 1, 4, 8
)

func frame(kind byte, flags uint16, stream, length uint32) []byte {
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// against gives a session and the raw connection of an authenticated peer that
// does not keep to the protocol.
func against(t *testing.T, streams int) (tunnel.Session, *tls.Conn) {
	t.Helper()
	client, server := handshake(t, newRoad(t))
	s, err := tcp.Server(server, tcp.Options{Streams: streams})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); s.Close() })
	return s, client
}

func TestHostile_3_BrokenFramesEndTheSession(t *testing.T) {
	bad := frame(ping, 0, 0, 0)
	bad[0] = 1
	cases := map[string][]byte{
		"unknown version":            bad,
		"unknown type":               frame(4, 0, 0, 0),
		"type 255":                   frame(255, 0, 0, 0),
		"unknown flag":               frame(window, 16, 1, 0),
		"stream 0":                   frame(window, syn, 0, 0),
		"wrong parity":               frame(window, syn, 2, 0),
		"opened twice":               join(frame(window, syn, 1, 0), frame(window, syn, 1, 0)),
		"more data than the credit":  frame(data, syn, 1, 256<<10+1),
		"data of 2^31-1":             frame(data, syn, 1, 1<<31-1),
		"data of 2^32-1":             frame(data, syn, 1, 1<<32-1),
		"window update of 2^31":      join(frame(window, syn, 1, 0), frame(window, 0, 1, 1<<31)),
		"go away with unknown code":  frame(3, 0, 0, 90_001),
		"go away: protocol error":    frame(3, 0, 0, 1),
		"flood of pings":             repeat(frame(ping, syn, 0, 0), 100),
		"HTTP inside the tunnel":     []byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"),
		"random bytes":               []byte("\xff\xfe\x00\x80random bytes from a broken peer"),
		"credit exceeded in sum":     join(frame(data, syn, 1, 200<<10), make([]byte, 200<<10), frame(data, 0, 1, 57<<10)),
		"syn flag on a known stream": join(frame(window, syn, 3, 0), frame(data, syn, 3, 1)),
	}
	for name, bytes := range cases {
		t.Run(name, func(t *testing.T) {
			s, raw := against(t, 0)
			go func() { _, _ = io.Copy(io.Discard, raw) }()
			if _, err := raw.Write(bytes); err != nil {
				t.Fatal(err)
			}
			select {
			case <-s.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("the session lives on")
			}
		})
	}
}

func repeat(b []byte, n int) (all []byte) {
	for range n {
		all = append(all, b...)
	}
	return all
}

func TestHostile_3_OddFramesHurtNobody(t *testing.T) {
	floods := make([]byte, 0, 24*20_000)
	for i := range uint32(20_000) {
		id := 2*i + 100_001
		floods = append(floods, join(frame(window, syn, id, 0), frame(window, rst, id, 0))...)
	}
	cases := map[string][]byte{
		"nothing":                   nil,
		"data of an unknown stream": join(frame(data, 0, 90_001, 5), []byte("hello")),
		"end of an unknown stream":  frame(window, fin, 90_001, 0),
		"reset of an unknown one":   frame(window, rst, 90_001, 0),
		"said the end twice":        join(frame(window, syn, 90_001, 0), frame(window, fin, 90_001, 0), frame(window, fin, 90_001, 0)),
		"data after the end":        join(frame(window, syn|fin, 90_001, 0), frame(data, 0, 90_001, 3), []byte("abc")),
		"data after a reset":        join(frame(window, syn, 90_001, 0), frame(window, rst, 90_001, 0), frame(data, 0, 90_001, 3), []byte("abc")),
		"empty data":                join(frame(window, syn, 90_001, 0), repeat(frame(data, 0, 90_001, 0), 1000)),
		"a pong nobody asked for":   frame(ping, 2, 0, 77),
		"20,000 opened and reset":   floods,
		"some pings":                repeat(frame(ping, syn, 0, 1), 30),
	}
	for name, bytes := range cases {
		t.Run(name, func(t *testing.T) {
			s, raw := against(t, 8)
			go hello(raw, bytes)
			for {
				st := accept(t, s)
				if o, err := tunnel.ReadOpening(st); err != nil || o.ID != 5 {
					continue // one of the odd streams
				}
				if got, err := io.ReadAll(st); err != nil || string(got) != "hi" {
					t.Fatalf("read %q, %v", got, err)
				}
				return
			}
		})
	}
}

// hello sends the odd bytes and then greets on new streams, one after each pong,
// until the connection ends: right after a flood a greeting may be turned away.
func hello(raw *tls.Conn, odd []byte) {
	_, _ = raw.Write(odd)
	for id := uint32(1); id < 60; id += 2 {
		greeting := join(frame(data, syn, id, 9+2), []byte{byte(tunnel.Step), 0, 0, 0, 0, 0, 0, 0, 5}, []byte("hi"),
			frame(window, fin, id, 0), frame(ping, syn, 0, 1_000+id))
		if _, err := raw.Write(greeting); err != nil {
			return
		}
		for pong := false; !pong; {
			head := make([]byte, 12)
			if _, err := io.ReadFull(raw, head); err != nil {
				return
			}
			pong = head[1] == ping && binary.BigEndian.Uint32(head[8:]) == 1_000+id
		}
	}
	_, _ = io.Copy(io.Discard, raw)
}

func accept(t *testing.T, s tunnel.Session) tunnel.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	st, err := s.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = st.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	return st
}

func TestHostile_3_SynFloodIsCapped(t *testing.T) {
	s, raw := against(t, 8)
	var flood []byte
	for i := range uint32(1000) {
		flood = append(flood, frame(window, syn, 2*i+1, 0)...)
	}
	go func() { _, _ = raw.Write(flood) }()
	resets := 0
	head := make([]byte, 12)
	for resets < 1000-8 {
		if _, err := io.ReadFull(raw, head); err != nil {
			t.Fatalf("after %d resets: %v", resets, err)
		}
		if head[1] == window && binary.BigEndian.Uint16(head[2:])&rst != 0 {
			resets++
		}
	}
	if s.Err() != nil {
		t.Fatalf("the session ended: %v", s.Err())
	}
}

func TestHostile_3_OneByteAtATime(t *testing.T) {
	s, raw := against(t, 8)
	go func() { _, _ = io.Copy(io.Discard, raw) }()
	all := join(frame(data, syn, 1, 11), []byte{byte(tunnel.Control), 0, 0, 0, 0, 0, 0, 0, 0}, []byte("hi"),
		frame(data, 0, 1, 1), []byte("!"), frame(window, fin, 1, 0))
	go func() {
		for i := range all {
			_, _ = raw.Write(all[i : i+1])
		}
	}()
	st := accept(t, s)
	_ = st.SetReadDeadline(time.Now().Add(10 * time.Second))
	if o, err := tunnel.ReadOpening(st); err != nil || o.Kind != tunnel.Control {
		t.Fatalf("opening %+v, %v", o, err)
	}
	if got, err := io.ReadAll(st); err != nil || string(got) != "hi!" {
		t.Fatalf("read %q, %v", got, err)
	}
}
