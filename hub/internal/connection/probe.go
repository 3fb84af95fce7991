package connection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

const (
	// probeTimeout bounds one probe.
	probeTimeout = 30 * time.Second
	// probesAtOnce bounds the probes of one process.
	probesAtOnce = 16
	// lookEvery is how long Run waits at most before it looks at the store
	// again, where other replicas may have written.
	lookEvery = 10 * time.Second
	// leastWait keeps a probe that is taken by another replica from being looked
	// at without a pause.
	leastWait = 100 * time.Millisecond
)

// Run probes the connections that are offline, each when it is due, until ctx
// ends and all probes have ended. It begins by letting queue and jobs follow
// all states, in case a former process died in between.
func (m *Manager) Run(ctx context.Context) error {
	defer m.probes.Wait()
	m.catchUp(ctx)
	limit := semaphore.NewWeighted(probesAtOnce)
	for ctx.Err() == nil {
		wait, err := m.look(ctx, limit)
		if err != nil && ctx.Err() == nil {
			m.Log.Warn("states of connections unknown", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.poke:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

func (m *Manager) catchUp(ctx context.Context) {
	states, err := m.Store.OfflineConnections(ctx)
	if err != nil {
		m.Log.Warn("states of connections unknown", "error", err)
	}
	for _, s := range states {
		if err := m.follow(ctx, s.Scope, s.Connection); err != nil {
			m.Log.Warn("state not followed", "connection", s.Connection, "error", err)
		}
	}
}

// look starts what is due and returns how long nothing will be.
func (m *Manager) look(ctx context.Context, limit *semaphore.Weighted) (time.Duration, error) {
	m.payOwed(ctx)
	states, err := m.Store.OfflineConnections(ctx)
	if err != nil {
		return lookEvery, err
	}
	groups, secrets := m.takeNews()
	now := m.Clock()
	wait := lookEvery
	for _, s := range states {
		due := s.NextProbe
		if early := m.early(ctx, s, groups, secrets); early {
			due = at(now)
		}
		if due == nil || byHand(s.ConnectionState) {
			continue
		}
		if until := due.Sub(now); until > 0 {
			wait = min(wait, max(until, leastWait))
			continue
		}
		m.startProbe(ctx, limit, s)
	}
	return wait, nil
}

func (m *Manager) takeNews() (groups, secrets map[page.ID]struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	groups, secrets = m.groups, m.secrets
	m.groups, m.secrets = map[page.ID]struct{}{}, map[page.ID]struct{}{}
	return groups, secrets
}

// early reports whether news make a probe worth while before its time.
func (m *Manager) early(
	ctx context.Context, s store.ScopedState, groups, secrets map[page.ID]struct{},
) bool {
	if len(groups) == 0 && len(secrets) == 0 || byHand(s.ConnectionState) ||
		s.State != model.Offline {
		return false
	}
	facts, err := m.Facts(ctx, s.Scope, s.Connection)
	if err != nil {
		m.Log.Warn("connection unknown", "connection", s.Connection, "error", err)
		return false
	}
	_, agentBack := groups[facts.Group]
	_, secretNew := secrets[facts.Credential]
	switch s.Cause {
	case model.CauseAuth:
		// An agent that comes back does not make a bad password good.
		return secretNew && !facts.Credential.IsZero() && facts.Secret != s.Secret
	case model.CauseNoCredential:
		return secretNew && !facts.Credential.IsZero() || agentBack && !facts.Group.IsZero()
	}
	return agentBack && !facts.Group.IsZero() || secretNew && !facts.Credential.IsZero()
}

// startProbe takes the probe, so that no other replica makes it too, and makes
// it in the background.
func (m *Manager) startProbe(ctx context.Context, limit *semaphore.Weighted, s store.ScopedState) {
	k := key{s.Scope, s.Connection}
	m.mu.Lock()
	_, running := m.inFlight[k]
	m.inFlight[k] = struct{}{}
	m.mu.Unlock()
	if running {
		return
	}
	m.probes.Go(func() {
		defer func() {
			m.mu.Lock()
			delete(m.inFlight, k)
			m.mu.Unlock()
		}()
		if limit.Acquire(ctx, 1) != nil {
			return
		}
		defer limit.Release(1)
		if err := m.probe(ctx, s); err != nil && ctx.Err() == nil {
			m.Log.Warn("probe not recorded", "connection", s.Connection, "error", err)
		}
	})
}

func (m *Manager) probe(ctx context.Context, s store.ScopedState) error {
	facts, err := m.Facts(ctx, s.Scope, s.Connection)
	if fault.CodeOf(err) == "E_NOT_FOUND" {
		return nil // deleted since
	}
	if err != nil {
		return fmt.Errorf("probe connection %s: %w", s.Connection, err)
	}
	taken, err := m.take(ctx, s, facts)
	if err != nil || !taken {
		return err
	}
	var result error
	if s.State != model.RateLimited { // whose time is over; nothing to try
		probing, cancel := context.WithTimeout(ctx, probeTimeout)
		result = m.Probe(probing, s.Scope, s.Connection)
		cancel()
		if errors.Is(result, context.Canceled) && ctx.Err() != nil {
			return nil // going down; the probe is made again later
		}
	}
	return m.change(ctx, s.Scope, s.Connection,
		func(old model.ConnectionState) (model.ConnectionState, bool) {
			return probed(old, fault.From(result), facts, m.Clock())
		})
}

// take moves the next probe past the end of this one, unless someone else has
// done so since s was read or the credential must be left alone.
func (m *Manager) take(ctx context.Context, s store.ScopedState, facts Facts) (bool, error) {
	_, taken, err := m.Store.ChangeConnection(ctx, s.Scope, s.Connection,
		func(now model.ConnectionState) (model.ConnectionState, bool) {
			same := now.State == s.State && now.Cause == s.Cause && equal(now.NextProbe, s.NextProbe)
			fresh := now.Secret != facts.Secret
			clock := m.Clock()
			if !same || !fresh && earliest(now, clock).After(clock) {
				return now, false
			}
			now.NextProbe = at(clock.Add(2 * probeTimeout))
			return now, true
		})
	return taken, err
}

func equal(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}

// payOwed repeats the calls of OnChange that have failed.
func (m *Manager) payOwed(ctx context.Context) {
	m.mu.Lock()
	var owed []key
	for k, n := range m.notices {
		if n.owed {
			owed = append(owed, k)
		}
	}
	m.mu.Unlock()
	for _, k := range owed {
		if err := m.follow(ctx, k.scope, k.id); err != nil {
			m.Log.Warn("state not followed", "connection", k.id, "error", err)
		}
	}
}
