package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// EnrollToken is a one-time token that lets an agent enroll into a group; its
// secret is known only as a hash.
type EnrollToken struct {
	ID        page.ID    `json:"id"`
	Scope     Scope      `json:"place"`
	Group     page.ID    `json:"groupId"`
	GroupName string     `json:"group"`
	AgentName string     `json:"name,omitempty"` // binds the token to this name
	Uses      int        `json:"uses"`
	Used      int        `json:"used"`
	CreatedBy string     `json:"createdBy"`
	Created   time.Time  `json:"created"`
	Expires   time.Time  `json:"expires"`
	Revoked   *time.Time `json:"revoked,omitempty"`
}

// Redemption is what a token gives to one public key. Repeat marks the same key
// coming again because it never saw the reply: it gets the same agent id.
type Redemption struct {
	Token  EnrollToken
	Agent  page.ID
	Repeat bool
}

// CreateEnrollToken writes a token under the hash of its secret, with an audit row.
func (s *Store) CreateEnrollToken(ctx context.Context, tok EnrollToken, hash [32]byte) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO enroll_tokens (id, hash, tenant, environment, agent_group,
			group_name,
			agent_name, uses, used, created_by, created, expires, revoked)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, 0)`,
			tok.ID.String(), hash[:], tok.Scope.Tenant.String(), tok.Scope.Environment.String(),
			tok.Group.String(), tok.GroupName, tok.AgentName, max(tok.Uses, 1), tok.CreatedBy,
			micros(tok.Created), micros(tok.Expires))
		if err != nil {
			return err
		}
		return appendAudit(t, model.AuditEntry{At: tok.Created, Tenant: tok.Scope.Tenant,
			Environment: tok.Scope.Environment, Actor: tok.CreatedBy, Action: "agent token",
			Kind:   "AgentGroup",
			Object: tok.GroupName})
	})
	if err != nil {
		return fmt.Errorf("create enrollment token: %w", err)
	}
	return nil
}

// EnrollTokens lists the tokens of a place, newest first.
func (s *Store) EnrollTokens(ctx context.Context, scope Scope) ([]EnrollToken, error) {
	list, err := enrollTokens(s.read(ctx), `tenant = ? AND environment = ? ORDER BY created DESC, id
		DESC`,
		scope.Tenant.String(), scope.Environment.String())
	if err != nil {
		return nil, fmt.Errorf("list enrollment tokens: %w", err)
	}
	return list, nil
}

// RevokeEnrollToken makes a token useless.
func (s *Store) RevokeEnrollToken(
	ctx context.Context, scope Scope, id page.ID, actor string, now time.Time,
) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE enroll_tokens SET revoked = ? WHERE id = ? AND tenant = ? AND
			environment = ?
			AND revoked = 0`, micros(now), id.String(), scope.Tenant.String(), scope.Environment.String())
		if err == nil && n == 0 {
			err = notFound("enrollment token", id.String())
		}
		if err != nil {
			return err
		}
		return appendAudit(t, model.AuditEntry{At: now, Tenant: scope.Tenant,
			Environment: scope.Environment,
			Actor:       actor, Action: "agent token revoke", Kind: "AgentGroup", Object: id.String()})
	})
	if err != nil {
		return fmt.Errorf("revoke enrollment token %s: %w", id, err)
	}
	return nil
}

// RedeemToken uses a token for one public key (its SHA-256). Exactly one key
// wins each use; the same key may come again within the token's life and gets
// the same agent. Refused with E_TOKEN_INVALID, E_TOKEN_EXPIRED or E_TOKEN_USED.
// It decides the tenant, so it is bound to none.
func (s *Store) RedeemToken(
	ctx context.Context, hash [32]byte, keyHash [32]byte, now time.Time,
) (Redemption, error) {
	var out Redemption
	err := s.write(ctx, func(t *tx) error {
		list, err := enrollTokens(t, `hash = ?`, hash[:])
		if err != nil {
			return err
		}
		if len(list) == 0 || list[0].Revoked != nil {
			return fault.Of("E_TOKEN_INVALID").WithSource(source)
		}
		out.Token = list[0]
		if !now.Before(out.Token.Expires) {
			return fault.Of("E_TOKEN_EXPIRED").WithSource(source)
		}
		out.Repeat, err = t.row(`SELECT agent FROM redemptions WHERE token = ? AND public_key = ?`,
			[]any{out.Token.ID.String(), keyHash[:]}, idScan{&out.Agent})
		if err != nil || out.Repeat {
			return err
		}
		out.Agent = page.NewID()
		return useToken(t, &out, keyHash, now)
	})
	if err != nil {
		return Redemption{}, fmt.Errorf("redeem enrollment token: %w", err)
	}
	return out, nil
}

func useToken(t *tx, r *Redemption, keyHash [32]byte, now time.Time) error {
	n, err := t.exec(`UPDATE enroll_tokens SET used = used + 1 WHERE id = ? AND used < uses`,
		r.Token.ID.String())
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.Of("E_TOKEN_USED").WithSource(source)
	}
	r.Token.Used++
	_, err = t.exec(`INSERT INTO redemptions (token, public_key, agent, at) VALUES (?, ?, ?, ?)`,
		r.Token.ID.String(), keyHash[:], r.Agent.String(), micros(now))
	return err
}

func enrollTokens(q querier, where string, args ...any) ([]EnrollToken, error) {
	list := []EnrollToken{}
	rows, err := q.query(`SELECT id, tenant, environment, agent_group, group_name, agent_name, uses,
		used,
		created_by, created, expires, revoked FROM enroll_tokens WHERE `+where, args...)
	err = each(rows, err, func(r rowScanner) error {
		var tok EnrollToken
		var created, expires, revoked int64
		err := r.Scan(idScan{&tok.ID}, idScan{&tok.Scope.Tenant}, idScan{&tok.Scope.Environment},
			idScan{&tok.Group},
			&tok.GroupName, &tok.AgentName, &tok.Uses, &tok.Used, &tok.CreatedBy, &created, &expires,
			&revoked)
		tok.Created, tok.Expires, tok.Revoked = timeOf(created), timeOf(expires), timePtr(revoked)
		list = append(list, tok)
		return err
	})
	return list, err
}
