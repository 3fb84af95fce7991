package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/hub/internal/queue"
	"ropeway/protocol/page"
)

func TestDelivery_5_3_RestartKeepsMessagesAndDoesNotFreeze(t *testing.T) {
	t.Parallel()
	c := quick(t.TempDir())
	c.AckWait = 0 // 20 s: a freeze would show
	q := open(t, c)
	l := newLane(2)
	publish(t, q, l, names("p", 10)...)
	claims := make(chan page.Claim, 20)
	ctx, crash := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- q.Serve(ctx, l, func(_ context.Context, d *queue.Delivery) {
			claims <- d.Claim // holds the message without a verdict
		})
	}()
	first := receive(t, claims, 5*time.Second)
	receive(t, claims, 5*time.Second)
	crash()
	receive(t, served, 10*time.Second)
	q.Close()

	start := time.Now()
	q = open(t, c)
	seen := newTally()
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		seen.enter(d.Name)
		if !first.Less(d.Claim) || !d.NeedClaim {
			t.Errorf("claim %+v (need %t) after a restart, before %+v", d.Claim, d.NeedClaim, first)
		}
		ack(t)(ctx, d)
	})
	waitFor(t, 10*time.Second, "all ten", func() bool { return seen.count() == 10 })
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the queue stood still for %s after the restart", took)
	}
}

func TestEngineRestartsInPlace(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(3)
	publish(t, q, l, names("before", 20)...)
	seen := newTally()
	gate := make(chan struct{})
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		seen.enter(d.Name)
		<-gate
		_ = d.Ack(ctx)
	})
	waitFor(t, 5*time.Second, "work", func() bool { return seen.count() == 3 })
	if err := q.Restart(); err != nil {
		t.Fatal(err)
	}
	publish(t, q, l, names("after", 5)...)
	close(gate)
	waitFor(t, 20*time.Second, "all messages", func() bool { return seen.count() == 25 })
	waitFor(t, 10*time.Second, "empty queue", func() bool {
		s, err := q.Stats(t.Context(), l)
		return err == nil && s.Queued+s.InFlight == 0
	})
	select {
	case <-q.Wake():
	case <-time.After(5 * time.Second):
		t.Error("no wake event after the restart")
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, quick(dir))
	if q, err := queue.Open(t.Context(), quick(dir)); err == nil {
		q.Close()
		t.Error("a second queue on the same folder was opened")
	}
}

func TestGenerationsGrowOverRestartsAndClockJumps(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "generation")
	var all []int64
	for range 3 {
		g, err := queue.NextGenerations(path, 3)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, g...)
	}
	future := time.Now().Add(24 * time.Hour).UnixNano() // the clock was wrong, then set back
	b := make([]byte, 8)
	for i := range b {
		b[7-i] = byte(future >> (8 * i))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := queue.NextGenerations(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, future)
	all = append(all, g...)
	if !slices.IsSorted(all) || len(slices.Compact(all)) != 12 {
		t.Errorf("generations do not grow strictly: %v", all)
	}
}

// child publishes for ever and prints what was acknowledged.
func child(dir string) {
	c := quick(dir)
	c.SyncAlways = os.Getenv("ROPEWAY_QUEUE_SYNC") != "off"
	q, err := queue.Open(context.Background(), c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv("ROPEWAY_QUEUE_SYNC") == "files only" {
		q.MutateNoNames()
	}
	l := childLane()
	var out sync.Mutex
	var publishers sync.WaitGroup
	for w := range 8 {
		publishers.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%s.%d.%d", os.Getenv("ROPEWAY_QUEUE_RUN"), w, i)
				if err := q.Publish(context.Background(), message(l, name)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				out.Lock()
				fmt.Println(name)
				out.Unlock()
			}
		})
	}
	publishers.Wait()
}

func childLane() queue.Lane {
	var id page.ID
	for i := range id {
		id[i] = byte(i + 1)
	}
	return queue.Lane{Place: queue.Place{Tenant: id, Environment: id}, Connection: id}
}

// startChild runs the publishing child and collects acknowledged names.
func startChild(t *testing.T, dir string, run int, acked *sync.Map) (kill func(), count func() int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ROPEWAY_QUEUE_CHILD="+dir, fmt.Sprint("ROPEWAY_QUEUE_RUN=", run))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			acked.Store(strings.TrimSpace(lines.Text()), true)
			mu.Lock()
			n++
			mu.Unlock()
		}
	}()
	kill = func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	}
	return kill, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestPromise_D1_AcknowledgedSurvivesKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acked sync.Map
	for run := range 3 {
		kill, count := startChild(t, dir, run, &acked)
		waitFor(t, 20*time.Second, "publishes", func() bool { return count() > 40*(run+1) })
		kill()
	}
	q := open(t, quick(dir))
	l := childLane()
	seen := newTally()
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		seen.enter(d.Name)
		if string(d.Body) != "body of "+d.Name {
			t.Errorf("body of %s: %q", d.Name, d.Body)
		}
		ack(t)(ctx, d)
	})
	missing := func() (n int) {
		acked.Range(func(k, _ any) bool {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			if seen.seen[k.(string)] == 0 {
				n++
			}
			return true
		})
		return n
	}
	deadline := time.Now().Add(30 * time.Second)
	for missing() > 0 && time.Now().Before(deadline) {
		<-time.After(20 * time.Millisecond)
	}
	if n := missing(); n > 0 {
		t.Errorf("%d acknowledged messages are lost", n)
	}
}

func TestDelivery_5_7_IdleLoopStops(t *testing.T) {
	t.Parallel()
	c := quick(t.TempDir())
	c.Idle = 300 * time.Millisecond
	q := open(t, c)
	l := newLane(1)
	publish(t, q, l, "a")
	done := make(chan error, 1)
	go func() { done <- q.Serve(context.Background(), l, ack(t)) }()
	if err := receive(t, done, 10*time.Second); err != nil {
		t.Errorf("idle loop: %v", err)
	}
}

func TestDrainLetsHandlersFinish(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	publish(t, q, l, "a", "b")
	started, finish := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	done := make(chan error, 1)
	go func() {
		done <- q.Serve(context.Background(), l, func(ctx context.Context, d *queue.Delivery) {
			close(started) // a second message would panic
			<-finish
			result <- errors.Join(ctx.Err(), d.Ack(ctx))
		})
	}()
	receive(t, started, 5*time.Second)
	q.Drain()
	nothing(t, done, 200*time.Millisecond, "serve did not wait for its handler")
	close(finish)
	if err := receive(t, result, 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := receive(t, done, 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestServeGivesBackWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	c := quick(t.TempDir())
	c.AckWait = 0
	q := open(t, c)
	l := newLane(1)
	publish(t, q, l, "a")
	started := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- q.Serve(ctx, l, func(ctx context.Context, d *queue.Delivery) {
			close(started)
			<-ctx.Done()
		})
	}()
	receive(t, started, 5*time.Second)
	cancel()
	if err := receive(t, done, 10*time.Second); err != nil {
		t.Error(err)
	}
	again := make(chan uint64, 1)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		again <- d.Claim.Delivery
	})
	if n := receive(t, again, 3*time.Second); n != 2 {
		t.Errorf("delivery %d, want 2", n)
	}
}
