package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/agent/internal/buffer"
	"ropeway/agent/internal/policy"
	"ropeway/agent/internal/runner"
	"ropeway/agent/internal/uplink"
	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stream is half of an in-memory body stream: one pipe each way.
type stream struct{ in, out net.Conn }

func streams() (agent, hub *stream) {
	a1, a2 := net.Pipe()
	b1, b2 := net.Pipe()
	return &stream{a1, b1}, &stream{b2, a2}
}

func (s *stream) Read(b []byte) (int, error)         { return s.in.Read(b) }
func (s *stream) Write(b []byte) (int, error)        { return s.out.Write(b) }
func (s *stream) CloseWrite() error                  { return s.out.Close() }
func (s *stream) Close() error                       { return errors.Join(s.in.Close(), s.out.Close()) }
func (s *stream) Reset() error                       { return s.Close() }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.in.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.out.SetWriteDeadline(t) }
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

var _ tunnel.Stream = (*stream)(nil)

// system is the source and target of the connector in these tests: numbers to
// read, and a list of what was imported.
type system struct {
	mu       sync.Mutex
	records  int
	opened   int
	closed   int
	secrets  []string
	imports  int
	imported []string
	gate     chan struct{} // an import waits for it; nil = open
	started  chan struct{} // told when an import has begun
	fail     error         // of the next reads
	hold     bool          // a read waits for its cancel
	deleted  map[int]bool  // rows that are gone since
	panics   bool
}

var shape = page.NewShape("id")

func (y *system) Type() *connectors.Type {
	return &connectors.Type{
		Name: "numbers", Title: "Numbers",
		Settings:    connectors.Schema{Fields: []connectors.Field{{Name: "host", Type: connectors.String}}},
		Credential:  connectors.Schema{},
		Target:      func(s connectors.Settings) (string, error) { return s.String("host"), nil },
		Open:        y.open,
		Ping:        func(context.Context, connectors.Conn) error { return nil },
		Read:        y.read,
		Import:      y.apply,
		ImportsOnce: func(connectors.ImportSpec) connectors.Guarantee { return connectors.Guarantee{} },
	}
}

// life is how often connections were opened and closed, and with which secrets.
func (y *system) life() (opened, closed int, secrets string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.opened, y.closed, fmt.Sprint(y.secrets)
}

type conn struct{ y *system }

func (c conn) Close() error {
	c.y.mu.Lock()
	defer c.y.mu.Unlock()
	c.y.closed++
	return nil
}

func (y *system) open(ctx context.Context, env connectors.Env, _ connectors.Settings) (connectors.Conn, error) {
	secret, err := env.Secret(ctx)
	if err != nil {
		return nil, err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.opened++
	y.secrets = append(y.secrets, secret["password"])
	return conn{y}, nil
}

func (y *system) read(ctx context.Context, _ connectors.Conn, q connectors.Query, after []byte, w *connectors.Writer) (connectors.ReadEnd, error) {
	if y.hold {
		<-ctx.Done()
		return connectors.ReadEnd{}, context.Cause(ctx)
	}
	next := 0
	if len(after) > 0 {
		n, err := strconv.Atoi(string(after))
		if err != nil {
			return connectors.ReadEnd{}, err
		}
		next = n + 1
	}
	for ; next < y.records; next++ {
		if err := ctx.Err(); err != nil {
			return connectors.ReadEnd{}, context.Cause(ctx)
		}
		y.mu.Lock()
		gone, panics := y.deleted[next], y.panics
		y.mu.Unlock()
		if panics {
			panic("canary")
		}
		if gone {
			continue
		}
		e := w.Record(shape)
		e.Int64(int64(next))
		var cursor func() []byte
		if at := next; q.Resumable() {
			cursor = func() []byte { return []byte(strconv.Itoa(at)) }
		}
		more, err := w.Done(cursor)
		if err != nil || !more {
			return connectors.ReadEnd{}, err
		}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	return connectors.ReadEnd{Exhausted: true}, y.fail
}

func (y *system) apply(ctx context.Context, _ connectors.Conn, spec connectors.ImportSpec, in connectors.Batch) (connectors.Answer, error) {
	y.mu.Lock()
	y.imports++
	gate, started := y.gate, y.started
	y.mu.Unlock()
	if started != nil {
		started <- struct{}{}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return connectors.Answer{}, context.Cause(ctx)
		}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.imported = append(y.imported, in.Page)
	return connectors.Answer{Applied: in.Records, Inbox: spec.Inbox != connectors.InboxFalse}, nil
}

// site is one agent: a runner with policy and buffer on a directory.
type site struct {
	*runner.Runner
	buffer *buffer.Buffer
	guard  *policy.Guard
}

const allowAll = `rules: [{connector: numbers, target: "db:1", allow: [export, import]}]`

func newSite(t *testing.T, dir, rules string, y *system, quota int64, options ...runner.Option) *site {
	t.Helper()
	file := filepath.Join(dir, "policy.yaml")
	must(t, os.WriteFile(file, []byte(rules), 0o600))
	guard, err := policy.Open(policy.Config{File: file, StateDir: dir})
	must(t, err)
	b, err := buffer.Open(context.Background(), buffer.Config{Dir: dir, Quota: quota})
	must(t, err)
	typ := y.Type()
	s := &site{guard: guard, buffer: b, Runner: runner.New(runner.Config{
		Types: func(name string) (*connectors.Type, bool) { return typ, name == typ.Name },
		Site: func(_ context.Context, name string) (map[string]string, error) {
			if name != "kept" {
				return nil, fault.Of("E_NO_CREDENTIAL")
			}
			return map[string]string{"password": "of the site"}, nil
		},
		Policy: guard, Buffer: b, Limits: request.Limits{PageRecords: 10, Time: time.Hour},
	}, options...)}
	t.Cleanup(s.stop)
	return s
}

// stop ends the agent's process, so to speak.
func (s *site) stop() {
	_ = s.Close()
	_ = s.buffer.Close()
}

// hub is the one authority over a chain that several agents serve.
type hub struct {
	tenant, environment, flow, connection page.ID
	chain                                 page.Chain

	mu       sync.Mutex
	claim    page.Claim
	epoch    page.Epoch
	prev     page.Hash
	cursor   []byte
	accepted map[string]page.Hash
	pages    uint64
	numbers  []int64
	last     *page.Header
	conflict bool
	problems []string
	strict   bool               // as the real ledger: an unkeyed read is resumed once only
	queue    map[string][]int64 // what was published first under a name
	order    []string           // of the accepted names
}

func newHub() *hub {
	return &hub{tenant: page.NewID(), environment: page.NewID(), flow: page.NewID(), connection: page.NewID(),
		chain: page.Chain{Job: page.NewID(), Step: "export"}, accepted: map[string]page.Hash{}, queue: map[string][]int64{}}
}

func (h *hub) resume(_ context.Context, r *control.Resume) (*control.Resumed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	claim := control.ToClaim(r.GetClaim())
	if claim.Less(h.claim) {
		return nil, fault.Of("E_SUPERSEDED")
	}
	if h.strict && h.pages > 0 {
		return nil, fault.Of("E_NOT_RESUMABLE")
	}
	h.claim, h.epoch = claim, page.Epoch(r.GetEpoch())
	return &control.Resumed{Seq: h.pages, PrevHash: h.prev[:], Cursor: h.cursor, Pages: h.pages,
		Records: uint64(len(h.numbers))}, nil
}

func (h *hub) accept(p *page.Page) control.Ack {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := control.Ack{Seq: p.Header.Seq, Status: control.Accepted}
	name, hash := p.Header.Name(), p.Header.Hash()
	before, known := h.accepted[name]
	switch {
	case h.conflict || known && before != hash:
		a.Status = control.Conflict
	case known:
		a.Status = control.Already
	case p.Header.Epoch != h.epoch:
		a.Status = control.Superseded
	case p.Header.Seq != h.pages || p.Header.Prev != h.prev:
		h.problems = append(h.problems, fmt.Sprintf("page %d does not follow", p.Header.Seq))
		a.Status = control.Refused
	default:
		h.take(p, name, hash)
	}
	return a
}

func (h *hub) take(p *page.Page, name string, hash page.Hash) {
	d, err := p.Decode()
	if err != nil {
		h.problems = append(h.problems, err.Error())
		return
	}
	var numbers []int64
	for d.Next() {
		v, _ := d.Record().Field("id")
		numbers = append(numbers, v.Int())
	}
	h.numbers = append(h.numbers, numbers...)
	h.publish(name, numbers)
	h.order = append(h.order, name)
	h.accepted[name], h.prev, h.cursor = hash, hash, append([]byte(nil), d.Cursor()...)
	h.pages++
	if p.Header.Last {
		h.last = &p.Header
	}
}

// publish puts a page on the queue; a name is taken once.
func (h *hub) publish(name string, numbers []int64) {
	if _, there := h.queue[name]; !there {
		h.queue[name] = numbers
	}
}

// dies publishes a page, and then the hub dies before it has recorded it.
func (h *hub) dies(t *testing.T, p *page.Page) {
	t.Helper()
	d, err := p.Decode()
	must(t, err)
	var numbers []int64
	for d.Next() {
		v, _ := d.Record().Field("id")
		numbers = append(numbers, v.Int())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publish(p.Header.Name(), numbers)
}

// delivered counts what the accepted names stand for in the queue.
func (h *hub) delivered() map[int64]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[int64]int{}
	for _, name := range h.order {
		for _, n := range h.queue[name] {
			out[n]++
		}
	}
	return out
}

// whole demands that the chain holds every number once and in order, and an end
// whose totals are right.
func (h *hub) whole(t *testing.T, want int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.problems {
		t.Error(p)
	}
	for i, n := range h.numbers {
		if n != int64(i) {
			t.Fatalf("record %d is %d: doubled or lost", i, n)
		}
	}
	if len(h.numbers) != want || h.last == nil || h.last.TotalRecords != uint64(want) || h.last.TotalPages != h.pages {
		t.Fatalf("%d records of %d, end %+v", len(h.numbers), want, h.last)
	}
}

// step makes a RunStep of this chain's place.
func (h *hub) step(kind control.Kind, name string, claim uint64, spec any) *control.RunStep {
	text, _ := json.Marshal(spec)
	return &control.RunStep{Id: claim, Kind: kind, Name: name, Claim: &control.Claim{Created: 1, Delivery: claim},
		Tenant: h.tenant[:], Environment: h.environment[:], Job: h.chain.Job[:], Flow: h.flow[:], FlowVersion: 1,
		Step: h.chain.Step, SpecJson: text,
		Connection: &control.Connection{Id: h.connection[:], Name: "c", Connector: "numbers",
			SettingsJson: []byte(`{"host": "db:1"}`),
			Credential:   &control.Credential{Custody: "hub", FieldsJson: []byte(`{"password": "secret"}`)}}}
}

var keyed = connectors.Query{Table: "numbers", Columns: []string{"id"}, Key: []string{"id"}}
var unkeyed = connectors.Query{Table: "numbers", Columns: []string{"id"}}

func (h *hub) readStep(n, claim uint64, q connectors.Query) *control.RunStep {
	s := h.step(control.KindRead, page.ReadName(h.chain, n), claim, q)
	s.Request = n
	return s
}

// call is one step under way between a hub and a site.
type call struct {
	done chan *control.StepDone
	cut  context.CancelCauseFunc
	hub  *stream
	pump chan struct{}
}

// start sends a step. ack answers its pages; nil lets nobody answer.
func (h *hub) start(s *site, step *control.RunStep, ack func(*page.Page) (control.Ack, bool)) *call {
	ctx, cancel := context.WithCancelCause(context.Background())
	agentSide, hubSide := streams()
	c := &call{done: make(chan *control.StepDone, 1), cut: cancel, hub: hubSide, pump: make(chan struct{})}
	go func() {
		defer close(c.pump)
		if ack != nil {
			pump(hubSide, ack)
		}
	}()
	go func() {
		done := s.Run(ctx, uplink.Call{
			Step:   step,
			Body:   func(context.Context) (tunnel.Stream, error) { return agentSide, nil },
			Resume: h.resume,
		})
		_ = agentSide.Close()
		<-c.pump
		_ = hubSide.Close()
		c.done <- done
	}()
	return c
}

// pump answers pages until the stream ends or ack says stop.
func pump(s *stream, ack func(*page.Page) (control.Ack, bool)) {
	r, w := control.NewFrameReader(s), control.NewFrameWriter(s)
	for {
		p, err := r.Page()
		if err != nil {
			return
		}
		a, more := ack(p)
		if !more {
			return
		}
		if w.Ack(a) != nil {
			return
		}
	}
}

func (h *hub) all(p *page.Page) (control.Ack, bool) { return h.accept(p), true }

// read runs one read to its end.
func (h *hub) read(t *testing.T, s *site, n, claim uint64, q connectors.Query) *control.StepDone {
	t.Helper()
	return wait(t, h.start(s, h.readStep(n, claim, q), h.all))
}

func wait(t *testing.T, c *call) *control.StepDone {
	t.Helper()
	select {
	case done := <-c.done:
		return done
	case <-time.After(20 * time.Second):
		t.Fatal("the step did not end")
		return nil
	}
}

// drop breaks the session of a call.
func (c *call) drop(t *testing.T) {
	t.Helper()
	c.cut(uplink.ErrCut)
	_ = c.hub.Close()
	wait(t, c)
}

func code(d *control.StepDone) string { return d.GetFault().GetCode() }

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(10 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}
