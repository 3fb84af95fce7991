package flow

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// lanes knows which connections this process serves now.
type lanes struct {
	mu      sync.Mutex
	running map[page.ID]*serving // by lending connection
	group   sync.WaitGroup
	poke    chan struct{} // asks dispatch for a scan
}

type serving struct {
	cancel  context.CancelFunc
	group   page.ID // agent group it needs; zero = runs in the hub
	version uint64  // of the lending connection
	lane    queue.Lane
}

func newLanes() *lanes {
	return &lanes{running: map[page.ID]*serving{}, poke: make(chan struct{}, 1)}
}

func (l *lanes) wait() { l.group.Wait() }

// scanSoon asks for a scan of all places; it never blocks.
func (l *lanes) scanSoon() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// stop ends the serving of a lane; what is in flight is given back.
func (l *lanes) stop(connection page.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.running[connection]; s != nil {
		s.cancel()
	}
}

// dispatch starts a serving loop for every connection that has work and may run
// it here, until ctx ends (DELIVERY §5.7).
func (e *Engine) dispatch(ctx context.Context) {
	wakes := e.Queue.Wake()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	e.scan(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case w, ok := <-wakes:
			switch {
			case !ok:
				return
			case w.Rescan:
				e.scan(ctx)
			default:
				e.serve(ctx, scope(w.Place), w.Connection)
			}
		case <-tick.C:
			e.scan(ctx)
		case <-e.lanes.poke:
			e.scan(ctx)
		}
	}
}

// scan looks for connections with waiting messages in every place.
func (e *Engine) scan(ctx context.Context) {
	places, err := e.Store.Places(ctx)
	if err != nil {
		e.Log.Error("places unknown", "error", err)
		return
	}
	for _, s := range places {
		active, err := e.Queue.Active(ctx, place(s))
		if err != nil {
			e.Log.Warn("queue not scanned", "error", err)
			continue
		}
		for _, id := range active {
			e.serve(ctx, s, id)
		}
	}
}

// serve starts the loop of the lane that a connection's messages go through, if
// it does not run yet, is online and can be reached from here.
func (e *Engine) serve(ctx context.Context, s store.Scope, connection page.ID) {
	object, lane, group, err := e.lane(ctx, s, connection)
	if err != nil {
		e.Log.Warn("lane not served", "connection", connection, "error", err)
		return
	}
	if !group.IsZero() && !e.Gateway.Online(group) {
		f := fault.Of("E_AGENT_OFFLINE").WithCause("no agent of the group has a tunnel to this hub")
		if err := e.Connections.Report(ctx, s, object.ID, f); err != nil {
			e.Log.Warn("state of connection not recorded", "connection", object.Name, "error", err)
		}
		return
	}
	if state, err := e.Connections.State(ctx, s, object.ID); err != nil || state.State != model.Online {
		return
	}
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	if e.lanes.running[lane.Connection] != nil {
		return
	}
	loop, cancel := context.WithCancel(ctx)
	mine := &serving{cancel: cancel, group: group, version: object.Version, lane: lane}
	e.lanes.running[lane.Connection] = mine
	e.lanes.group.Add(1)
	go func() {
		defer e.lanes.group.Done()
		defer cancel()
		err := e.Queue.Serve(loop, lane, e.handle)
		e.lanes.mu.Lock()
		delete(e.lanes.running, lane.Connection)
		e.lanes.mu.Unlock()
		switch {
		case errors.Is(err, queue.ErrChanging):
			e.lanes.scanSoon() // with its new borrowers
		case err != nil && ctx.Err() == nil:
			e.Log.Warn("lane ended", "connection", object.Name, "error", err)
		}
	}()
}

// lane finds the lending connection behind a connection, and who borrows from it.
func (e *Engine) lane(ctx context.Context, s store.Scope, id page.ID) (model.Object, queue.Lane, page.ID, error) {
	object, err := e.Store.ObjectByID(ctx, s, id)
	if err != nil {
		return object, queue.Lane{}, page.ID{}, err
	}
	ep, err := e.resolve(ctx, object)
	if err != nil {
		return object, queue.Lane{}, page.ID{}, err
	}
	if lender := ep.spec.BorrowFrom; lender != "" {
		if ep, err = e.endpoint(ctx, s, lender); err != nil {
			return object, queue.Lane{}, page.ID{}, err
		}
	}
	borrowers, err := e.borrowers(ctx, s, ep.object.Name)
	if err != nil {
		return object, queue.Lane{}, page.ID{}, err
	}
	lane := queue.Lane{Place: place(s), Connection: ep.object.ID, Level: ep.spec.Concurrency}
	for _, b := range borrowers {
		lane.Borrowers = append(lane.Borrowers, b.ID)
	}
	return ep.object, lane, ep.group, nil
}

// borrowers lists the connections that borrow from the named one.
func (e *Engine) borrowers(ctx context.Context, s store.Scope, lender string) ([]model.Object, error) {
	all, err := e.Store.Objects(ctx, s, model.KindConnection)
	if err != nil {
		return nil, err
	}
	var out []model.Object
	for _, o := range all {
		var spec model.Connection
		if json.Unmarshal(o.Spec, &spec) == nil && spec.BorrowFrom == lender {
			out = append(out, o)
		}
	}
	return out, nil
}

// AgentsChanged is called when a group gained or lost a session: its lanes start
// or stop, and probes of its connections run at once.
func (e *Engine) AgentsChanged(ctx context.Context, group page.ID) {
	if e.Gateway.Online(group) {
		e.Connections.AgentChanged(group)
		e.lanes.scanSoon()
		return
	}
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	for _, s := range e.lanes.running {
		if s.group == group {
			s.cancel()
		}
	}
}

// ConnectionChanged applies a changed connection: its level at once, everything
// else with the next serving of its lane.
func (e *Engine) ConnectionChanged(ctx context.Context, s store.Scope, id page.ID) error {
	_, lane, _, err := e.lane(ctx, s, id)
	if err != nil {
		return err
	}
	if err := e.Queue.SetLevel(ctx, lane); err != nil {
		return err
	}
	e.lanes.stop(lane.Connection)
	e.lanes.scanSoon()
	return nil
}

// StateChanged follows a connection that went offline or online: its lane pauses
// or goes on, and so do its jobs, where they are.
func (e *Engine) StateChanged(ctx context.Context, s store.Scope, state model.ConnectionState) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reactTimeout)
	defer cancel()
	object, lane, _, err := e.lane(ctx, s, state.Connection)
	if err != nil {
		return err
	}
	own := object.ID == state.Connection // a borrower's state does not stop its lender
	if state.State != model.Online {
		if own {
			lane.Paused = true
			if err := e.Queue.Pause(ctx, lane); err != nil {
				e.Log.Warn("lane not paused", "connection", object.Name, "error", err)
			}
		}
		jobs, err := e.Store.PauseConnection(ctx, s, state.Connection, state.Fault, e.Clock())
		e.watch.changed(jobs...)
		return err
	}
	if own {
		if err := e.Queue.Resume(ctx, lane); err != nil {
			e.Log.Warn("lane not resumed", "connection", object.Name, "error", err)
		}
	}
	return e.resumeJobs(ctx, s, state.Connection)
}

// resumeJobs lets the jobs go on that waited for a connection.
func (e *Engine) resumeJobs(ctx context.Context, s store.Scope, connection page.ID) error {
	reads, err := e.Store.ResumeConnection(ctx, s, connection, e.Clock())
	if err != nil {
		return err
	}
	for _, r := range reads {
		e.watch.changed(r.Job.ID)
		if err := e.publishReads(ctx, r); err != nil {
			return err
		}
	}
	e.lanes.scanSoon()
	return nil
}
