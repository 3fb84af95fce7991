package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ropeway/hub/internal/queue"
	"ropeway/tests/powercut"
)

const cuts = 10

// cutWhilePublishing takes the power away n times from a process that publishes,
// and returns how many acknowledged messages are gone at the end.
func cutWhilePublishing(t *testing.T, n int, syncs string, torn bool) (acked, lost int) {
	t.Helper()
	if why := powercut.Missing(); why != "" {
		t.Skip(why)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	t.Setenv("ROPEWAY_QUEUE_SYNC", syncs)
	disk, err := powercut.Mount(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	var names sync.Map
	for run := range n {
		kill, count := startChild(t, disk.Dir()+"/queue", run, &names)
		want := 10 + r.IntN(60)
		waitFor(t, 30*time.Second, "publishes", func() bool { return count() > want })
		if torn && run%2 == 1 {
			disk.CutTorn(r)
		} else {
			disk.Cut()
		}
		kill()
		if err := disk.Remount(); err != nil {
			t.Fatal(err)
		}
	}
	c := quick(disk.Dir() + "/queue")
	q, err := queue.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("the queue does not start after the power cuts: %v", err)
	}
	defer q.Close()
	return countLost(t, q, &names)
}

// countLost reads the queue empty and compares it with the ledger outside.
func countLost(t *testing.T, q *queue.Queue, names *sync.Map) (acked, lost int) {
	t.Helper()
	l := childLane()
	s, err := q.Stats(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	seen := newTally()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- q.Serve(ctx, l, func(ctx context.Context, d *queue.Delivery) {
			if string(d.Body) != "body of "+d.Name {
				t.Errorf("wrong bytes in %s", d.Name)
			}
			seen.enter(d.Name)
			ack(t)(ctx, d)
		})
	}()
	waitFor(t, 60*time.Second, fmt.Sprint(s.Queued, " messages"), func() bool {
		return uint64(seen.count()) >= s.Queued
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	names.Range(func(k, _ any) bool {
		acked++
		if seen.seen[k.(string)] == 0 {
			lost++
		}
		return true
	})
	return acked, lost
}

func TestPromise_D2_AcknowledgedSurvivesPowerCuts(t *testing.T) {
	acked, lost := cutWhilePublishing(t, cuts, "on", true)
	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, acked)
	}
	t.Logf("%d acknowledged over %d cuts", acked, cuts)
}

func TestPromise_D2_MutationWithoutSyncLosesPages(t *testing.T) {
	for _, syncs := range []string{"off", "files only"} {
		t.Run(syncs, func(t *testing.T) {
			acked, lost := cutWhilePublishing(t, 1, syncs, false)
			if lost == 0 {
				t.Errorf("nothing of %d was lost: the power-cut test proves nothing", acked)
			}
			t.Logf("%d of %d lost", lost, acked)
		})
	}
}

func TestPromise_D7_EngineHealsAfterAFullDisk(t *testing.T) {
	t.Parallel()
	if why := powercut.Missing(); why != "" {
		t.Skip(why)
	}
	disk, err := powercut.Mount(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	c := quick(disk.Dir() + "/queue")
	c.ProbeEvery = 500 * time.Millisecond
	q := open(t, c)
	l := newLane(10)
	disk.SetLimit(4 << 20)
	var names sync.Map
	for i := 0; ; i++ {
		m := message(l, fmt.Sprint("p.", i))
		m.Body = make([]byte, 256<<10)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := q.Publish(ctx, m)
		cancel()
		if err != nil {
			break
		}
		names.Store(m.Name, true)
	}
	disk.SetLimit(0)
	start := time.Now()
	waitFor(t, 30*time.Second, "a publish after space is free", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return q.Publish(ctx, message(l, "after")) == nil
	})
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("healed after %s, want 15 s", took)
	}
	seen := newTally()
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		seen.enter(d.Name)
		ack(t)(ctx, d)
	})
	names.Store("after", true)
	waitFor(t, 20*time.Second, "all acknowledged messages", func() bool {
		missing := 0
		names.Range(func(k, _ any) bool {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			if seen.seen[k.(string)] == 0 {
				missing++
			}
			return true
		})
		return missing == 0
	})
}

func TestPromise_D7_IntakeStopsBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	c := quick(t.TempDir())
	c.MinFree = 1 << 60
	q := open(t, c)
	l := newLane(1)
	err := q.Publish(t.Context(), message(l, "a"))
	if err == nil || q.Space() == nil {
		t.Fatal("a page was taken although the disk is below the guard")
	}
	t.Log(err)
	if s, err := q.Size(t.Context(), l.Place); err != nil || s.Messages != 0 {
		t.Errorf("size %+v, %v", s, err)
	}
}
