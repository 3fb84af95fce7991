package flow

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
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
	back    map[page.ID]struct{} // agent groups that have an agent again
	group   sync.WaitGroup
	poke    chan struct{} // asks dispatch for a scan
}

type serving struct {
	unwanted context.CancelFunc // ends fetching; what is in hand goes on
	group    page.ID            // agent group it needs; zero = runs in the hub
	lane     queue.Lane
}

func newLanes() *lanes {
	return &lanes{running: map[page.ID]*serving{}, back: map[page.ID]struct{}{}, poke: make(chan struct{}, 1)}
}

func (l *lanes) wait() { l.group.Wait() }

// scanSoon asks for a scan of all places; it never blocks.
func (l *lanes) scanSoon() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// stop ends the serving of the lanes that unwanted names. What is in hand goes on:
// nothing is cancelled or done again because a level or an agent changed. Another
// serving may begin at once.
func (l *lanes) stop(unwanted func(*serving) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.running {
		if unwanted(s) {
			s.unwanted()
			delete(l.running, id)
		}
	}
}

// begin notes a serving unless the lane has one.
func (l *lanes) begin(s *serving) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[s.lane.Connection] != nil {
		return false
	}
	l.running[s.lane.Connection] = s
	l.group.Add(1)
	return true
}

func (l *lanes) end(s *serving) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[s.lane.Connection] == s {
		delete(l.running, s.lane.Connection)
	}
	l.group.Done()
}

// takeBack returns the groups that have an agent again since the last time.
func (l *lanes) takeBack() map[page.ID]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	back := l.back
	l.back = map[page.ID]struct{}{}
	return back
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
			for group := range e.lanes.takeBack() {
				e.marksFor(ctx, group)
			}
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
		if err := e.report(ctx, s, object.ID, f); err != nil {
			e.Log.Warn("state of connection not recorded", "connection", object.Name, "error", err)
		}
		return
	}
	if state, err := e.Connections.State(ctx, s, object.ID); err != nil || state.State != model.Online {
		return
	}
	wanted, unwanted := context.WithCancel(ctx)
	mine := &serving{unwanted: unwanted, group: group, lane: lane}
	if !e.lanes.begin(mine) {
		unwanted()
		return
	}
	if !group.IsZero() && !e.Gateway.Online(group) {
		unwanted() // it left in between, and nobody could stop this one
	}
	go e.serveLane(ctx, wanted, mine, object.Name)
}

// serveLane serves a lane until nothing comes, or it is not wanted here any more.
func (e *Engine) serveLane(ctx, wanted context.Context, s *serving, name string) {
	defer s.unwanted()
	begun := time.Now()
	err := e.Queue.ServeWhile(ctx, wanted, s.lane, func(ctx context.Context, d *queue.Delivery) {
		e.handle(ctx, d, s.lane.Connection)
	})
	e.lanes.end(s)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, queue.ErrChanging):
		e.lanes.scanSoon() // with its new borrowers
	case err != nil:
		e.Log.Warn("lane ended", "connection", name, "error", err)
	case time.Since(begun) > time.Second, wanted.Err() != nil:
		e.lanes.scanSoon() // what came in its last moment would wait for the next scan
	}
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
	if !e.Gateway.Online(group) {
		e.lanes.stop(func(s *serving) bool { return s.group == group })
		return
	}
	e.lanes.mu.Lock()
	e.lanes.back[group] = struct{}{}
	e.lanes.mu.Unlock()
	e.Connections.AgentChanged(group)
	e.lanes.scanSoon()
}

// ConnectionChanged applies a changed connection: its level at once, settings with
// the next request. Only another lender, other borrowers or another group need the
// lane to be served anew.
func (e *Engine) ConnectionChanged(ctx context.Context, s store.Scope, id page.ID) error {
	_, lane, group, err := e.lane(ctx, s, id)
	if err != nil {
		return err
	}
	if err := e.Queue.SetLevel(ctx, lane); err != nil {
		return err
	}
	e.lanes.stop(func(s *serving) bool {
		switch {
		case s.lane.Connection == lane.Connection:
			return s.group != group || !sameIDs(s.lane.Borrowers, lane.Borrowers)
		case s.lane.Connection == id:
			return true // it borrows now
		}
		return slices.Contains(s.lane.Borrowers, id) // it borrowed there
	})
	e.lanes.scanSoon()
	return nil
}

func sameIDs(a, b []page.ID) bool {
	for _, id := range a {
		if !slices.Contains(b, id) {
			return false
		}
	}
	return len(a) == len(b)
}

// StateChanged follows a connection that went offline or online: its lane pauses
// or goes on, and so do its jobs, where they are.
func (e *Engine) StateChanged(ctx context.Context, s store.Scope, state model.ConnectionState) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reactTimeout)
	defer cancel()
	object, lane, _, err := e.lane(ctx, s, state.Connection)
	if fault.CodeOf(err) == "E_NOT_FOUND" {
		return nil // deleted meanwhile, or what it refers to: nothing can run over it
	}
	if err != nil {
		return err
	}
	if state, err = e.Connections.State(ctx, s, state.Connection); err != nil {
		return err // and not what it was when the caller looked
	}
	own := object.ID == state.Connection // a borrower's state does not stop its lender
	if state.State != model.Online {
		var notPaused error
		if own {
			lane.Paused = true
			notPaused = e.Queue.Pause(ctx, lane)
		}
		jobs, err := e.Store.PauseConnection(ctx, s, state.Connection, e.Clock())
		e.watch.changed(jobs...)
		return errors.Join(notPaused, err) // it is followed again until it succeeds
	}
	var notResumed error
	if own {
		notResumed = e.Queue.Resume(ctx, lane)
	}
	return errors.Join(notResumed, e.resumeJobs(ctx, s, state.Connection))
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
