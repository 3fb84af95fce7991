package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A Renewal gives an agent its next certificate.
type Renewal struct {
	Scope  Scope
	Agent  page.ID
	Used   [32]byte // SHA-256 of the key it came with
	Key    [32]byte // and of the key that the new certificate is for
	Change func(*model.Agent)
	Audit  model.AuditEntry // its Tenant, Environment and Object are filled in
}

// RenewAgent notes the new certificate of an agent, with an audit row. Only the
// agent's own key may ask: the one it has now or, until that one was seen in
// use, the one before. A closed agent or any other key is refused with
// E_REVOKED.
func (s *Store) RenewAgent(ctx context.Context, r Renewal) (model.Agent, error) {
	var out model.Agent
	err := s.write(ctx, func(t *tx) error {
		list, err := agentsBy(t, r.Scope, `id = ?`, r.Agent.String())
		if err == nil && (len(list) == 0 || list[0].Revoked != nil || list[0].State == model.AgentDisabled) {
			err = fault.Of("E_REVOKED").WithSource(source).WithCause("the agent is unknown, revoked or disabled")
		}
		if err == nil {
			out = list[0]
			err = turnKey(t, &out, &r)
		}
		if err != nil {
			return err
		}
		r.Change(&out)
		if err := saveAgent(t, r.Agent, &out); err != nil {
			return err
		}
		e := r.Audit
		e.Tenant, e.Environment, e.Kind, e.Object = r.Scope.Tenant, r.Scope.Environment, "Agent", out.Name
		return appendAudit(t, e)
	})
	if err != nil {
		return model.Agent{}, fmt.Errorf("renew agent %s: %w", r.Agent, err)
	}
	return out, nil
}

// turnKey judges the key of a renewal and notes a change of key.
func turnKey(t *tx, a *model.Agent, r *Renewal) error {
	var now, before [32]byte
	if _, err := t.row(`SELECT public_key FROM agents WHERE id = ?`, []any{a.ID.String()}, bytesScan{now[:]}); err != nil {
		return err
	}
	retiring, err := t.row(`SELECT key_before FROM key_changes WHERE agent = ? AND key_now = ?`,
		[]any{a.ID.String(), now[:]}, bytesScan{before[:]})
	if err != nil {
		return err
	}
	switch {
	case r.Used == now && retiring: // it has what it was given: the old key is not needed any more
		if err := retire(t, r.Scope, a.ID, before, r.Audit.At); err != nil {
			return err
		}
	case r.Used != now && !(retiring && r.Used == before):
		return fault.Of("E_REVOKED").WithSource(source).
			WithCause("this key of the agent was replaced by a newer one").
			WithFix("if you did not rotate the key, somebody has a copy of it: revoke the agent")
	}
	if r.Key == now || r.Key == before && retiring {
		return nil
	}
	if _, err := t.exec(`INSERT INTO key_changes (agent, tenant, key_now, key_before, at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (agent) DO UPDATE SET key_now = excluded.key_now, key_before = excluded.key_before,
		at = excluded.at`,
		a.ID.String(), r.Scope.Tenant.String(), r.Key[:], r.Used[:], micros(r.Audit.At)); err != nil {
		return err
	}
	_, err = t.exec(`UPDATE agents SET public_key = ? WHERE id = ?`, r.Key[:], a.ID.String())
	return err
}

// KeySeen says that an agent has proved to hold a key. When it is the one of its
// last rotation, the key before is revoked: until then the agent may not have
// learnt of the new certificate, from then on only a thief would use the old one.
func (s *Store) KeySeen(ctx context.Context, scope Scope, agent page.ID, key [32]byte, now time.Time) error {
	var before [32]byte
	const sql = `SELECT key_before FROM key_changes WHERE agent = ? AND tenant = ? AND key_now = ?`
	args := []any{agent.String(), scope.Tenant.String(), key[:]}
	found, err := s.read(ctx).row(sql, args, bytesScan{before[:]})
	if err == nil && found {
		err = s.write(ctx, func(t *tx) error {
			found, err := t.row(sql, args, bytesScan{before[:]})
			if err != nil || !found {
				return err
			}
			return retire(t, scope, agent, before, now)
		})
	}
	if err != nil {
		return fmt.Errorf("note key of agent %s: %w", agent, err)
	}
	return nil
}

func retire(t *tx, scope Scope, agent page.ID, key [32]byte, now time.Time) error {
	if err := revoke(t, scope, agent, "key", hex.EncodeToString(key[:]), "replaced by a newer key", now); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM key_changes WHERE agent = ?`, agent.String())
	return err
}
