package tunneltest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"ropeway/protocol/tunnel"
)

func testBothWays(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	for _, way := range []struct {
		name     string
		from, to tunnel.Session
	}{{"a to b", p.A, p.B}, {"b to a", p.B, p.A}} {
		st, err := way.from.Open(within(t))
		if err != nil {
			t.Fatalf("%s: open: %v", way.name, err)
		}
		if err := tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Step, ID: 7}); err != nil {
			t.Fatal(err)
		}
		other, err := way.to.Accept(within(t))
		if err != nil {
			t.Fatalf("%s: accept: %v", way.name, err)
		}
		if o, err := tunnel.ReadOpening(other); err != nil || o.ID != 7 || o.Kind != tunnel.Step {
			t.Fatalf("%s: opening %+v, %v", way.name, o, err)
		}
		go func() { _, _ = io.Copy(other, other); other.Close() }()
		echo(t, st, "hello over the rope")
	}
	if info := p.A.Info(); info.Transport == "" || info.Remote == "" || len(info.TLS.PeerCertificates) == 0 {
		t.Errorf("info lacks transport, address or identity: %+v", info)
	}
}

func echo(t *testing.T, st tunnel.Stream, text string) {
	t.Helper()
	if _, err := io.WriteString(st, text); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(st)
	if err != nil || string(got) != text {
		t.Fatalf("echo gave %q, %v", got, err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func testSeenAtOnce(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	streams(t, p, 3) // accepts without a byte written
}

func testHalfClose(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 1)
	if _, err := io.WriteString(a[0], "question"); err != nil {
		t.Fatal(err)
	}
	if err := a[0].CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b[0]); err != nil || string(got) != "question" {
		t.Fatalf("b read %q, %v", got, err)
	}
	answer := bytes.Repeat([]byte("answer "), 100_000) // more than any first window
	go func() { _, _ = b[0].Write(answer); b[0].Close() }()
	if got, err := io.ReadAll(a[0]); err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("a read %d bytes, %v", len(got), err)
	}
	if _, err := a[0].Write([]byte("x")); err == nil {
		t.Error("a write after CloseWrite succeeded")
	}
}

func testLastWords(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 1)
	words := bytes.Repeat([]byte("w"), 200<<10)
	if _, err := a[0].Write(words); err != nil {
		t.Fatal(err)
	}
	if err := a[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.A.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b[0]); err != nil || !bytes.Equal(got, words) {
		t.Fatalf("b read %d of %d bytes, %v", len(got), len(words), err)
	}
	<-p.B.Done()
	if err := p.B.Err(); !errors.Is(err, tunnel.ErrPeerClosed) {
		t.Errorf("b ended with %v, want %v", err, tunnel.ErrPeerClosed)
	}
	if err := p.A.Err(); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("a ended with %v, want %v", err, tunnel.ErrClosed)
	}
}

func testCloseReleases(t *testing.T, connect Connect) {
	p := connect(t, Limits{Keepalive: 200 * time.Millisecond})
	a, b := streams(t, p, 1)
	if err := b[0].Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b[0].Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a read after Close gave %v", err)
	}
	if _, err := a[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the other side read %v, want EOF", err)
	}
	ended(t, "write into closed stream", func() {
		for {
			if _, err := a[0].Write(make([]byte, 64<<10)); err != nil {
				if !errors.Is(err, tunnel.ErrReset) {
					t.Errorf("write ended with %v, want %v", err, tunnel.ErrReset)
				}
				return
			}
		}
	})
}

func testReadDeadline(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 1)
	_ = a[0].SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := a[0].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read gave %v, want a deadline", err)
	}
	_ = a[0].SetReadDeadline(time.Time{})
	if _, err := b[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := a[0].Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read after the deadline gave %d, %v", n, err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := a[0].Read(make([]byte, 1)); waiting <- err }()
	_ = a[0].SetDeadline(time.Now().Add(-time.Second))
	if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("waiting read gave %v, want a deadline", err)
	}
}

func testWriteDeadline(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 1)
	_ = a[0].SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	sent, err := a[0].Write(make([]byte, 16<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write gave %d, %v, want a deadline", sent, err)
	}
	_ = a[0].SetWriteDeadline(time.Time{})
	go func() { _, _ = a[0].Write([]byte("tail")); a[0].Close() }()
	got, err := io.ReadAll(b[0])
	if err != nil || len(got) != sent+4 {
		t.Fatalf("read %d bytes, %v, want %d", len(got), err, sent+4)
	}
}

func testOpenCap(t *testing.T, connect Connect) {
	p := connect(t, Limits{StreamsA: 4, StreamsB: 4})
	a, b := streams(t, p, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.A.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("fifth open gave %v, want to wait", err)
	}
	a[0].Close()
	b[0].Close()
	streams(t, p, 1)
	_ = a[1].Reset()
	streams(t, p, 1)
	if _, err := p.B.Open(within(t)); err != nil {
		t.Errorf("the cap of one side stopped the other: %v", err)
	}
}

func testAcceptCap(t *testing.T, connect Connect) {
	p := connect(t, Limits{StreamsA: 16, StreamsB: 4})
	a, b := streams(t, p, 4)
	for range 6 {
		st, err := p.A.Open(within(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = st.SetReadDeadline(time.Now().Add(patience))
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
			t.Fatalf("stream beyond the cap gave %v, want %v", err, tunnel.ErrReset)
		}
	}
	go func() { _, _ = io.Copy(b[0], b[0]); b[0].Close() }()
	echo(t, a[0], "still here")
}

func testReset(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 2)
	reading, writing := make(chan error, 1), make(chan error, 1)
	go func() { _, err := a[0].Read(make([]byte, 1)); reading <- err }()
	go func() { _, err := b[1].Write(nil); writing <- err }()
	if err := <-writing; err != nil {
		t.Fatalf("empty write: %v", err)
	}
	go func() { _, err := b[0].Write(make([]byte, 32<<20)); writing <- err }()
	if err := <-reading; err != nil {
		t.Fatal(err)
	}
	if err := a[0].Reset(); err != nil {
		t.Fatal(err)
	}
	ended(t, "reset", func() {
		if err := <-writing; !errors.Is(err, tunnel.ErrReset) {
			t.Errorf("the other side's write ended with %v", err)
		}
	})
	if _, err := a[0].Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
		t.Errorf("read after reset gave %v", err)
	}
	if _, err := b[0].Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
		t.Errorf("the other side's read gave %v", err)
	}
	go func() { _, _ = io.Copy(b[1], b[1]); b[1].Close() }()
	echo(t, a[1], "the neighbour lives")
}
