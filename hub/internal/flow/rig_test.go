package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/hub/internal/egress"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// rig is an engine on a real store and a real queue. Only the system at both
// ends is made here: a table in memory that keeps its own ledger.
type rig struct {
	*Engine
	t      *testing.T
	scope  store.Scope
	memory *memory
	states *states
	stop   func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	s, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(ctx, queue.Config{Dir: filepath.Join(dir, "queue"), SyncAlways: true, AckWait: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := s.EnsureTenant(ctx, "main", "private", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	env, err := s.EnsureEnvironment(ctx, tenant.ID, "default", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, scope: store.Scope{Tenant: tenant.ID, Environment: env.ID}, memory: newMemory(), states: &states{}}
	key, err := page.NewKey("k1", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	typ := r.memory.typ()
	r.Engine = New(Config{
		Store: s, Queue: q, Gateway: gateway.New(gateway.Config{}), Secrets: oneKey{key}, Connections: r.states,
		Types:  func(string) (*connectors.Type, bool) { return typ, true },
		Egress: func(page.ID) egress.Rules { return egress.Rules{} },
		Log:    slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Clock:  time.Now,
	})
	r.states.engine = r.Engine
	if err := q.Ensure(ctx, place(r.scope)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
		s.Close()
	})
	t.Cleanup(r.stop)
	return r
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// oneKey is a secret engine with one data key and no credentials.
type oneKey struct{ key *page.Key }

func (o oneKey) Fields(context.Context, page.ID, page.ID, page.ID) (map[string]string, uint64, error) {
	return nil, 0, nil
}
func (o oneKey) DataKey(context.Context, page.ID) (*page.Key, error)         { return o.key, nil }
func (o oneKey) KeyByID(context.Context, page.ID, string) (*page.Key, error) { return o.key, nil }

// states remembers reports; a connection stays online unless a test says else.
type states struct {
	mu      sync.Mutex
	engine  *Engine
	reports []*fault.Error
	offline *fault.Error
}

func (s *states) Report(ctx context.Context, sc store.Scope, id page.ID, f *fault.Error) error {
	s.mu.Lock()
	s.reports = append(s.reports, f)
	s.offline = f
	s.mu.Unlock()
	return s.engine.StateChanged(ctx, sc, s.state(id))
}

func (s *states) state(id page.ID) model.ConnectionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offline != nil {
		return model.ConnectionState{Connection: id, State: model.Offline, Fault: s.offline}
	}
	return model.ConnectionState{Connection: id, State: model.Online}
}

func (s *states) State(_ context.Context, _ store.Scope, id page.ID) (model.ConnectionState, error) {
	return s.state(id), nil
}

func (s *states) AgentChanged(page.ID) {}

func (s *states) online(ctx context.Context, sc store.Scope, id page.ID) error {
	s.mu.Lock()
	s.offline = nil
	s.mu.Unlock()
	return s.engine.StateChanged(ctx, sc, s.state(id))
}

// memory is both ends of a flow.
type memory struct {
	mu      sync.Mutex
	rows    int                  // of the source: ids 0..rows-1
	applied map[int64]int        // id → how often, the ledger
	inbox   map[string]bool      // pages applied
	fail    func(call int) error // of an import, by its number from 1
	bad     func(id int64) *fault.Error
	imports int
}

func newMemory() *memory { return &memory{applied: map[int64]int{}, inbox: map[string]bool{}} }

type noConn struct{}

func (noConn) Close() error { return nil }

func (m *memory) typ() *connectors.Type {
	return &connectors.Type{
		Name: "memory", Read: m.read, Import: m.put,
		Open: func(context.Context, connectors.Env, connectors.Settings) (connectors.Conn, error) {
			return noConn{}, nil
		},
		Ping: func(context.Context, connectors.Conn) error { return nil },
		ImportsOnce: func(connectors.ImportSpec) connectors.Guarantee {
			return connectors.Guarantee{Level: connectors.ExactlyOnce}
		},
	}
}

var shape = page.NewShape("id", "status")

func (m *memory) read(
	_ context.Context, _ connectors.Conn, _ connectors.Query, after []byte, w *connectors.Writer,
) (connectors.ReadEnd, error) {
	next := 0
	if after != nil {
		fmt.Sscan(string(after), &next)
	}
	for ; next < m.rows; next++ {
		e := w.Record(shape)
		e.Int64(int64(next))
		e.String([]string{"open", "paid"}[min(next%4, 1)])
		at := next + 1
		more, err := w.Done(func() []byte { return fmt.Append(nil, at) })
		if err != nil || !more {
			return connectors.ReadEnd{}, err
		}
	}
	return connectors.ReadEnd{Exhausted: true}, nil
}

func (m *memory) put(
	_ context.Context, _ connectors.Conn, _ connectors.ImportSpec, in connectors.Batch,
) (connectors.Answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.imports++
	if m.fail != nil {
		if err := m.fail(m.imports); err != nil {
			return connectors.Answer{}, err
		}
	}
	records, err := page.DecodeAll(in.Payload)
	if err != nil {
		return connectors.Answer{}, err
	}
	var answer connectors.Answer
	again := m.inbox[in.Page]
	m.inbox[in.Page] = true
	for i, r := range records {
		v, _ := r.Field("id")
		if m.bad != nil {
			if f := m.bad(v.Int()); f != nil {
				answer.Failed = append(answer.Failed, connectors.Failure{Index: i, Fault: f})
				continue
			}
		}
		answer.Applied++
		if !again {
			m.applied[v.Int()]++
		}
	}
	return answer, nil
}

// flow applies two connections and a flow with the given steps.
func (r *rig) flow(name string, pageSize int, steps ...model.Step) {
	r.t.Helper()
	spec := &model.Flow{
		Export: &model.Export{Name: "export", Connection: "source", Table: "t", Key: []string{"id"}, PageSize: pageSize},
		Steps:  steps,
	}
	changes := []store.Change{
		{Kind: model.KindConnection, Name: "source", Spec: encode(r.t, model.Connection{Connector: "memory", Concurrency: 2})},
		{Kind: model.KindConnection, Name: "target", Spec: encode(r.t, model.Connection{Connector: "memory", Concurrency: 2})},
		{Kind: model.KindFlow, Name: name, Spec: encode(r.t, spec)},
	}
	if _, err := r.Store.ApplyObjects(context.Background(), r.scope, "test", changes, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

func encode(t *testing.T, v any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// load is the import step of every test flow.
func load() model.Step {
	return model.Step{Name: "load", Import: &model.Import{Connection: "target", Table: "t", Mode: "insert"}}
}

func paid() model.Step { return model.Step{Name: "paid", Filter: `record.status == "paid"`} }

func (r *rig) start(name string) model.Job {
	r.t.Helper()
	job, err := r.Start(context.Background(), r.scope, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

// wait follows a job until done says so.
func (r *rig) wait(id page.ID, done func(model.Job) bool) model.Job {
	r.t.Helper()
	changed, stop := r.Watch(id)
	defer stop()
	deadline := time.After(30 * time.Second)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		job, err := r.Store.Job(context.Background(), r.scope, id)
		if err != nil {
			r.t.Fatal(err)
		}
		if done(job) {
			return job
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-deadline:
			r.t.Fatalf("job %s is still %s: %+v cause %v", id, job.State, job.Records, job.Cause)
		}
	}
}

func ended(j model.Job) bool { return j.State.Terminal() }

// once checks the ledger of the target: every wanted id once, no other.
func (r *rig) once(want func(id int64) bool) {
	r.t.Helper()
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	for id := range int64(r.memory.rows) {
		n := r.memory.applied[id]
		if want(id) && n != 1 || !want(id) && n != 0 {
			r.t.Fatalf("record %d was applied %d times, wanted %v", id, n, want(id))
		}
	}
}
