package tunneltest

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"ropeway/protocol/tunnel"
)

func testCut(t *testing.T, connect Connect) {
	p := connect(t, Limits{})
	a, b := streams(t, p, 1)
	if _, err := a[0].Write([]byte("half of a page")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b[0], make([]byte, 14)); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if _, err := b[0].Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a cut stream read %v; an end and a cut must differ", err)
	}
	ended(t, "cut", func() { <-p.A.Done(); <-p.B.Done() })
	if p.A.Err() == nil || p.B.Err() == nil {
		t.Error("an ended session has no reason")
	}
}

// testDeath checks promise T1 on a quicker clock: 15 s are 3.75 keepalives of
// 4 s. Both sides must notice although neither is told.
func testDeath(t *testing.T, connect Connect) {
	const keepalive = 400 * time.Millisecond
	for _, c := range []struct {
		name string
		busy bool
	}{{"idle", false}, {"in the middle of an upload", true}} {
		t.Run(c.name, func(t *testing.T) {
			p := connect(t, Limits{Keepalive: keepalive})
			a, b := streams(t, p, 1)
			if c.busy {
				go endless(a[0])
				go func() { _, _ = io.Copy(io.Discard, b[0]) }()
			}
			select { // longer than a death takes: living sessions stay
			case <-p.A.Done():
				t.Fatalf("a living session ended: %v", p.A.Err())
			case <-p.B.Done():
				t.Fatalf("a living session ended: %v", p.B.Err())
			case <-time.After(4 * keepalive):
			}
			p.Blackhole()
			start := time.Now()
			ended(t, "death", func() { <-p.A.Done(); <-p.B.Done() })
			if took := time.Since(start); took > keepalive*15/4 {
				t.Errorf("death noticed after %s, want %s at most", took, keepalive*15/4)
			}
			for _, err := range []error{p.A.Err(), p.B.Err()} {
				if !errors.Is(err, tunnel.ErrDead) && !errors.Is(err, tunnel.ErrStalled) {
					t.Errorf("ended with %v", err)
				}
			}
		})
	}
}

// endless writes until the stream breaks.
func endless(st tunnel.Stream) {
	b := make([]byte, 1<<20)
	for {
		if _, err := st.Write(b); err != nil {
			return
		}
	}
}

func testClose(t *testing.T, connect Connect) {
	p := connect(t, Limits{StreamsA: 2, StreamsB: 2})
	a, b := streams(t, p, 2)
	errs := make(chan error, 5)
	go func() { _, err := a[0].Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := b[0].Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := a[1].Write(make([]byte, 64<<20)); errs <- err }()
	go func() { _, err := p.A.Accept(context.Background()); errs <- err }()
	go func() { _, err := p.A.Open(context.Background()); errs <- err }()
	if err := p.A.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, "close", func() {
		for range cap(errs) {
			if err := <-errs; err == nil || errors.Is(err, io.EOF) {
				t.Errorf("a call on a closed session gave %v", err)
			}
		}
		<-p.B.Done()
	})
	if err := p.A.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := p.A.Open(context.Background()); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("open after close gave %v", err)
	}
}
