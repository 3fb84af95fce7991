package flow

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// loginTarget is a target with a credential and room for 25 requests at once.
func loginTarget() model.Connection {
	return model.Connection{Connector: "memory", Concurrency: 25, Credential: "login"}
}

func exportAll(pageSize int, steps ...model.Step) *model.Flow {
	return &model.Flow{
		Export: &model.Export{Name: "export", Connection: "source", Table: "t", Key: []string{"id"}, PageSize: pageSize},
		Steps:  steps,
	}
}

// TestSemantics_3_7_ABurstTriesAPasswordOnce sends 25 pages at once to a target
// whose password is wrong, and changes it under load: the endpoint must never see
// more than three rejected logins.
func TestSemantics_3_7_ABurstTriesAPasswordOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 600
	var mu sync.Mutex
	right, rejected := "good", 0
	r.memory.login = func(password string) error {
		mu.Lock()
		defer mu.Unlock()
		if password != right && password != "source" {
			rejected++
			return fault.Of("E_AUTH_REJECTED")
		}
		return nil
	}
	r.secrets.set("bad")
	right = "source" // reads have no credential of their own
	r.apply("orders", exportAll(20, load()), loginTarget())
	source := r.memory.login
	r.memory.login = nil
	r.memory.atPut = func(ctx context.Context, _ connectors.Batch) error {
		fields, _, _ := r.secrets.Fields(ctx, page.ID{}, page.ID{}, page.ID{})
		return source(fields["password"])
	}
	ctx := context.Background()
	id := r.start("orders").ID
	r.wait(id, func(j model.Job) bool { return j.State == model.JobPaused })
	r.quiet(func() int { mu.Lock(); defer mu.Unlock(); return rejected })
	mu.Lock()
	if rejected != 1 {
		t.Errorf("%d logins were rejected by a burst of 25", rejected)
	}
	rejected, right = 0, "good"
	mu.Unlock()
	state, err := r.states.State(ctx, r.scope, r.id("target"))
	if err != nil || state.AuthTries != 1 || state.Cause != model.CauseAuth {
		t.Errorf("state %+v, %v", state, err)
	}
	r.secrets.set("wrong again")
	if err := r.states.online(ctx, r.scope, r.id("target")); err != nil {
		t.Fatal(err)
	}
	r.wait(id, func(j model.Job) bool { return j.State == model.JobPaused })
	mu.Lock()
	if rejected != 1 {
		t.Errorf("%d logins were rejected after the secret changed", rejected)
	}
	mu.Unlock()
	r.secrets.set("good")
	if err := r.states.online(ctx, r.scope, r.id("target")); err != nil {
		t.Fatal(err)
	}
	if job := r.wait(id, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
	r.once(func(int64) bool { return true })
}

// id is the id of a connection.
func (r *rig) id(connection string) page.ID {
	r.t.Helper()
	o, err := r.object(context.Background(), r.scope, connection)
	if err != nil {
		r.t.Fatal(err)
	}
	return o.ID
}

// quiet waits until a count has not changed for a while.
func (r *rig) quiet(count func() int) {
	for last, since := count(), time.Now(); time.Since(since) < 700*time.Millisecond; {
		<-time.After(20 * time.Millisecond)
		if n := count(); n != last {
			last, since = n, time.Now()
		}
	}
}

func TestLoginsWaitForOneTry(t *testing.T) {
	now := time.Now()
	l := newLogins(func() time.Time { return now })
	id, ctx := page.NewID(), context.Background()
	enter := func(version string) (tries, again bool) {
		t.Helper()
		limited, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		tries, again, err := l.enter(limited, id, version)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return tries, again || err != nil
	}
	if tries, _ := enter("1/1"); !tries {
		t.Fatal("the first may not try")
	}
	if tries, waits := enter("1/1"); tries || !waits {
		t.Fatal("the second does not wait")
	}
	l.worked(id, "1/1", true)
	for range 3 {
		if tries, waits := enter("1/1"); tries || waits {
			t.Fatal("a login that worked is tried again")
		}
	}
	if tries, _ := enter("1/2"); !tries {
		t.Fatal("a new secret is not tried alone")
	}
	l.leave(id) // nothing is known of it
	if tries, _ := enter("1/2"); !tries {
		t.Fatal("after a try without an answer nobody tries")
	}
	l.worked(id, "1/2", true)
	now = now.Add(loginFresh)
	if tries, _ := enter("1/2"); !tries {
		t.Fatal("a login that worked long ago is taken for good")
	}
	l.worked(id, "1/1", true) // the version changed during the try
	if tries, _ := enter("1/2"); !tries {
		t.Fatal("the end of a try is lost")
	}
}

// TestPromise_D12_MemoryOfPagesIsBounded: pages wait for room, and a connection
// that uses none gets room for one at once.
func TestPromise_D12_MemoryOfPagesIsBounded(t *testing.T) {
	m := newWorkMemory(100)
	ctx := context.Background()
	slow, other := page.NewID(), page.NewID()
	var open, most atomic.Int64
	var wait sync.WaitGroup
	release := make(chan struct{})
	for range 20 {
		wait.Go(func() {
			give, err := m.take(ctx, slow, 30)
			if err != nil {
				t.Error(err)
				return
			}
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-release
			open.Add(-1)
			give()
		})
	}
	for open.Load() < 3 {
		<-time.After(time.Millisecond)
	}
	give, err := m.take(ctx, other, 90)
	if err != nil {
		t.Fatal(err)
	}
	give()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.take(cancelled, slow, 30); err == nil {
		t.Error("there was room for a fourth page")
	}
	close(release)
	wait.Wait()
	if most.Load() > 3 || m.used != 0 || len(m.pages) != 0 {
		t.Errorf("%d pages were open; %d bytes and %d connections are left", most.Load(), m.used, len(m.pages))
	}
}

// TestOldVersionsOfAConnectionAreClosed: neither a changed connection nor a changed
// secret leaves the connection of before open.
func TestOldVersionsOfAConnectionAreClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apply("orders", exportAll(20, load()), loginTarget())
	ctx := context.Background()
	for i := range 4 {
		if i%2 == 1 {
			r.secrets.set("next")
		} else {
			target := loginTarget()
			target.Description = string(rune('a' + i))
			r.apply("orders", exportAll(20, load()), target)
		}
		if err := r.Probe(ctx, r.scope, r.id("target")); err != nil {
			t.Fatal(err)
		}
	}
	r.memory.see(func() {
		if r.memory.opened != 4 || r.memory.closed != 3 {
			t.Errorf("%d connections were opened and %d closed", r.memory.opened, r.memory.closed)
		}
	})
	r.stop()
	if r.memory.closed != 4 {
		t.Errorf("%d of 4 are closed at the end", r.memory.closed)
	}
}

// TestDelivery_8_FaultsOfAPage runs one page into each class and looks at what
// becomes of it.
func TestDelivery_8_FaultsOfAPage(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct {
		job    model.JobState
		parked int64
		cause  string
	}{
		"E_VALUE":         {model.JobCompletedWithErrors, 10, ""},
		"E_MISSING":       {model.JobCompletedWithErrors, 10, ""},
		"E_DUPLICATE":     {model.JobCompletedWithErrors, 10, ""},
		"E_PARSE":         {model.JobCompletedWithErrors, 10, ""},
		"E_TOO_LARGE":     {model.JobCompletedWithErrors, 10, ""},
		"E_SETTINGS":      {model.JobPaused, 0, "E_SETTINGS"}, // of class value, and not the records'
		"E_POLICY_DENIED": {model.JobPaused, 0, "E_POLICY_DENIED"},
		"E_TABLE_MISSING": {model.JobPaused, 0, "E_TABLE_MISSING"},
		"E_INTERNAL":      {model.JobPaused, 0, "E_INTERNAL"},
		"E_UNREACHABLE":   {model.JobPaused, 0, "E_UNREACHABLE"},
		"E_AUTH_REJECTED": {model.JobPaused, 0, "E_AUTH_REJECTED"},
		"E_RATE_LIMIT":    {model.JobPaused, 0, "E_RATE_LIMIT"},
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.memory.rows = 10
			r.memory.atPut = func(context.Context, connectors.Batch) error { return fault.Of(code) }
			r.flow("orders", 50, load())
			job := r.wait(r.start("orders").ID, func(j model.Job) bool { return j.State == want.job })
			if job.Records.Parked != want.parked || fault.CodeOf(orNil(job.Cause)) != want.cause {
				t.Errorf("%d parked, cause %v", job.Records.Parked, job.Cause)
			}
		})
	}
}

func orNil(f *fault.Error) error {
	if f == nil {
		return nil
	}
	return f
}

// TestDelivery_8_AttemptsAreCounted reads the two counts of a message's attempt.
func TestDelivery_8_AttemptsAreCounted(t *testing.T) {
	a := uint32(0)
	for n := range uint32(maxAttempts) {
		if tries(a) != n || parksPage(fault.Of("E_INTERMITTENT"), a) {
			t.Fatalf("after %d tries attempt %x", n, a)
		}
		a++
	}
	if !parksPage(fault.Of("E_INTERMITTENT"), a) || parksPage(fault.Of("E_TIMEOUT"), a) ||
		parksPage(fault.Of("E_DRAINING"), a) {
		t.Errorf("after %d tries", tries(a))
	}
	a = paused(a)
	if tries(a) != 0 || pauses(a) != 1 {
		t.Errorf("a pause gives attempt %x: the next trouble has no tries left", a)
	}
	for range 5000 {
		a = paused(a)
	}
	if tries(a+3) != 3 || pauses(a) < 1000 {
		t.Errorf("many pauses give attempt %x", a)
	}
}
