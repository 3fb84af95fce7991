// Package flow runs flows: it starts jobs, hands read requests and pages to the
// hub or to agents when their connection has a slot, runs the steps between,
// and records what became of every record. It owns the order of DELIVERY §3; it
// does not know how a tunnel, a queue, a database or a connector works inside.
package flow

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"ropeway/connectors"
	"ropeway/hub/internal/egress"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// sweepEvery is how often continuations without a published request are looked
// for (DELIVERY §1.2), and how often the queue is scanned for active lanes.
const sweepEvery = 10 * time.Second

// Secrets is what the engine asks of the secret engine.
type Secrets interface {
	// Fields returns the fields of a credential and their version; E_NO_CREDENTIAL
	// when nobody has set them.
	Fields(ctx context.Context, tenant, environment, id page.ID) (map[string]string, uint64, error)
	// DataKey is the key that seals the tenant's data now.
	DataKey(ctx context.Context, tenant page.ID) (*page.Key, error)
	// KeyByID is the key that sealed something before.
	KeyByID(ctx context.Context, tenant page.ID, id string) (*page.Key, error)
	// MAC is a keyed hash that nobody can guess who has the database only.
	MAC(ctx context.Context, tenant page.ID, purpose string, data []byte) (page.Hash, error)
}

// Connections knows which connections are online.
type Connections interface {
	// Report tells of a fault; its class decides what becomes of the connection.
	Report(ctx context.Context, s store.Scope, id page.ID, f *fault.Error) error
	State(ctx context.Context, s store.Scope, id page.ID) (model.ConnectionState, error)
	// AgentChanged makes offline connections of a group try again at once.
	AgentChanged(group page.ID)
}

// Config is what an engine works with. All fields are required.
type Config struct {
	Store       *store.Store
	Queue       *queue.Queue
	Gateway     *gateway.Gateway
	Secrets     Secrets
	Connections Connections
	Types       func(name string) (*connectors.Type, bool)
	Egress      func(tenant page.ID) egress.Rules
	Log         *slog.Logger
	Clock       func() time.Time
}

// Engine runs the flows of one hub process. Any number of processes may share
// its store and its queue.
type Engine struct {
	Config
	plans  *plans
	lanes  *lanes
	open   *pool
	watch  *watchers
	inHand *inHand
	memory *workMemory
	logins *logins

	// crashAt is set by tests only: an error of it ends the work at a named point
	// as if the process had died there.
	crashAt func(point, message string) error
}

// New returns an engine; Run makes it work.
func New(c Config) *Engine {
	return &Engine{
		Config: c, plans: newPlans(), lanes: newLanes(), open: newPool(), watch: newWatchers(),
		inHand: newInHand(), memory: newWorkMemory(maxWorkMemory), logins: newLogins(c.Clock),
	}
}

// Run serves the queue until ctx ends and everything it started has stopped.
// Work in progress is given back to the queue.
func (e *Engine) Run(ctx context.Context) error {
	defer e.open.closeAll()
	e.catchUp(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { e.dispatch(ctx); return nil })
	group.Go(func() error { e.sweep(ctx); return nil })
	group.Go(func() error { e.open.expire(ctx); return nil })
	group.Go(func() error { e.clean(ctx); return nil })
	err := group.Wait()
	e.lanes.wait()
	return err
}

// catchUp lets jobs go on whose connection came online while nobody listened: a
// hub that died between writing the state and resuming the jobs.
func (e *Engine) catchUp(ctx context.Context) {
	places, err := e.Store.Places(ctx)
	if err != nil {
		e.Log.Error("places unknown", "error", err)
	}
	for _, s := range places {
		connections, err := e.Store.Objects(ctx, s, model.KindConnection)
		if err != nil {
			e.Log.Error("connections unknown", "error", err)
		}
		for _, c := range connections {
			state, err := e.Connections.State(ctx, s, c.ID)
			if err == nil && state.State == model.Online {
				err = e.resumeJobs(ctx, s, c.ID)
			}
			if err != nil {
				e.Log.Warn("jobs of connection not resumed", "connection", c.Name, "error", err)
			}
		}
	}
}

// sweep publishes what a crash left unpublished: continuations of exports and
// fixed pages of retries. Publishing twice is harmless.
func (e *Engine) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		e.publishPending(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *Engine) publishPending(ctx context.Context) {
	reads, err := e.Store.PendingReads(ctx, e.Clock())
	if err != nil {
		e.Log.Error("pending reads unknown", "error", err)
	}
	for _, r := range reads {
		if err := e.publishRead(ctx, r); err != nil {
			e.Log.Error("read request not published", "chain", r.Chain.String(), "error", err)
		}
	}
	fixed, err := e.Store.PendingRetries(ctx, e.Clock())
	if err != nil {
		e.Log.Error("pending retries unknown", "error", err)
	}
	for _, f := range fixed {
		if err := e.publishFixed(ctx, f); err != nil {
			e.Log.Error("retry page not published", "page", f.Published, "error", err)
		}
	}
}

// publishRead puts one read request on the queue of its export's connection.
func (e *Engine) publishRead(ctx context.Context, r store.PendingRead) error {
	err := e.Queue.Publish(ctx, queue.Message{
		Place: place(r.Scope), Connection: r.Connection, Kind: queue.KindRead,
		Name: page.ReadName(r.Chain, r.Request), Job: r.Chain.Job, Step: r.Chain.Step,
		Flow: r.Flow, FlowVersion: r.FlowVersion,
	})
	if err != nil {
		return err
	}
	return e.Store.MarkReadPublished(ctx, r.Scope, r.Chain, r.Request, e.Clock())
}

func place(s store.Scope) queue.Place {
	return queue.Place{Tenant: s.Tenant, Environment: s.Environment}
}

func scope(p queue.Place) store.Scope {
	return store.Scope{Tenant: p.Tenant, Environment: p.Environment}
}
