package queue_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"ropeway/hub/internal/queue"
	"ropeway/protocol/page"
)

// working holds a slot for d.
func working(t *testing.T, c *tally, d time.Duration) queue.Handler {
	return func(ctx context.Context, m *queue.Delivery) {
		leave := c.enter(m.Name)
		<-time.After(d)
		leave()
		ack(t)(ctx, m)
	}
}

func TestSemantics_3_2_LevelHoldsOverReplicas(t *testing.T) {
	t.Parallel()
	for _, level := range []int{1, 3, 0} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			a := open(t, quick(t.TempDir()))
			b := connect(t, a)
			l := newLane(level)
			publish(t, a, l, names("p", 60)...)
			c := newTally()
			serve(t, a, l, working(t, c, 4*time.Millisecond))
			serve(t, b, l, working(t, c, 4*time.Millisecond))
			waitFor(t, 20*time.Second, "all messages worked off", func() bool {
				return c.count() == 60 && c.inFlight.Load() == 0
			})
			most := c.most.Load()
			if level > 0 && (most > int64(level) || most < int64(level)) {
				t.Errorf("%d in flight at level %d", most, level)
			}
			if r := c.repeated(); len(r) > 0 {
				t.Errorf("repeated: %v", r)
			}
		})
	}
}

func TestSemantics_3_3_BorrowersShareTheLendersSlots(t *testing.T) {
	t.Parallel()
	a := open(t, quick(t.TempDir()))
	b := connect(t, a)
	l := newLane(2)
	other := [2]page.ID{page.NewID(), page.NewID()}
	l.Borrowers = other[:]
	for i, c := range []page.ID{l.Connection, other[0], other[1]} {
		borrower := l
		borrower.Connection, borrower.Borrowers = c, nil
		publish(t, a, borrower, names(fmt.Sprintf("c%d", i), 20)...)
	}
	c := newTally()
	by := map[page.ID]*atomic.Int64{l.Connection: {}, other[0]: {}, other[1]: {}}
	h := func(ctx context.Context, d *queue.Delivery) {
		by[d.Connection].Add(1)
		working(t, c, 4*time.Millisecond)(ctx, d)
	}
	serve(t, a, l, h)
	serve(t, b, l, h)
	waitFor(t, 20*time.Second, "all 60 messages", func() bool { return c.count() == 60 })
	if most := c.most.Load(); most != 2 {
		t.Errorf("%d in flight together, want 2", most)
	}
	for id, n := range by {
		if n.Load() != 20 {
			t.Errorf("connection %s: %d messages, want 20", id, n.Load())
		}
	}
}

func TestSemantics_3_2_LevelChangesLive(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	other := connect(t, q)
	l := newLane(1)
	publish(t, q, l, names("p", 40)...)
	c := newTally()
	gate := make(chan struct{})
	h := func(ctx context.Context, d *queue.Delivery) {
		leave := c.enter(d.Name)
		<-gate
		leave()
		ack(t)(ctx, d)
	}
	serve(t, q, l, h)
	serve(t, other, l, h)
	reach := func(n int64) {
		t.Helper()
		waitFor(t, 5*time.Second, fmt.Sprint(n, " in flight"), func() bool {
			return c.inFlight.Load() == n
		})
	}
	reach(1)
	for _, level := range []int{4, 6} {
		l.Level = level
		if err := q.SetLevel(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		reach(int64(level))
	}
	l.Level = 2
	if err := other.SetLevel(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	for range 4 { // down to two without starting anything
		gate <- struct{}{}
	}
	reach(2)
	c.most.Store(2)
	for range 10 {
		gate <- struct{}{}
	}
	close(gate)
	waitFor(t, 10*time.Second, "all messages", func() bool {
		return c.count() == 40 && c.inFlight.Load() == 0
	})
	if most := c.most.Load(); most > 2 {
		t.Errorf("%d in flight after the level fell to 2", most)
	}
	if r := c.repeated(); len(r) > 0 {
		t.Errorf("repeated: %v", r)
	}
}

func TestDelivery_5_5_PauseAndResumeActAtOnce(t *testing.T) {
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	got := make(chan string, 10)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- d.Name
	})
	publish(t, q, l, "before")
	receive(t, got, 5*time.Second)
	best := time.Hour
	for i := range 3 {
		if err := q.Pause(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		publish(t, q, l, fmt.Sprint("paused.", i))
		nothing(t, got, 150*time.Millisecond, "a paused lane handed out")
		start := time.Now()
		if err := q.Resume(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		receive(t, got, 5*time.Second)
		best = min(best, time.Since(start)) // a busy disk may slow one of them
	}
	if best > 100*time.Millisecond {
		t.Errorf("resume took %s", best)
	}
}

// TestDelivery_5_6_ReshapeDoesNotWaitForWhatWasGivenBack: a message that a loop
// gave back at its end stays pending under pause; nobody has it in hand.
func TestDelivery_5_6_ReshapeDoesNotWaitForWhatWasGivenBack(t *testing.T) {
	q := open(t, quick(t.TempDir()))
	lender, borrower := newLane(2), page.NewID()
	publish(t, q, lender, "a")
	had := make(chan struct{})
	stop := serve(t, q, lender, func(ctx context.Context, _ *queue.Delivery) {
		close(had)
		<-ctx.Done() // and is given back
	})
	<-had
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	next := lender
	next.Borrowers = []page.ID{borrower}
	if err := q.Pause(t.Context(), lender); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := q.Reshape(t.Context(), []queue.Lane{lender}, []queue.Lane{next}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("it waited %s", took)
	}
	got := make(chan string, 1)
	serve(t, q, next, func(ctx context.Context, d *queue.Delivery) {
		if err := d.Ack(ctx); err != nil {
			t.Error(err)
		}
		got <- d.Name
	})
	if name := <-got; name != "a" {
		t.Errorf("%s came", name)
	}
}

// TestDelivery_5_UnwantedLoopLetsItsHandlersEnd: a loop that shall fetch nothing
// more keeps the lease of what it has in hand, and another may begin beside it.
func TestDelivery_5_UnwantedLoopLetsItsHandlersEnd(t *testing.T) {
	q := open(t, quick(t.TempDir()))
	l := newLane(2)
	publish(t, q, l, "long")
	wanted, unwanted := context.WithCancel(t.Context())
	begun, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.ServeWhile(t.Context(), wanted, l, func(ctx context.Context, d *queue.Delivery) {
			close(begun)
			<-release
			if ctx.Err() != nil {
				t.Error("the handler was cancelled")
			}
			if err := d.Ack(ctx); err != nil {
				t.Error(err)
			}
		})
	}()
	<-begun
	unwanted()
	publish(t, q, l, "next")
	next := make(chan string, 1)
	stop := serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		next <- d.Name
		if err := d.Ack(ctx); err != nil {
			t.Error(err)
		}
	})
	if name := <-next; name != "next" {
		t.Errorf("the new loop was given %s", name)
	}
	<-time.After(3 * time.Second) // longer than AckWait
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDelivery_5_PauseIsAppliedAtCreate(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	l.Paused = true
	publish(t, q, l, "a")
	got := make(chan string, 10)
	h := func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- d.Name
	}
	serve(t, q, l, h)
	nothing(t, got, 300*time.Millisecond, "a lane paused in the store handed out")
	if err := q.DropConsumer(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	nothing(t, got, time.Second, "a lane made again forgot its pause")
	if err := q.Resume(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	receive(t, got, time.Second)
}

func TestDelivery_5_1_ReapedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(2)
	claims := make(chan page.Claim, 10)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		claims <- d.Claim
	})
	publish(t, q, l, "a")
	first := receive(t, claims, 5*time.Second)
	if err := q.DropConsumer(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	publish(t, q, l, "b")
	second := receive(t, claims, 5*time.Second)
	if !first.Less(second) {
		t.Errorf("claim %+v of the new consumer does not outrank %+v", second, first)
	}
}

func TestDelivery_5_6_ReshapeChangesBorrowers(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	alone := newLane(1)
	borrower := alone
	borrower.Connection = page.NewID()
	lender := alone
	lender.Borrowers = []page.ID{borrower.Connection}

	publish(t, q, borrower, "before")
	claims := make(chan page.Claim, 10)
	started, finish := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	served := make(chan error, 1)
	go func() {
		served <- q.Serve(context.Background(), borrower, func(ctx context.Context, d *queue.Delivery) {
			if once.CompareAndSwap(false, true) {
				close(started)
				<-finish
			}
			ack(t)(ctx, d)
			claims <- d.Claim
		})
	}()
	receive(t, started, 5*time.Second)
	reshaped := make(chan error, 1)
	go func() {
		reshaped <- q.Reshape(context.Background(), []queue.Lane{alone, borrower}, []queue.Lane{lender})
	}()
	nothing(t, reshaped, 200*time.Millisecond, "reshape did not wait for the page in flight")
	close(finish)
	if err := receive(t, reshaped, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, served, 5*time.Second); err != queue.ErrChanging {
		t.Errorf("serve of the old lane: %v, want ErrChanging", err)
	}
	old := receive(t, claims, time.Second)

	serve(t, q, lender, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		claims <- d.Claim
	})
	publish(t, q, borrower, "borrowed")
	publish(t, q, alone, "own")
	for range 2 {
		if c := receive(t, claims, 5*time.Second); !old.Less(c) {
			t.Errorf("claim %+v does not outrank %+v", c, old)
		}
	}
}

func TestDelivery_5_6_ServeWithOtherBorrowersReshapes(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	alone := newLane(1)
	borrower := alone
	borrower.Connection = page.NewID()
	lender := alone
	lender.Borrowers = []page.ID{borrower.Connection}
	got := make(chan string, 10)
	h := func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- d.Name
	}
	for i, lane := range []queue.Lane{borrower, lender, borrower, alone, lender} {
		stop := serve(t, q, lane, h)
		name := fmt.Sprint("round.", i)
		on := borrower
		if lane.Connection == alone.Connection && len(lane.Borrowers) == 0 {
			on = alone
		}
		publish(t, q, on, name)
		if n := receive(t, got, 5*time.Second); n != name {
			t.Errorf("got %s, want %s", n, name)
		}
		if err := stop(); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
	}
}
