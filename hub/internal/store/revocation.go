package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// RevokeAgent revokes an agent: its state, its public key and the serial of its
// certificate, with an audit row. Revoking again changes nothing.
func (s *Store) RevokeAgent(
	ctx context.Context, scope Scope, id page.ID, actor, reason string, now time.Time,
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
		if out = list[0]; out.Revoked != nil {
			return nil
		}
		at := timeOf(micros(now))
		out.State, out.Revoked = model.AgentRevoked, &at
		var key []byte
		if _, err := t.row(`SELECT public_key FROM agents WHERE id = ?`, []any{id.String()},
			&key); err != nil {
			return err
		}
		for kind, value := range map[string]string{"key": hex.EncodeToString(key), "serial": out.Serial} {
			if err := revoke(t, scope, id, kind, value, reason, now); err != nil {
				return err
			}
		}
		if err := saveAgent(t, id, &out); err != nil {
			return err
		}
		return appendAudit(t, model.AuditEntry{At: now, Tenant: scope.Tenant,
			Environment: scope.Environment,
			Actor:       actor, Action: "agent revoke", Kind: "Agent", Object: out.Name, Detail: reason})
	})
	if err != nil {
		return model.Agent{}, fmt.Errorf("revoke agent %s: %w", id, err)
	}
	return out, nil
}

func revoke(t *tx, scope Scope, agent page.ID, kind, value, reason string, now time.Time) error {
	if value == "" {
		return nil
	}
	_, err := t.exec(`INSERT INTO revoked_certs (tenant, environment, agent, kind, value, reason, at)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		scope.Tenant.String(), scope.Environment.String(), agent.String(), kind, value, reason,
		micros(now))
	return err
}

// Revoked reports whether a certificate of the tenant may not be used: by its
// serial (hex) or by the SHA-256 of its public key.
func (s *Store) Revoked(
	ctx context.Context, tenant page.ID, serial string, keyHash []byte,
) (bool, error) {
	found, err := s.read(ctx).row(`SELECT 1 FROM revoked_certs WHERE tenant = ?
		AND ((kind = 'serial' AND value = ?) OR (kind = 'key' AND value = ?)) LIMIT 1`,
		[]any{tenant.String(), serial, hex.EncodeToString(keyHash)}, new(int))
	if err != nil {
		return false, fmt.Errorf("check revocation: %w", err)
	}
	return found, nil
}
