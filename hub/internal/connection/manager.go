// Package connection decides which connections are online, why others are not,
// and when to try them again (SEMANTICS §3.5–3.8, DELIVERY §8). It owns the
// probes and keeps accounts from being locked out. It does not pause queues or
// jobs itself, and it does not know how a probe is made.
package connection

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Store keeps the states. ChangeConnection is one transaction, so that of many
// replicas each decides upon what the others have written.
type Store interface {
	ConnectionState(ctx context.Context, s store.Scope, id page.ID) (model.ConnectionState, error)
	ChangeConnection(
		ctx context.Context, s store.Scope, id page.ID,
		change func(model.ConnectionState) (model.ConnectionState, bool),
	) (state model.ConnectionState, written bool, err error)
	OfflineConnections(ctx context.Context) ([]store.ScopedState, error)
}

// Facts is what the state of a connection depends on besides its endpoint.
type Facts struct {
	// Group is the agent group that runs the connection; zero for the hub.
	Group page.ID
	// Credential is the credential it uses; zero for none.
	Credential page.ID
	// Secret is the version of that credential. A new version may be tried at
	// once, however often the old one was rejected.
	Secret uint64
}

// Config is what a Manager works with. All fields are required.
type Config struct {
	Store Store
	Facts func(ctx context.Context, s store.Scope, id page.ID) (Facts, error)
	// Probe tries the connection once: it logs in and asks for nothing more.
	// The error is a fault whose class decides what follows.
	Probe func(ctx context.Context, s store.Scope, id page.ID) error
	// OnChange makes queue and jobs follow the state. It is called with the
	// stored state after every change of state or cause, one call at a time for
	// a connection, and again until it succeeds; so it must be idempotent.
	OnChange func(ctx context.Context, s store.Scope, state model.ConnectionState) error
	Log      *slog.Logger
	Clock    func() time.Time
}

// Manager keeps the states of all connections of one hub process. Its methods
// may be called from any goroutine.
type Manager struct {
	Config
	poke chan struct{}

	mu       sync.Mutex
	notices  map[key]*notice
	groups   map[page.ID]struct{} // agents that are back
	secrets  map[page.ID]struct{} // credentials that are new
	inFlight map[key]struct{}     // probes
	probes   sync.WaitGroup
}

type key struct {
	scope store.Scope
	id    page.ID
}

// notice serializes the calls of OnChange for a connection.
type notice struct {
	mu   sync.Mutex
	owed bool // the last call failed
}

// New returns a manager; Run makes it probe.
func New(c Config) *Manager {
	return &Manager{
		Config: c, poke: make(chan struct{}, 1), notices: map[key]*notice{},
		groups: map[page.ID]struct{}{}, secrets: map[page.ID]struct{}{},
		inFlight: map[key]struct{}{},
	}
}

// State returns the state of a connection; one that never had trouble is online.
func (m *Manager) State(ctx context.Context, s store.Scope, id page.ID) (model.ConnectionState, error) {
	return m.Store.ConnectionState(ctx, s, id)
}

// Report tells what work on the connection has met. Faults of the connection
// (auth, connection, intermittent after its retries, rate_limit) change its
// state; faults of data, policy or structure are not its fault and change
// nothing.
func (m *Manager) Report(ctx context.Context, s store.Scope, id page.ID, f *fault.Error) error {
	if f == nil || !concerns(f) {
		return nil
	}
	facts, err := m.Facts(ctx, s, id)
	if err != nil {
		return fmt.Errorf("report on connection %s: %w", id, err)
	}
	return m.change(ctx, s, id, func(old model.ConnectionState) (model.ConnectionState, bool) {
		return reported(old, f, facts, m.Clock())
	})
}

// TakeOffline stops the connection until TakeOnline, whatever probes would say.
// Cause is manual or maintenance.
func (m *Manager) TakeOffline(
	ctx context.Context, s store.Scope, id page.ID, cause model.OfflineCause,
) error {
	if cause != model.CauseManual && cause != model.CauseMaintenance {
		return fault.New(fault.Value, "E_REQUEST", "a connection is taken offline by hand or for maintenance").
			WithField("cause")
	}
	return m.change(ctx, s, id, func(old model.ConnectionState) (model.ConnectionState, bool) {
		return model.ConnectionState{
			Connection: id, State: model.Offline, Cause: cause, Since: m.Clock(),
			AuthTries: old.AuthTries, AuthSince: old.AuthSince, Secret: old.Secret,
		}, true
	})
}

// TakeOnline ends TakeOffline. The connection is probed first, unless the bad
// credential it had has used up its tries.
func (m *Manager) TakeOnline(ctx context.Context, s store.Scope, id page.ID) error {
	return m.change(ctx, s, id, func(old model.ConnectionState) (model.ConnectionState, bool) {
		if !byHand(old) {
			return old, false
		}
		now := m.Clock()
		old.Cause = model.CauseUnreachable
		if old.AuthTries > 0 {
			old.Cause = model.CauseAuth
		}
		old.Probes = 0
		old.NextProbe = at(earliest(old, now))
		return old, true
	})
}

// AgentChanged says that an agent of the group has connected: its connections
// are probed at once.
func (m *Manager) AgentChanged(group page.ID) {
	m.mu.Lock()
	m.groups[group] = struct{}{}
	m.mu.Unlock()
	m.wake()
}

// CredentialChanged says that a credential has a new version: connections that
// wait for one are probed at once.
func (m *Manager) CredentialChanged(credential page.ID) {
	m.mu.Lock()
	m.secrets[credential] = struct{}{}
	m.mu.Unlock()
	m.wake()
}

func (m *Manager) wake() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// change writes what decide makes of the state and lets queue and jobs follow.
func (m *Manager) change(
	ctx context.Context, s store.Scope, id page.ID,
	decide func(model.ConnectionState) (model.ConnectionState, bool),
) error {
	var before model.ConnectionState
	after, written, err := m.Store.ChangeConnection(ctx, s, id,
		func(old model.ConnectionState) (model.ConnectionState, bool) {
			before = old
			return decide(old)
		})
	if err != nil {
		return err
	}
	if !written {
		return nil
	}
	m.wake() // the next probe may be sooner than the loop thinks
	if before.State == after.State && before.Cause == after.Cause {
		return nil
	}
	m.logChange(id, before, after)
	return m.follow(ctx, s, id)
}

func (m *Manager) logChange(id page.ID, before, after model.ConnectionState) {
	attrs := []any{"connection", id, "state", after.State, "cause", after.Cause, "before", before.State}
	if after.Fault != nil {
		attrs = append(attrs, "code", after.Fault.Code)
	}
	m.Log.Info("connection "+string(after.State), attrs...)
}

// follow calls OnChange with the state as it is stored now, so that of two
// changes close together the later one also acts last.
func (m *Manager) follow(ctx context.Context, s store.Scope, id page.ID) error {
	m.mu.Lock()
	n := m.notices[key{s, id}]
	if n == nil {
		n = &notice{}
		m.notices[key{s, id}] = n
	}
	m.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	state, err := m.Store.ConnectionState(ctx, s, id)
	if err == nil {
		err = m.OnChange(ctx, s, state)
	}
	m.mu.Lock()
	n.owed = err != nil
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("follow state of connection %s: %w", id, err)
	}
	return nil
}
