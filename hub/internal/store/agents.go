package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// PutAgent writes an agent after its enrollment; an agent of the same id is
// replaced and keeps its process epochs. keyHash is the SHA-256 of its public
// key. A name that another agent of the place has is refused with E_EXISTS.
func (s *Store) PutAgent(ctx context.Context, a model.Agent, keyHash []byte) error {
	err := s.write(ctx, func(t *tx) error {
		other, err := t.row(`SELECT 1 FROM agents WHERE tenant = ? AND environment = ? AND name = ? AND
			id <> ?`,
			[]any{a.Tenant.String(), a.Environment.String(), a.Name, a.ID.String()}, new(int))
		if err != nil {
			return err
		}
		if other {
			return fault.Of("E_EXISTS").WithSource(source).
				WithSentence("an agent named " + a.Name + " exists already")
		}
		facts, err := json.Marshal(a)
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO agents (id, tenant, environment, agent_group, name, state, facts,
			public_key,
			process, epoch, enrolled, last_seen, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET agent_group = excluded.agent_group, name = excluded.name,
			state = excluded.state, facts = excluded.facts, public_key = excluded.public_key,
			enrolled = excluded.enrolled, last_seen = excluded.last_seen, revoked = excluded.revoked`,
			a.ID.String(), a.Tenant.String(), a.Environment.String(), a.Group.String(), a.Name,
			string(a.State),
			string(facts), blob(keyHash), []byte{}, micros(a.Enrolled), microsOf(a.LastSeen),
			microsOf(a.Revoked))
		return err
	})
	if err != nil {
		return fmt.Errorf("put agent %s: %w", a.Name, err)
	}
	return nil
}

// Agent returns one agent by its id.
func (s *Store) Agent(ctx context.Context, scope Scope, id page.ID) (model.Agent, error) {
	return s.oneAgent(ctx, scope, `id = ?`, id.String())
}

// AgentByName returns one agent by its name.
func (s *Store) AgentByName(ctx context.Context, scope Scope, name string) (model.Agent, error) {
	return s.oneAgent(ctx, scope, `name = ?`, name)
}

func (s *Store) oneAgent(
	ctx context.Context, scope Scope, condition, value string,
) (model.Agent, error) {
	list, err := agentsBy(s.read(ctx), scope, condition, value)
	if err == nil && len(list) == 0 {
		err = notFound("agent", value)
	}
	if err != nil {
		return model.Agent{}, fmt.Errorf("read agent %s: %w", value, err)
	}
	return list[0], nil
}

// Agents lists the agents of a place by name.
func (s *Store) Agents(ctx context.Context, scope Scope) ([]model.Agent, error) {
	list, err := agentsBy(s.read(ctx), scope, `1 = 1`)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return list, nil
}

func agentsBy(q querier, scope Scope, condition string, args ...any) ([]model.Agent, error) {
	w := inScope(scope)
	w.and(condition, args...)
	list := []model.Agent{}
	rows, err := q.query(`SELECT id, agent_group, name, state, facts, enrolled, last_seen, revoked
		FROM agents`+
		w.text()+` ORDER BY name`, w.args...)
	err = each(rows, err, func(r rowScanner) error {
		var facts string
		var id, group page.ID
		var name string
		var state model.AgentState
		var enrolled, seen, revoked int64
		if err := r.Scan(idScan{&id}, idScan{&group}, &name, &state, &facts, &enrolled, &seen,
			&revoked); err != nil {
			return err
		}
		var a model.Agent
		if err := json.Unmarshal([]byte(facts), &a); err != nil {
			return fmt.Errorf("decode agent %s: %w", name, err)
		}
		a.ID, a.Group, a.Name, a.State = id, group, name, state
		a.Tenant, a.Environment = scope.Tenant, scope.Environment
		a.Enrolled, a.LastSeen, a.Revoked = timeOf(enrolled), timePtr(seen), timePtr(revoked)
		list = append(list, a)
		return nil
	})
	return list, err
}

// ChangeAgent lets change alter an agent in one transaction. Id, place and
// enrollment stay; a revoked agent stays revoked.
func (s *Store) ChangeAgent(
	ctx context.Context, scope Scope, id page.ID, change func(*model.Agent),
) (model.Agent, error) {
	var out model.Agent
	err := s.write(ctx, func(t *tx) error {
		list, err := agentsBy(t, scope, `id = ?`, id.String())
		if err == nil && len(list) == 0 {
			err = notFound("agent", id.String())
		}
		if err != nil {
			return err
		}
		out = list[0]
		revoked := out.Revoked
		change(&out)
		if revoked != nil {
			out.State, out.Revoked = model.AgentRevoked, revoked
		}
		return saveAgent(t, id, &out)
	})
	if err != nil {
		return model.Agent{}, fmt.Errorf("change agent %s: %w", id, err)
	}
	return out, nil
}

func saveAgent(t *tx, id page.ID, a *model.Agent) error {
	facts, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = t.exec(`UPDATE agents SET agent_group = ?, name = ?, state = ?, facts = ?, last_seen = ?,
		revoked = ?
		WHERE id = ?`, a.Group.String(), a.Name, string(a.State), string(facts), microsOf(a.LastSeen),
		microsOf(a.Revoked), id.String())
	return err
}

// Hello issues the epoch of an agent's process: higher for each process not seen
// before. newest is false for a process that a later one has replaced.
func (s *Store) Hello(
	ctx context.Context, scope Scope, agent page.ID, process [16]byte, now time.Time,
) (epoch uint64, newest bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		var last int64
		found, err := t.row(`SELECT epoch FROM agents WHERE id = ? AND tenant = ? AND environment = ? AND
			revoked = 0`,
			[]any{agent.String(), scope.Tenant.String(), scope.Environment.String()}, &last)
		if err == nil && !found {
			err = fault.Of("E_REVOKED").WithSource(source).WithCause("the agent is unknown or revoked")
		}
		if err != nil {
			return err
		}
		var own int64
		known, err := t.row(`SELECT epoch FROM agent_processes WHERE agent = ? AND process = ?`,
			[]any{agent.String(), process[:]}, &own)
		if err != nil {
			return err
		}
		if known {
			epoch, newest = uint64(own), own == last
			return nil
		}
		epoch, newest = uint64(last+1), true
		return newProcess(t, agent, process, last+1, micros(now))
	})
	if err != nil {
		return 0, false, fmt.Errorf("greet agent %s: %w", agent, err)
	}
	return epoch, newest, nil
}

func newProcess(t *tx, agent page.ID, process [16]byte, epoch, now int64) error {
	if _, err := t.exec(`INSERT INTO agent_processes (agent, process, epoch, at) VALUES (?, ?, ?, ?)`,
		agent.String(), process[:], epoch, now); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE agents SET process = ?, epoch = ?, last_seen = ? WHERE id = ?`,
		process[:], epoch, now, agent.String())
	return err
}
