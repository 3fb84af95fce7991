package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// APIToken is a token for the REST API; its secret is known only as a hash.
type APIToken struct {
	ID           page.ID    `json:"id"`
	Tenant       page.ID    `json:"tenant"`
	Name         string     `json:"name"`
	Role         string     `json:"role"`
	Environments []page.ID  `json:"environments,omitempty"` // empty = all of the tenant
	Created      time.Time  `json:"created"`
	Expires      *time.Time `json:"expires,omitempty"`
	LastUsed     *time.Time `json:"lastUsed,omitempty"`
	Revoked      *time.Time `json:"revoked,omitempty"`
}

// CreateAPIToken writes a token under the hash of its secret, with an audit row.
func (s *Store) CreateAPIToken(
	ctx context.Context, tok APIToken, hash [32]byte, actor string,
) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO api_tokens (id, hash, tenant, name, role, environments, created,
			expires,
			last_used, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)`,
			tok.ID.String(), hash[:], tok.Tenant.String(), tok.Name, tok.Role, joinIDs(tok.Environments),
			micros(tok.Created), microsOf(tok.Expires))
		if err != nil {
			return err
		}
		return appendAudit(t, model.AuditEntry{At: tok.Created, Tenant: tok.Tenant, Actor: actor,
			Action: "token create", Kind: "Token", Object: tok.Name, Detail: "role " + tok.Role})
	})
	if err != nil {
		return fmt.Errorf("create token %s: %w", tok.Name, err)
	}
	return nil
}

// APITokenByHash finds a token of any tenant by the hash of its secret, revoked
// and expired ones too; found is false when there is none. It is the call that
// decides the tenant, so it is bound to none.
func (s *Store) APITokenByHash(
	ctx context.Context, hash [32]byte,
) (tok APIToken, found bool, err error) {
	list, err := apiTokens(s.read(ctx), `hash = ?`, hash[:])
	if err != nil {
		return APIToken{}, false, fmt.Errorf("find token: %w", err)
	}
	if len(list) == 0 {
		return APIToken{}, false, nil
	}
	return list[0], true, nil
}

// APITokens lists the tokens of a tenant by name.
func (s *Store) APITokens(ctx context.Context, tenant page.ID) ([]APIToken, error) {
	list, err := apiTokens(s.read(ctx), `tenant = ? ORDER BY name`, tenant.String())
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return list, nil
}

func apiTokens(q querier, where string, args ...any) ([]APIToken, error) {
	list := []APIToken{}
	rows, err := q.query(`SELECT id, tenant, name, role, environments, created, expires, last_used,
		revoked
		FROM api_tokens WHERE `+where, args...)
	err = each(rows, err, func(r rowScanner) error {
		var tok APIToken
		var environments string
		var created, expires, used, revoked int64
		err := r.Scan(idScan{&tok.ID}, idScan{&tok.Tenant}, &tok.Name, &tok.Role, &environments, &created,
			&expires, &used, &revoked)
		if err == nil {
			tok.Environments, err = splitIDs(environments)
		}
		tok.Created, tok.Expires = timeOf(created), timePtr(expires)
		tok.LastUsed, tok.Revoked = timePtr(used), timePtr(revoked)
		list = append(list, tok)
		return err
	})
	return list, err
}

// TouchAPIToken notes when a token was used last.
func (s *Store) TouchAPIToken(ctx context.Context, id page.ID, now time.Time) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE api_tokens SET last_used = ? WHERE id = ? AND last_used < ?`,
			micros(now), id.String(), micros(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("note use of token %s: %w", id, err)
	}
	return nil
}

// RevokeAPIToken revokes a token by its name, with an audit row.
func (s *Store) RevokeAPIToken(
	ctx context.Context, tenant page.ID, name, actor string, now time.Time,
) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE api_tokens SET revoked = ? WHERE tenant = ? AND name = ? AND revoked =
			0`,
			micros(now), tenant.String(), name)
		if err == nil && n == 0 {
			err = notFound("token", name)
		}
		if err != nil {
			return err
		}
		return appendAudit(t, model.AuditEntry{At: now, Tenant: tenant, Actor: actor,
			Action: "token revoke", Kind: "Token", Object: name})
	})
	if err != nil {
		return fmt.Errorf("revoke token %s: %w", name, err)
	}
	return nil
}

func joinIDs(ids []page.ID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return strings.Join(texts, " ")
}

func splitIDs(text string) (ids []page.ID, err error) {
	for _, t := range strings.Fields(text) {
		id, err := page.ParseID(t)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
