// Package tunneltest is the contract of tunnel.Session: what every transport
// must do, whatever it is made of. It knows only the interface and a way to make
// a connected pair and to break what lies between.
package tunneltest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/protocol/tunnel"
)

// Limits are what a pair is made with.
type Limits struct {
	StreamsA, StreamsB int           // caps of both sides; 0 = default
	Keepalive          time.Duration // of both sides; 0 = default
}

// A Pair is two ends of one connected session, and power over what is between.
type Pair struct {
	A, B tunnel.Session
	// Blackhole lets nothing pass any more, without any sign of it.
	Blackhole func()
	// Cut breaks the connection as a lost router with a reset would.
	Cut func()
}

// Connect makes a pair and closes everything at the end of the test.
type Connect func(t *testing.T, l Limits) Pair

// Run checks a transport.
func Run(t *testing.T, connect Connect) {
	cases := []struct {
		name string
		test func(*testing.T, Connect)
	}{
		{"both sides open and accept", testBothWays},
		{"a stream is seen before its data", testSeenAtOnce},
		{"half close", testHalfClose},
		{"close delivers what was written", testLastWords},
		{"a writer into a closed stream is told", testCloseReleases},
		{"read deadline", testReadDeadline},
		{"write deadline", testWriteDeadline},
		{"open waits at the cap", testOpenCap},
		{"more streams than the cap are reset", testAcceptCap},
		{"reset ends both sides and nothing else", testReset},
		{"ten thousand streams one after the other", testManyStreams},
		{"32 uploads at once", testUploads},
		{"a reader that stops holds nobody up", testStuckReader},
		{"bytes arrive as they were sent", testBytes},
		{"a cut is not an end", testCut},
		{"silent death is noticed", testDeath},
		{"close ends everything", testClose},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			t.Run("pair", func(t *testing.T) { c.test(t, connect) })
		})
	}
}

const patience = 20 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// streams opens n streams from A to B and returns both ends of each.
func streams(t *testing.T, p Pair, n int) (a, b []tunnel.Stream) {
	t.Helper()
	ctx := within(t)
	for range n {
		st, err := p.A.Open(ctx)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		other, err := p.B.Accept(ctx)
		if err != nil {
			t.Fatalf("accept: %v", err)
		}
		a, b = append(a, st), append(b, other)
	}
	return a, b
}

// ended waits for fn and fails the test if it takes too long.
func ended(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: no end in %s", what, patience)
	}
}
