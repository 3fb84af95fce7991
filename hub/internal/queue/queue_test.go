package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"ropeway/hub/internal/queue"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("ROPEWAY_QUEUE_CHILD"); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m,
		// The engine's logger of file-store states outlives Shutdown by a moment.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushLoop"),
	)
}

// quick is a queue whose AckWait is two seconds: lease 1.5 s, beats 0.5 s.
func quick(dir string) queue.Config {
	return queue.Config{
		Dir: dir, SyncAlways: true, AckWait: 2 * time.Second, MinFree: -1, ProbeEvery: -1,
	}
}

func open(t *testing.T, c queue.Config) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func connect(t *testing.T, q *queue.Queue) *queue.Queue {
	t.Helper()
	p, err := q.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newLane(level int) queue.Lane {
	return queue.Lane{
		Place:      queue.Place{Tenant: page.NewID(), Environment: page.NewID()},
		Connection: page.NewID(), Level: level,
	}
}

func message(l queue.Lane, name string) queue.Message {
	return queue.Message{
		Place: l.Place, Connection: l.Connection, Name: name, Kind: queue.KindPage,
		Job: page.NewID(), Step: "import", Flow: page.NewID(), FlowVersion: 3,
		Body: []byte("body of " + name),
	}
}

func publish(t *testing.T, q *queue.Queue, l queue.Lane, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := q.Publish(t.Context(), message(l, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s.%d", prefix, i)
	}
	return out
}

// serve runs Serve in the background until the test ends or stop is called.
func serve(t *testing.T, q *queue.Queue, l queue.Lane, h queue.Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Serve(ctx, l, h) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, queue.ErrChanging) {
			t.Errorf("serve: %v", err)
		}
	})
	return stop
}

// waitFor polls until ok or fails after within.
func waitFor(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// receive takes one value or fails.
func receive[T any](t *testing.T, ch <-chan T, within time.Duration) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(within):
		t.Fatalf("nothing came within %s", within)
		panic("unreachable")
	}
}

// nothing fails if a value comes within d.
func nothing[T any](t *testing.T, ch <-chan T, d time.Duration, what string) {
	t.Helper()
	select {
	case v := <-ch:
		t.Fatalf("%s: %v", what, v)
	case <-time.After(d):
	}
}

// tally counts what handlers see.
type tally struct {
	mu       sync.Mutex
	seen     map[string]int
	inFlight atomic.Int64
	most     atomic.Int64
}

func newTally() *tally { return &tally{seen: map[string]int{}} }

func (c *tally) enter(name string) (leave func()) {
	n := c.inFlight.Add(1)
	for {
		m := c.most.Load()
		if n <= m || c.most.CompareAndSwap(m, n) {
			break
		}
	}
	c.mu.Lock()
	c.seen[name]++
	c.mu.Unlock()
	return func() { c.inFlight.Add(-1) }
}

func (c *tally) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func (c *tally) repeated() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range c.seen {
		if n > 1 {
			out = append(out, fmt.Sprintf("%s ×%d", name, n))
		}
	}
	return out
}

func ack(t *testing.T) queue.Handler {
	return func(ctx context.Context, d *queue.Delivery) {
		if err := d.Ack(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("ack %s: %v", d.Name, err)
		}
	}
}

func TestDelivery_5_EngineSettingsAreReadBack(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	if !q.SyncAlways() {
		t.Error("the engine does not sync always")
	}
	if q.Listens() {
		t.Error("the engine has opened a port")
	}
	l := newLane(3)
	if err := q.Ensure(t.Context(), l.Place); err != nil {
		t.Fatal(err)
	}
	c, err := q.StreamConfig(t.Context(), l.Place)
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxBytes > 0 || c.MaxMsgs > 0 || c.MaxAge > 0 || c.MaxConsumers > 0 ||
		c.Retention != jetstream.WorkQueuePolicy || c.Storage != jetstream.FileStorage ||
		!c.AllowMsgSchedules || !c.AllowRollup || !c.AllowAtomicPublish {
		t.Errorf("stream settings: %+v", c)
	}
	stop := serve(t, q, l, ack(t))
	publish(t, q, l, "x")
	var got jetstream.ConsumerConfig
	waitFor(t, 5*time.Second, "consumer", func() bool {
		got, err = q.ConsumerConfig(t.Context(), l)
		return err == nil
	})
	if got.MaxAckPending != 3 || got.AckWait != 2*time.Second || got.MaxDeliver != -1 ||
		got.InactiveThreshold != 5*time.Minute || got.AckPolicy != jetstream.AckExplicitPolicy {
		t.Errorf("consumer settings: %+v", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDelivery_5_StreamWithLimitsIsRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*jetstream.StreamConfig){
		"bytes":     func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
		"messages":  func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 },
		"age":       func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"consumers": func(c *jetstream.StreamConfig) { c.MaxConsumers = 5 },
		"retention": func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy },
		"schedules": func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = false },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := open(t, quick(dir))
			l := newLane(1)
			if err := q.MakeStream(t.Context(), l.Place, change); err != nil {
				t.Fatal(err)
			}
			if err := q.Publish(t.Context(), message(l, "a")); !errors.Is(err, queue.ErrUnsafe) {
				t.Errorf("publish: %v, want ErrUnsafe", err)
			}
			q.Close()
			if _, err := queue.Open(t.Context(), quick(dir)); !errors.Is(err, queue.ErrUnsafe) {
				t.Errorf("open: %v, want ErrUnsafe", err)
			}
		})
	}
}

func TestMessageTravelsUnchanged(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	want := message(l, "job.step:00ff:12/map/import.3")
	want.Attempt = 4
	want.Kind = queue.KindRead
	if err := q.Publish(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got := make(chan *queue.Delivery, 1)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- d
	})
	d := receive(t, got, 5*time.Second)
	if diff := cmp.Diff(want, d.Message); diff != "" {
		t.Errorf("message changed (-want +got):\n%s", diff)
	}
	if d.Claim.Delivery != 1 || d.Claim.Created == 0 {
		t.Errorf("claim %+v", d.Claim)
	}
	if !d.NeedClaim {
		t.Error("the message is older than the consumer, so its claim must be stored")
	}
	publish(t, q, l, "younger")
	if d := receive(t, got, 5*time.Second); d.NeedClaim {
		t.Error("a message younger than the consumer, delivered once, needs no claim")
	}
}

func TestDelivery_9_DedupByName(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(5)
	publish(t, q, l, "a", "b", "a", "a", "b")
	if got, err := q.Stats(t.Context(), l); err != nil || got.Queued != 2 {
		t.Errorf("stats %+v, %v; want 2 queued", got, err)
	}
}

func TestDelivery_5_MessageIsBoundAt8MiB(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	m := message(l, "large")
	m.Body = make([]byte, queue.MaxMessage-4<<10)
	if err := q.Publish(t.Context(), m); err != nil {
		t.Errorf("a message just below the bound: %v", err)
	}
	for _, size := range []int{queue.MaxMessage - 100, queue.MaxMessage, queue.MaxMessage + 1} {
		m.Name, m.Body = fmt.Sprint("too-large.", size), make([]byte, size)
		for what, do := range map[string]func() error{
			"now":   func() error { return q.Publish(t.Context(), m) },
			"later": func() error { return q.PublishLater(t.Context(), m, time.Second) },
		} {
			if err := do(); fault.ClassOf(err) != fault.TooLarge {
				t.Errorf("%d bytes %s: %v, want class too_large", size, what, err)
			}
		}
	}
	got := make(chan int, 1)
	serve(t, q, l, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- len(d.Body)
	})
	if n := receive(t, got, 10*time.Second); n != queue.MaxMessage-4<<10 {
		t.Errorf("body of %d bytes", n)
	}
}

func TestHostileNamesAndIDsAreRefused(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	l := newLane(1)
	cases := map[string]func(*queue.Message){
		"empty name":      func(m *queue.Message) { m.Name = "" },
		"line end":        func(m *queue.Message) { m.Name = "a\r\nNats-Rollup: all" },
		"newline":         func(m *queue.Message) { m.Name = "a\nb" },
		"NUL":             func(m *queue.Message) { m.Name = "a\x00b" },
		"space":           func(m *queue.Message) { m.Name = "a b" },
		"unicode":         func(m *queue.Message) { m.Name = "a\u202eb" },
		"long":            func(m *queue.Message) { m.Name = strings.Repeat("a", 513) },
		"step":            func(m *queue.Message) { m.Step = "x\r\nNats-Schedule: @every 1s" },
		"kind":            func(m *queue.Message) { m.Kind = "page\r\n" },
		"no tenant":       func(m *queue.Message) { m.Tenant = page.ID{} },
		"no environment":  func(m *queue.Message) { m.Environment = page.ID{} },
		"no connection":   func(m *queue.Message) { m.Connection = page.ID{} },
		"wildcard tenant": func(m *queue.Message) { m.Tenant, _ = page.ParseID(">") },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			m := message(l, "good")
			spoil(&m)
			if err := q.Publish(t.Context(), m); !errors.Is(err, queue.ErrInvalid) {
				t.Errorf("publish: %v, want ErrInvalid", err)
			}
			if err := q.PublishLater(t.Context(), m, 0); !errors.Is(err, queue.ErrInvalid) {
				t.Errorf("publish later: %v, want ErrInvalid", err)
			}
		})
	}
	for _, name := range []string{">", "*", "a.b.>", "$JS.API.>", "../..", "%00", strings.Repeat("ä", 1)} {
		m := message(l, name)
		err := q.Publish(t.Context(), m)
		if name == "ä" {
			if !errors.Is(err, queue.ErrInvalid) {
				t.Errorf("name %q: %v", name, err)
			}
		} else if err != nil {
			t.Errorf("name %q is only hashed and must do no harm: %v", name, err)
		}
	}
	if s, err := q.Stats(t.Context(), l); err != nil || s.Queued != 6 {
		t.Errorf("stats %+v, %v; want the 6 odd names, each once", s, err)
	}
	lanes := map[string]queue.Lane{
		"zero":           {},
		"level":          {Place: l.Place, Connection: l.Connection, Level: 101},
		"negative level": {Place: l.Place, Connection: l.Connection, Level: -1},
		"borrows itself": {Place: l.Place, Connection: l.Connection, Borrowers: []page.ID{l.Connection}},
	}
	for name, bad := range lanes {
		if err := q.Serve(t.Context(), bad, nil); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("serve lane %s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	q := open(t, quick(t.TempDir()))
	mine, theirs := newLane(1), newLane(1)
	theirs.Connection = mine.Connection // same id in another place
	publish(t, q, theirs, "secret")
	publish(t, q, mine, "own")
	got := make(chan string, 2)
	serve(t, q, mine, func(ctx context.Context, d *queue.Delivery) {
		ack(t)(ctx, d)
		got <- d.Name
	})
	if name := receive(t, got, 5*time.Second); name != "own" {
		t.Errorf("got %s", name)
	}
	nothing(t, got, 300*time.Millisecond, "another tenant's message")
}
