// Package queue keeps requests and pages durable until someone has worked them
// off: one work-queue stream per tenant and environment, one pull consumer per
// connection that lends slots. It owns the engine (nats-server in this process),
// names, levels, leases and delayed retries. It does not know what a page means,
// who may serve a connection, or which connection is online.
package queue

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ropeway/protocol/page"
)

// Limits of the queue (DELIVERY §5, §9).
const (
	// MaxMessage bounds a message: body, name and headers together, in bytes.
	MaxMessage = 8 << 20
	// BurstLevel is the level of a connection that sets none.
	BurstLevel = 100
	// DefaultAckWait is how long a delivery may stay silent before the engine
	// hands it out again. A beat goes out every quarter of it, and the lease
	// ends after three quarters of it.
	DefaultAckWait = 20 * time.Second
	// DefaultIdle is how long Serve waits for work before it stops.
	DefaultIdle = 60 * time.Second
)

// Config says where the queue lives and how it is timed.
type Config struct {
	// Dir is the folder of the embedded engine; made when missing. One process
	// at a time may use it.
	Dir string
	// Log receives the engine's and the queue's own events; nil discards them.
	Log *slog.Logger
	// SyncAlways makes every publish durable before it is acknowledged. Only a
	// mutation run may turn it off: without it a power cut loses every page.
	SyncAlways bool
	// AckWait is DefaultAckWait when zero. Tests shorten it.
	AckWait time.Duration
	// Idle is DefaultIdle when zero. Tests shorten it.
	Idle time.Duration
	// MinFree is the space in bytes below which Publish refuses new pages, so
	// that the disk never fills up: acknowledgements and deletions still need
	// some. DefaultMinFree when zero, no guard when negative.
	MinFree int64
	// ProbeEvery is the time between two write probes of the engine;
	// DefaultProbeEvery when zero, no probe when negative.
	ProbeEvery time.Duration
}

// Queue is one client of the engine. Its methods may be used from many
// goroutines.
type Queue struct {
	engine *engine
	owner  bool // Close also stops the engine
	log    *slog.Logger
	timing timing

	nc    *nats.Conn
	js    jetstream.JetStream
	wakes *wakes
	known *known
	clock func() time.Duration // since boot, suspend included
	mutation

	closing context.Context
	close   context.CancelFunc
	closed  sync.Once
	tasks   sync.WaitGroup
}

// timing holds the durations that hang together (DELIVERY §5, §9).
type timing struct {
	ackWait, beat, lease, fetch, idle time.Duration
}

func timingOf(c Config) timing {
	t := timing{ackWait: c.AckWait, idle: c.Idle}
	if t.ackWait <= 0 {
		t.ackWait = DefaultAckWait
	}
	if t.idle <= 0 {
		t.idle = DefaultIdle
	}
	t.beat, t.fetch = t.ackWait/4, t.ackWait/4
	t.lease = t.ackWait * 3 / 4
	return t
}

// mutation holds the guards that a mutation run switches off to prove that the
// test of the guard can fail.
type mutation struct {
	noLease bool // verdicts are sent although the lease is over
}

// Open starts the embedded engine in c.Dir, asserts the settings on which the
// delivery promise rests, frees what a former process held in flight, and
// connects to it.
func Open(ctx context.Context, c Config) (*Queue, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", c.Dir, err)
	}
	c.Dir = dir
	e, err := startEngine(c)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", c.Dir, err)
	}
	q, err := e.connect(ctx, c, e)
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("open queue %s: %w", c.Dir, err)
	}
	q.owner = true
	if err := q.RecreateAll(ctx); err != nil {
		q.Close()
		return nil, fmt.Errorf("open queue %s: %w", c.Dir, err)
	}
	if c.ProbeEvery >= 0 {
		q.tasks.Go(func() { q.probe(c.ProbeEvery) })
	}
	q.tasks.Go(q.syncNames)
	return q, nil
}

// Connect returns another client of the same engine, as a second replica would
// have. Closing it leaves the engine alone.
func (q *Queue) Connect(ctx context.Context) (*Queue, error) {
	return q.connectVia(ctx, q.engine)
}

func (q *Queue) connectVia(ctx context.Context, via nats.InProcessConnProvider) (*Queue, error) {
	c := q.engine.config
	p, err := q.engine.connect(ctx, c, via)
	if err != nil {
		return nil, fmt.Errorf("connect to queue %s: %w", c.Dir, err)
	}
	return p, nil
}

// connect makes a client that reaches the engine through via.
func (e *engine) connect(
	ctx context.Context, c Config, via nats.InProcessConnProvider,
) (*Queue, error) {
	q := &Queue{
		engine: e, log: c.Log, timing: timingOf(c),
		wakes: newWakes(), known: newKnown(), clock: bootTime,
	}
	nc, err := nats.Connect("",
		nats.InProcessServer(via),
		nats.Name("ropeway-hub"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 0),
		nats.RetryOnFailedConnect(true),
		nats.PingInterval(10*time.Second),
		nats.ReconnectHandler(func(*nats.Conn) { q.rescan() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			q.log.Warn("queue connection", "error", err)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	q.nc = nc
	q.js, err = jetstream.New(nc,
		jetstream.WithPublishAsyncMaxPending(maxOutstanding),
		jetstream.WithPublishAsyncTimeout(callTimeout),
		jetstream.WithDefaultTimeout(callTimeout),
	)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	q.closing, q.close = context.WithCancel(context.Background())
	if err := q.listenForWakes(); err != nil {
		q.Close()
		return nil, err
	}
	q.tasks.Go(func() { q.wakes.pump(q.closing) })
	return q, ctx.Err()
}

// Close ends this client; the one that Open returned also stops the engine.
// Serve loops must have ended. Messages in flight come back at the next start.
func (q *Queue) Close() error {
	q.closed.Do(func() {
		q.close()
		q.tasks.Wait()
		q.nc.Close()
		if q.owner {
			q.engine.stop()
		}
	})
	return nil
}

// Place is where a stream lives: one environment of one tenant.
type Place struct{ Tenant, Environment page.ID }

func (p Place) valid() error {
	if p.Tenant.IsZero() || p.Environment.IsZero() {
		return fmt.Errorf("place without tenant or environment: %w", ErrInvalid)
	}
	return nil
}
