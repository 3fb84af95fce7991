package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"ropeway/hub/internal/queue"
	"ropeway/protocol/page"
)

func TestDelivery_5_4_LaterFiresOnceAndReplacesItself(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	publish(t, q, l, "a")
	got := make(chan queue.Message, 4)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		got <- d.Message
		if d.Attempt == 0 {
			if err := d.Later(ctx, 20*time.Second, 7); err != nil {
				t.Error(err)
			}
			return
		}
		ack(t)(ctx, d)
	})
	first := receive(t, got, 5*time.Second)
	for attempt := range uint32(3) { // each replaces the one before
		first.Attempt = attempt + 1
		if err := q.PublishLater(t.Context(), first, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	again := receive(t, got, 10*time.Second)
	if again.Attempt != 3 || again.Name != "a" || string(again.Body) != "body of a" {
		t.Errorf("fired %+v", again)
	}
	nothing(t, got, 2500*time.Millisecond, "a replaced schedule fired too")
	if s, err := q.Size(t.Context(), l.Place); err != nil || s.Messages != 0 {
		t.Errorf("left behind: %+v, %v", s, err)
	}
}

func TestDelivery_5_4_LaterSurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := open(t, quick(dir))
	l := newLane(1)
	m := message(l, "a")
	m.Attempt = 2
	if err := q.PublishLater(t.Context(), m, time.Second); err != nil {
		t.Fatal(err)
	}
	q.Close()
	q = open(t, quick(dir))
	got := make(chan uint32, 1)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- d.Attempt
	})
	if n := receive(t, got, 10*time.Second); n != 2 {
		t.Errorf("attempt %d", n)
	}
}

func TestDelivery_5_7_WakeAndActive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := open(t, quick(dir))
	other := connect(t, q)
	l := newLane(1)
	publish(t, q, l, "a")
	want := queue.WakeEvent{Place: l.Place, Connection: l.Connection}
	for name, r := range map[string]*queue.Queue{"publisher": q, "other replica": other} {
		if got := receive(t, r.Wake(), 5*time.Second); got != want {
			t.Errorf("%s woke for %+v", name, got)
		}
	}
	idle := newLane(1)
	idle.Place = l.Place
	active := func(q *queue.Queue, want ...page.ID) {
		t.Helper()
		got, err := q.Active(t.Context(), l.Place)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("active %v, %v; want %v", got, err, want)
		}
	}
	active(q, l.Connection)
	q.Close()
	q = open(t, quick(dir))
	active(q, l.Connection) // a new process finds it
	stop := serve(t, q, l, ack(t))
	waitFor(t, 5*time.Second, "empty", func() bool {
		s, err := q.Size(t.Context(), l.Place)
		return err == nil && s.Messages == 0
	})
	active(q)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestStatsCountQueuedInFlightAndAge(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(2)
	before := time.Now().Add(-time.Second)
	if s, err := q.Stats(t.Context(), l); err != nil || s != (queue.Stats{}) {
		t.Errorf("empty: %+v, %v", s, err)
	}
	publish(t, q, l, names("p", 5)...)
	gate := make(chan struct{})
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		<-gate
		ack(t)(ctx, d)
	})
	waitFor(t, 5*time.Second, "2 in flight, 3 queued", func() bool {
		s, err := q.Stats(t.Context(), l)
		return err == nil && s.InFlight == 2 && s.Queued == 3 &&
			s.Oldest.After(before) && s.Oldest.Before(time.Now())
	})
	close(gate)
}

func TestPurge(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	other := l
	other.Connection = page.NewID()
	job := page.NewID()
	for i := range 6 {
		for _, lane := range []queue.Lane{l, other} {
			m := message(lane, fmt.Sprint(lane.Connection, ".", i))
			if i%2 == 0 {
				m.Job = job
			}
			do := q.Publish
			if i > 3 {
				do = func(ctx context.Context, m queue.Message) error {
					return q.PublishLater(ctx, m, time.Hour)
				}
			}
			if err := do(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := q.PurgeJob(t.Context(), l.Place, job); err != nil || n != 6 {
		t.Errorf("purge job: %d, %v; want 6", n, err)
	}
	if n, err := q.PurgeConnection(t.Context(), l.Place, l.Connection); err != nil || n != 3 {
		t.Errorf("purge connection: %d, %v; want 3", n, err)
	}
	if s, err := q.Size(t.Context(), l.Place); err != nil || s.Messages != 3 {
		t.Errorf("left: %+v, %v; want the other connection's 3", s, err)
	}
}
