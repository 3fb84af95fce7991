package flow

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/hub/internal/connection"
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

	secrets *oneKey
	dir     string
	dying   chan struct{} // closed when the engine is stopped
}

func newRig(t *testing.T, prepare ...func(*rig)) *rig {
	return newRigAt(t, t.TempDir(), newMemory(), prepare...)
}

// newRigAt begins on what an earlier rig left in dir.
func newRigAt(t *testing.T, dir string, ends *memory, prepare ...func(*rig)) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
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
	r := &rig{t: t, scope: store.Scope{Tenant: tenant.ID, Environment: env.ID}, memory: ends, dir: dir, dying: make(chan struct{})}
	key, err := page.NewKey("k1", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	typ := r.memory.typ()
	r.secrets = &oneKey{key: key}
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	r.states = newStates(r, s, log)
	r.Engine = New(Config{
		Store: s, Queue: q, Gateway: gateway.New(gateway.Config{}), Secrets: r.secrets, Connections: r.states,
		Types:  func(string) (*connectors.Type, bool) { return typ, true },
		Egress: func(page.ID) egress.Rules { return egress.Rules{} },
		Log:    log,
		Clock:  time.Now,
	})
	r.states.engine = r.Engine
	if err := q.Ensure(ctx, place(r.scope)); err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(r)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		close(r.dying)
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

// oneKey is a secret engine with one data key and one credential.
type oneKey struct {
	key *page.Key

	mu       sync.Mutex
	password string
	version  uint64
}

func (o *oneKey) Fields(context.Context, page.ID, page.ID, page.ID) (map[string]string, uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return map[string]string{"password": o.password}, o.version, nil
}

func (o *oneKey) set(password string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.password = password
	o.version++
}

func (o *oneKey) DataKey(context.Context, page.ID) (*page.Key, error)         { return o.key, nil }
func (o *oneKey) KeyByID(context.Context, page.ID, string) (*page.Key, error) { return o.key, nil }

func (o *oneKey) MAC(_ context.Context, _ page.ID, purpose string, data []byte) (page.Hash, error) {
	return page.Hash(sha256.Sum256(append([]byte(purpose), data...))), nil
}

// states is the real manager of connections; what it was told is remembered. It
// probes nothing unless a test runs it.
type states struct {
	*connection.Manager
	engine *Engine

	mu      sync.Mutex
	reports []*fault.Error
}

func newStates(r *rig, s *store.Store, log *slog.Logger) *states {
	out := &states{}
	out.Manager = connection.New(connection.Config{
		Store: s, Log: log, Clock: time.Now,
		Facts: func(context.Context, store.Scope, page.ID) (connection.Facts, error) {
			_, version, err := r.secrets.Fields(context.Background(), page.ID{}, page.ID{}, page.ID{})
			return connection.Facts{Secret: version}, err
		},
		Probe: func(ctx context.Context, sc store.Scope, id page.ID) error { return out.engine.Probe(ctx, sc, id) },
		OnChange: func(ctx context.Context, sc store.Scope, state model.ConnectionState) error {
			return out.engine.StateChanged(ctx, sc, state)
		},
	})
	return out
}

// Report remembers what the manager is told.
func (s *states) Report(ctx context.Context, sc store.Scope, id page.ID, f *fault.Error) error {
	s.mu.Lock()
	s.reports = append(s.reports, f)
	s.mu.Unlock()
	return s.Manager.Report(ctx, sc, id, f)
}

// online takes a connection online, as a probe does that succeeded.
func (s *states) online(ctx context.Context, sc store.Scope, id page.ID) error {
	_, _, err := s.engine.Store.ChangeConnection(ctx, sc, id,
		func(model.ConnectionState) (model.ConnectionState, bool) {
			return model.ConnectionState{State: model.Online}, true
		})
	if err != nil {
		return err
	}
	state, err := s.State(ctx, sc, id)
	if err != nil {
		return err
	}
	return s.engine.StateChanged(ctx, sc, state)
}

// memory is both ends of a flow.
type memory struct {
	mu             sync.Mutex
	rows           int                  // of the source: ids 0..rows-1
	applied        map[int64]int        // id → how often, the ledger
	inbox          map[string]bool      // pages applied
	fail           func(call int) error // of an import, by its number from 1
	bad            func(id int64) *fault.Error
	imports        int
	reads          int                                                  // begun
	atRow          func(ctx context.Context, read, next int) error      // before a row is handed out
	atPut          func(ctx context.Context, in connectors.Batch) error // before a page is applied, without the lock
	login          func(password string) error                          // of every request
	logins         int
	noInbox        bool // every execution applies and answers anew
	opened, closed int
}

func newMemory() *memory { return &memory{applied: map[int64]int{}, inbox: map[string]bool{}} }

// see runs f under the lock of the ends.
func (m *memory) see(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

type memoryConn struct {
	m   *memory
	env connectors.Env
}

func (c memoryConn) Close() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.closed++
	return nil
}

// logIn is what every request does first.
func (c memoryConn) logIn(ctx context.Context) error {
	if c.m.login == nil {
		return nil
	}
	fields, err := c.env.Secret(ctx)
	if err != nil {
		return err
	}
	c.m.mu.Lock()
	c.m.logins++
	c.m.mu.Unlock()
	return c.m.login(fields["password"])
}

func (m *memory) typ() *connectors.Type {
	return &connectors.Type{
		Name: "memory", Read: m.read, Import: m.put,
		Open: func(_ context.Context, env connectors.Env, _ connectors.Settings) (connectors.Conn, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.opened++
			return memoryConn{m, env}, nil
		},
		Ping: func(ctx context.Context, c connectors.Conn) error { return c.(memoryConn).logIn(ctx) },
		ImportsOnce: func(connectors.ImportSpec) connectors.Guarantee {
			return connectors.Guarantee{Level: connectors.ExactlyOnce}
		},
	}
}

var shape = page.NewShape("id", "status")

func (m *memory) read(
	ctx context.Context, c connectors.Conn, q connectors.Query, after []byte, w *connectors.Writer,
) (connectors.ReadEnd, error) {
	if err := c.(memoryConn).logIn(ctx); err != nil {
		return connectors.ReadEnd{}, err
	}
	m.mu.Lock()
	m.reads++
	read := m.reads
	m.mu.Unlock()
	next := 0
	if after != nil {
		fmt.Sscan(string(after), &next)
	}
	for ; next < m.rows; next++ {
		if m.atRow != nil {
			if err := m.atRow(ctx, read, next); err != nil {
				return connectors.ReadEnd{}, err
			}
		}
		e := w.Record(shape)
		e.Int64(int64(next))
		e.String([]string{"open", "paid"}[min(next%4, 1)])
		at := next + 1
		cursor := func() []byte { return fmt.Append(nil, at) }
		if !q.Resumable() {
			cursor = nil
		}
		more, err := w.Done(cursor)
		if err != nil || !more {
			return connectors.ReadEnd{}, err
		}
	}
	return connectors.ReadEnd{Exhausted: true}, nil
}

func (m *memory) put(
	ctx context.Context, c connectors.Conn, _ connectors.ImportSpec, in connectors.Batch,
) (connectors.Answer, error) {
	if err := c.(memoryConn).logIn(ctx); err != nil {
		return connectors.Answer{}, err
	}
	if m.atPut != nil {
		if err := m.atPut(ctx, in); err != nil {
			return connectors.Answer{}, err
		}
	}
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
		if !again || m.noInbox {
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
	r.apply(name, spec, model.Connection{Connector: "memory", Concurrency: 2})
}

// apply applies a flow between two connections, of which target is the second.
func (r *rig) apply(name string, spec *model.Flow, target model.Connection) {
	r.t.Helper()
	changes := []store.Change{
		{Kind: model.KindCredential, Name: "login", Spec: encode(r.t, model.Credential{Custody: model.CustodyVault})},
		{Kind: model.KindConnection, Name: "source", Spec: encode(r.t, model.Connection{Connector: "memory", Concurrency: 2})},
		{Kind: model.KindConnection, Name: "target", Spec: encode(r.t, target)},
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
