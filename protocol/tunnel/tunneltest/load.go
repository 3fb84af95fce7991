package tunneltest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"ropeway/protocol/tunnel"
)

func testManyStreams(t *testing.T, connect Connect) {
	p := connect(t, Limits{StreamsA: 8, StreamsB: 8})
	const n = 10_000
	go func() {
		for range n {
			st, err := p.B.Accept(t.Context())
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, st); st.Close() }()
		}
	}()
	ctx := within(t)
	for i := range n {
		st, err := p.A.Open(ctx)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		if i%3 == 0 {
			_ = st.Reset()
			continue
		}
		if _, err := st.Write([]byte("x")); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		st.Close()
	}
}

const upload = 4 << 20

func testUploads(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	sum := func(r io.Reader) ([32]byte, int64, error) {
		h := sha256.New()
		n, err := io.Copy(h, r)
		return [32]byte(h.Sum(nil)), n, err
	}
	var g errgroup.Group
	a, b := streams(t, p, 32)
	for i := range a {
		body := make([]byte, upload)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(body)
		want := sha256.Sum256(body)
		g.Go(func() error {
			if _, err := a[i].Write(body); err != nil {
				return err
			}
			return a[i].Close()
		})
		g.Go(func() error {
			got, n, err := sum(b[i])
			if err == nil && (got != want || n != upload) {
				err = errors.New("other bytes arrived")
			}
			b[i].Close()
			return err
		})
	}
	ended(t, "uploads", func() {
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func testStuckReader(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 9)
	stuck := make(chan struct{})
	go func() { defer close(stuck); _, _ = a[0].Write(make([]byte, 64<<20)) }()
	var g errgroup.Group
	for i := 1; i < 9; i++ {
		g.Go(func() error {
			_, err := a[i].Write(make([]byte, upload))
			a[i].Close()
			return err
		})
		g.Go(func() error { _, err := io.Copy(io.Discard, b[i]); return err })
	}
	ended(t, "neighbours of a stuck stream", func() {
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	_ = b[0].Reset()
	ended(t, "stuck writer", func() { <-stuck })
}

func testBytes(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 1)
	body := make([]byte, 3<<20)
	r := rand.New(rand.NewChaCha8([32]byte{1}))
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	go write(a[0], body, r)
	got, err := io.ReadAll(b[0])
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes arrived differently, %v", len(got), err)
	}
}

// write sends body in pieces of 0 bytes to 200 KiB.
func write(st tunnel.Stream, body []byte, r *rand.Rand) {
	for len(body) > 0 {
		n := min(r.IntN(200<<10), len(body))
		if r.IntN(4) == 0 {
			n = min(r.IntN(3), len(body))
		}
		if _, err := st.Write(body[:n]); err != nil {
			return
		}
		body = body[n:]
	}
	st.Close()
}
