package connection_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ropeway/hub/internal/connection"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// memory is a store of states; the real one blocks outside the synctest bubble.
type memory struct {
	mu     sync.Mutex
	states map[page.ID]store.ScopedState
}

func (m *memory) ConnectionState(
	_ context.Context, s store.Scope, id page.ID,
) (model.ConnectionState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state(s, id), nil
}

func (m *memory) state(s store.Scope, id page.ID) model.ConnectionState {
	if st, ok := m.states[id]; ok && st.Scope == s {
		return st.ConnectionState
	}
	return model.ConnectionState{Connection: id, State: model.Online}
}

func (m *memory) ChangeConnection(
	_ context.Context, s store.Scope, id page.ID,
	change func(model.ConnectionState) (model.ConnectionState, bool),
) (model.ConnectionState, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.state(s, id)
	next, written := change(old)
	if !written {
		return old, false, nil
	}
	next.Connection = id
	m.states[id] = store.ScopedState{Scope: s, ConnectionState: next}
	return next, true, nil
}

func (m *memory) OfflineConnections(context.Context) ([]store.ScopedState, error) {
	defer func() { <-time.After(time.Millisecond) }() // the answer is old when it arrives
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.ScopedState
	for _, s := range m.states {
		if s.State != model.Online {
			out = append(out, s)
		}
	}
	return out, nil
}

// bench is a manager (or several replicas) with an endpoint that answers at will.
type bench struct {
	t     *testing.T
	store *memory
	scope store.Scope
	id    page.ID
	facts connection.Facts
	start time.Time

	mu      sync.Mutex
	answer  error
	probes  []time.Duration // since start
	changes []string
	follow  error
}

func newBench(t *testing.T) *bench {
	return &bench{
		t: t, store: &memory{states: map[page.ID]store.ScopedState{}},
		scope: store.Scope{Tenant: page.NewID(), Environment: page.NewID()}, id: page.NewID(),
		facts: connection.Facts{Group: page.NewID(), Credential: page.NewID(), Secret: 1},
		start: time.Now(),
	}
}

func (b *bench) manager() *connection.Manager {
	return connection.New(connection.Config{
		Store: b.store,
		Facts: func(context.Context, store.Scope, page.ID) (connection.Facts, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.facts, nil
		},
		Probe: func(context.Context, store.Scope, page.ID) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.probes = append(b.probes, time.Since(b.start))
			return b.answer
		},
		OnChange: func(_ context.Context, s store.Scope, st model.ConnectionState) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.follow != nil {
				return b.follow
			}
			b.changes = append(b.changes, string(st.State)+":"+string(st.Cause))
			return nil
		},
		Log: slog.New(slog.DiscardHandler), Clock: time.Now,
	})
}

// run starts a manager that ends with the test.
func (b *bench) run() *connection.Manager {
	m := b.manager()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	synctest.Wait()
	return m
}

func (b *bench) report(m *connection.Manager, f *fault.Error) {
	b.t.Helper()
	if err := m.Report(b.t.Context(), b.scope, b.id, f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) says(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = err
}

func (b *bench) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// after lets d pass and returns the times of the probes in between.
func (b *bench) after(d time.Duration) []time.Duration {
	b.mu.Lock()
	b.probes = nil
	b.mu.Unlock()
	<-time.After(d)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.probes)
}

func (b *bench) expect(state model.OnlineState, cause model.OfflineCause) model.ConnectionState {
	b.t.Helper()
	st, err := b.store.ConnectionState(b.t.Context(), b.scope, b.id)
	if err != nil {
		b.t.Fatal(err)
	}
	if st.State != state || st.Cause != cause {
		b.t.Errorf("state %s %s, want %s %s", st.State, st.Cause, state, cause)
	}
	return st
}

func (b *bench) expectChanges(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.changes, want) {
		b.t.Errorf("changes %v, want %v", b.changes, want)
	}
}

func seconds(list []time.Duration) string {
	var out []int
	for _, d := range list {
		out = append(out, int(d.Round(time.Second)/time.Second))
	}
	return fmt.Sprint(out)
}

func TestDelivery_8_ClassDecides(t *testing.T) {
	cases := []struct {
		fault *fault.Error
		state model.OnlineState
		cause model.OfflineCause
	}{
		{fault.Of("E_AUTH_REJECTED"), model.Offline, model.CauseAuth},
		{fault.Of("E_NO_CREDENTIAL"), model.Offline, model.CauseNoCredential},
		{fault.Of("E_UNREACHABLE"), model.Offline, model.CauseUnreachable},
		{fault.Of("E_TIMEOUT"), model.Offline, model.CauseUnreachable},
		{fault.Of("E_AGENT_OFFLINE"), model.Offline, model.CauseAgentOffline},
		{fault.Of("E_RATE_LIMIT"), model.RateLimited, ""},
		{fault.Of("E_VALUE"), model.Online, ""},
		{fault.Of("E_POLICY_DENIED"), model.Online, ""},
		{fault.Of("E_TABLE_MISSING"), model.Online, ""},
		{fault.Of("E_INTERNAL"), model.Online, ""},
		{nil, model.Online, ""},
	}
	for _, c := range cases {
		name := "none"
		if c.fault != nil {
			name = c.fault.Code
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				m := b.manager()
				b.report(m, c.fault)
				b.report(m, c.fault) // what else was in flight
				st := b.expect(c.state, c.cause)
				if c.state == model.Online {
					b.expectChanges()
					return
				}
				b.expectChanges(string(c.state) + ":" + string(c.cause))
				if st.Fault == nil || st.NextProbe == nil || !st.Since.Equal(time.Now()) {
					t.Errorf("state without fault, next probe or time: %+v", st)
				}
			})
		})
	}
}

func TestSemantics_3_7_ProbesBackOffAndRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.says(fault.Of("E_UNREACHABLE"))
		b.report(m, fault.Of("E_UNREACHABLE"))
		got := b.after(20 * time.Minute)
		if want := "[15 45 105 225 465 765 1065]"; seconds(got) != want {
			t.Errorf("probes at %s, want %s", seconds(got), want)
		}
		b.says(nil)
		if n := len(b.after(5 * time.Minute)); n != 1 {
			t.Errorf("%d probes until it is online", n)
		}
		b.expect(model.Online, "")
		b.expectChanges("offline:unreachable", "online:")
		if n := len(b.after(time.Hour)); n != 0 {
			t.Errorf("%d probes of an online connection", n)
		}
	})
}

func TestSemantics_3_7_AgentIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.says(fault.Of("E_AGENT_OFFLINE"))
		b.report(m, fault.Of("E_AGENT_OFFLINE"))
		b.after(time.Hour)
		b.says(nil)
		m.AgentChanged(page.NewID()) // someone else's
		if n := len(b.after(time.Second)); n != 0 {
			t.Errorf("%d probes because of another group", n)
		}
		m.AgentChanged(b.facts.Group)
		if n := len(b.after(time.Second)); n != 1 {
			t.Errorf("%d probes at once", n)
		}
		b.expect(model.Online, "")
	})
}

// TestSemantics_3_7_AProbeThatIsRefusedElsewhere: an agent that is back, whose policy
// forbids even a ping, is not offline; work over it says what is wrong.
func TestSemantics_3_7_AProbeThatIsRefusedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.report(m, fault.Of("E_AGENT_OFFLINE"))
		b.says(fault.Of("E_POLICY_DENIED"))
		m.AgentChanged(b.facts.Group)
		b.after(time.Second)
		b.expect(model.Online, "")
		for range 3 { // and never a way around the lock-out
			b.report(m, fault.Of("E_AUTH_REJECTED"))
			b.after(time.Minute)
		}
		if st := b.expect(model.Offline, model.CauseAuth); st.AuthTries != 3 {
			t.Errorf("%d tries are counted", st.AuthTries)
		}
		if n := len(b.after(20 * time.Minute)); n != 0 {
			t.Errorf("%d probes within the lock-out", n)
		}
	})
}

func TestSemantics_3_7_NeverLocksAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		bad := fault.Of("E_AUTH_REJECTED")
		b.says(bad)
		b.report(m, bad)
		tries := append([]time.Duration{0}, b.after(6*time.Hour)...)
		for i := range tries {
			n := 0
			for _, other := range tries[i:] {
				if other-tries[i] < 30*time.Minute {
					n++
				}
			}
			if n > 3 {
				t.Errorf("%d tries within 30 minutes from %s on: %s", n, tries[i], seconds(tries))
			}
		}
		if len(tries) < 20 {
			t.Errorf("only %d tries in six hours", len(tries))
		}
		for range 10 { // nothing that happens around it may cause another try
			m.AgentChanged(b.facts.Group)
			m.CredentialChanged(b.facts.Credential) // the version is the same
			m.CredentialChanged(page.NewID())
			if n := len(b.after(time.Second)); n != 0 {
				t.Errorf("%d tries with the same bad credential", n)
			}
		}
		b.expect(model.Offline, model.CauseAuth)
	})
}

func TestSemantics_3_7_CorrectedCredentialIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		bad := fault.Of("E_AUTH_REJECTED")
		b.says(bad)
		b.report(m, bad)
		b.after(time.Minute) // all three tries are used up
		b.set(func() { b.facts.Secret = 2 })
		m.CredentialChanged(b.facts.Credential) // wrong again
		if n := len(b.after(time.Second)); n != 1 {
			t.Errorf("%d tries of the second password", n)
		}
		if st := b.expect(model.Offline, model.CauseAuth); st.AuthTries != 1 || st.Secret != 2 {
			t.Errorf("the new credential has %d tries of version %d", st.AuthTries, st.Secret)
		}
		b.set(func() { b.facts.Secret = 3; b.answer = nil })
		m.CredentialChanged(b.facts.Credential)
		b.after(time.Second)
		b.expect(model.Online, "")
		b.expectChanges("offline:auth", "online:")
	})
}

func TestSemantics_3_7_LockOutHoldsWhileTheNetworkFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.says(fault.Of("E_AUTH_REJECTED"))
		for range 3 { // three at once in flight
			b.report(m, fault.Of("E_AUTH_REJECTED"))
		}
		b.report(m, fault.Of("E_AGENT_OFFLINE"))
		b.expect(model.Offline, model.CauseAuth)
		m.AgentChanged(b.facts.Group)
		if got := b.after(29 * time.Minute); len(got) != 0 {
			t.Errorf("tries at %s", seconds(got))
		}
		if got := b.after(2 * time.Minute); len(got) == 0 {
			t.Error("no try after the window")
		}
	})
}

func TestSemantics_3_8_RateLimitPausesUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.report(m, fault.Of("E_RATE_LIMIT").WithRetryAfter(40*time.Second))
		b.report(m, fault.Of("E_RATE_LIMIT").WithRetryAfter(time.Second)) // no earlier
		if n := len(b.after(39 * time.Second)); n != 0 {
			t.Errorf("%d probes", n)
		}
		b.expect(model.RateLimited, "")
		b.report(m, fault.Of("E_RATE_LIMIT").WithRetryAfter(24*time.Hour)) // absurd: an hour
		b.after(time.Minute)
		b.expect(model.RateLimited, "")
		if n := len(b.after(time.Hour)); n != 0 {
			t.Errorf("%d probes; the end of a pause needs none", n)
		}
		b.expect(model.Online, "")
		b.expectChanges("rate_limited:", "online:")
	})
}

func TestSemantics_3_5_ManualHasTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		if err := m.TakeOffline(t.Context(), b.scope, b.id, model.CauseAuth); err == nil {
			t.Error("taken offline with a cause that is not a person's")
		}
		if err := m.TakeOffline(t.Context(), b.scope, b.id, model.CauseManual); err != nil {
			t.Fatal(err)
		}
		b.report(m, fault.Of("E_UNREACHABLE"))
		m.AgentChanged(b.facts.Group)
		m.CredentialChanged(b.facts.Credential)
		if n := len(b.after(time.Hour)); n != 0 {
			t.Errorf("%d probes of a connection that is offline by hand", n)
		}
		b.expect(model.Offline, model.CauseManual)
		if err := m.TakeOnline(t.Context(), b.scope, b.id); err != nil {
			t.Fatal(err)
		}
		b.after(time.Second)
		b.expect(model.Online, "")
	})
}

func TestOneOfManyReplicasProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		for range 3 {
			b.run()
		}
		b.says(fault.Of("E_UNREACHABLE"))
		b.report(m, fault.Of("E_UNREACHABLE"))
		if got := seconds(b.after(4 * time.Minute)); got != "[15 45 105 225]" {
			t.Errorf("probes of four replicas at %s, want each once", got)
		}
	})
}

func TestChangesAreFollowedAgainUntilTheySucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := b.run()
		b.says(fault.Of("E_UNREACHABLE"))
		b.set(func() { b.follow = errors.New("queue is away") })
		if err := m.Report(t.Context(), b.scope, b.id, fault.Of("E_UNREACHABLE")); err == nil {
			t.Error("a change nobody followed was not reported")
		}
		b.expectChanges()
		b.set(func() { b.follow = nil })
		b.after(time.Minute)
		b.expectChanges("offline:unreachable")
	})
}

func TestRestartFollowsStatesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.says(fault.Of("E_UNREACHABLE"))
		b.report(b.manager(), fault.Of("E_UNREACHABLE")) // and then the hub died
		b.run()
		b.after(time.Second)
		b.expectChanges("offline:unreachable", "offline:unreachable")
		b.says(nil)
		b.after(time.Minute)
		b.expect(model.Online, "")
	})
}

func TestRealStoreFits(t *testing.T) {
	var _ connection.Store = (*store.Store)(nil)
}
