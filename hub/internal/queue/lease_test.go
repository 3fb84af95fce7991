package queue_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"ropeway/hub/internal/queue"
	"ropeway/protocol/page"
)

func TestDelivery_5_MessageWithoutVerdictComesAgain(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	publish(t, q, l, "a")
	claims := make(chan page.Claim, 4)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		claims <- d.Claim
		if d.Claim.Delivery < 3 {
			return // dies without a word
		}
		if !d.NeedClaim {
			t.Error("a redelivery needs its claim")
		}
		ack(t)(ctx, d)
	})
	var last page.Claim
	for n := range 3 {
		c := receive(t, claims, 4*time.Second)
		if c.Delivery != uint64(n+1) || !last.Less(c) {
			t.Errorf("claim %+v after %+v", c, last)
		}
		last = c
	}
	nothing(t, claims, 2500*time.Millisecond, "an acknowledged message came again")
}

func TestDelivery_5_BeatsKeepLongWorkAlive(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	publish(t, q, l, "long")
	c := newTally()
	done := make(chan error, 1)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		defer c.enter(d.Name)()
		select {
		case <-time.After(5 * time.Second): // 2.5 × AckWait
			done <- d.Ack(ctx)
		case <-ctx.Done():
			done <- context.Cause(ctx)
		}
	})
	if err := receive(t, done, 10*time.Second); err != nil {
		t.Errorf("long work: %v", err)
	}
	if r := c.repeated(); len(r) > 0 {
		t.Errorf("repeated: %v", r)
	}
}

func TestDelivery_5_NakKeepsTheSlotForItsDelay(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	publish(t, q, l, "first", "second")
	got := make(chan string, 4)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		got <- d.Name
		if d.Name == "first" && d.Claim.Delivery == 1 {
			if err := d.Nak(700 * time.Millisecond); err != nil {
				t.Error(err)
			}
			return
		}
		ack(t)(ctx, d)
	})
	receive(t, got, 5*time.Second)
	nothing(t, got, 500*time.Millisecond, "the slot of a delayed message was given away")
	if a, b := receive(t, got, 5*time.Second), receive(t, got, 5*time.Second); a != "first" || b != "second" {
		t.Errorf("order %s, %s", a, b)
	}
}

func TestVerdictCountsOnce(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	publish(t, q, l, "a")
	errs := make(chan error, 3)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		errs <- d.Ack(ctx)
		errs <- d.Ack(ctx)
		errs <- d.Nak(0)
	})
	if err := receive(t, errs, 5*time.Second); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := receive(t, errs, time.Second); !errors.Is(err, queue.ErrDecided) {
			t.Errorf("%v, want ErrDecided", err)
		}
	}
}

// gate is a link whose traffic can be stopped, as that of a frozen machine.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) thaw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

func (g *gate) wait() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

type gatedConn struct {
	net.Conn
	gate *gate
}

func (c gatedConn) Write(b []byte) (int, error) { c.gate.wait(); return c.Conn.Write(b) }
func (c gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.wait()
	return n, err
}

// staleOwner freezes a replica that works on a message, lets another one take
// the message over, thaws the first and returns what its acknowledgement said.
func staleOwner(t *testing.T, prepare func(*queue.Queue)) (ack, cause error) {
	q := open(t, quick(t.TempDir()))
	g := newGate()
	frozen, err := q.ConnectVia(t.Context(), func(c net.Conn) net.Conn { return gatedConn{c, g} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { frozen.Close() })
	prepare(frozen)
	l := newLane(1)
	publish(t, q, l, "a")

	started, ended := make(chan struct{}), make(chan error, 1)
	thawed := make(chan struct{})
	acked := make(chan error, 1)
	stop := serve(t, frozen, l, func(ctx context.Context, d *queue.Delivery) {
		if d.Claim.Delivery > 1 {
			return
		}
		close(started)
		select {
		case <-ctx.Done():
			ended <- context.Cause(ctx)
		case <-thawed:
			ended <- nil
		}
		<-thawed
		acked <- d.Ack(context.WithoutCancel(ctx))
	})
	receive(t, started, 5*time.Second)
	g.freeze()
	taken, finish := make(chan struct{}), make(chan struct{})
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		close(taken)
		<-finish
		_ = d.Ack(ctx) // whoever was first has removed it
	})
	receive(t, taken, 10*time.Second) // the engine has given the message away
	g.thaw()
	close(thawed)
	ack, cause = receive(t, acked, 5*time.Second), receive(t, ended, time.Second)
	close(finish)
	if err := stop(); err != nil {
		t.Error(err)
	}
	return ack, cause
}

func TestDelivery_5_2_LeaseGuard(t *testing.T) {
	t.Parallel()
	ack, cause := staleOwner(t, func(*queue.Queue) {})
	if !errors.Is(ack, queue.ErrLease) {
		t.Errorf("a stale owner acknowledged: %v", ack)
	}
	if !errors.Is(cause, queue.ErrLease) {
		t.Errorf("the stale owner's work was ended by %v, want ErrLease", cause)
	}
}

func TestDelivery_5_2_MutationWithoutLeaseGuardFails(t *testing.T) {
	t.Parallel()
	if ack, _ := staleOwner(t, (*queue.Queue).MutateNoLease); ack != nil {
		t.Errorf("without the guard the engine accepts the stale acknowledgement, got %v: "+
			"the test of the guard proves nothing", ack)
	}
}

func TestDelivery_5_2_SleepingMachineLosesItsLease(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	var mu sync.Mutex
	var skew time.Duration
	start := time.Now()
	q.SetClock(func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Since(start) + skew
	})
	l := newLane(1)
	publish(t, q, l, "a")
	acked := make(chan [3]error, 1)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		if d.Claim.Delivery > 1 {
			ack(t)(ctx, d)
			return
		}
		mu.Lock()
		skew = time.Hour // the lid was closed
		mu.Unlock()
		ctx = context.WithoutCancel(ctx)
		acked <- [3]error{d.Ack(ctx), d.Nak(0), d.Later(ctx, time.Second, 1)}
	})
	for i, err := range receive(t, acked, 5*time.Second) {
		if !errors.Is(err, queue.ErrLease) {
			t.Errorf("verdict %d after an hour of sleep: %v, want ErrLease", i, err)
		}
	}
}
