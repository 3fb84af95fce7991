package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// signer stands for the secret engine: its key is not in the database.
func signer(key string) AuditSigner {
	return func(tenant page.ID, data []byte) (page.Hash, error) {
		mac := hmac.New(sha256.New, append([]byte(key), tenant[:]...))
		mac.Write(data)
		return page.Hash(mac.Sum(nil)), nil
	}
}

// Promise S7 against who can write to the database: rows and heads that fit
// together are found too, because the heads are signed with a key from outside.
func TestSecurity_S7_ARewrittenAuditLogIsNoticed(t *testing.T) {
	for name, touch := range map[string]func(x *tx, tenant page.ID) error{
		"untouched": nil,
		"edited, and the chain made again": func(x *tx, tenant page.ID) error {
			return rewrite(x, tenant, 4, func(e *model.AuditEntry) { e.Actor = "eve" })
		},
		"cut off, with its head":  func(x *tx, tenant page.ID) error { return rewrite(x, tenant, 2, nil) },
		"emptied, with its head":  func(x *tx, tenant page.ID) error { return rewrite(x, tenant, 0, nil) },
		"signed with another key": func(x *tx, tenant page.ID) error { return resign(x, tenant, signer("eve")) },
		"not signed":              func(x *tx, tenant page.ID) error { return resign(x, tenant, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "hub.db"), WithAuditSigner(signer("hub")))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tenant, err := s.EnsureTenant(t.Context(), "main", "", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				tok := APIToken{ID: page.NewID(), Tenant: tenant.ID, Name: fmt.Sprint("t", i), Role: "viewer", Created: time.Now()}
				if err := s.CreateAPIToken(t.Context(), tok, [32]byte{byte(i)}, "ann"); err != nil {
					t.Fatal(err)
				}
			}
			if touch == nil {
				if n, err := s.VerifyAudit(t.Context(), tenant.ID); err != nil || n != 4 {
					t.Fatalf("the untouched log: %d, %v", n, err)
				}
				return
			}
			if err := s.write(context.Background(), func(x *tx) error { return touch(x, tenant.ID) }); err != nil {
				t.Fatal(err)
			}
			if _, err := s.VerifyAudit(t.Context(), tenant.ID); fault.CodeOf(err) != "E_AUDIT" {
				t.Fatalf("got %v, want E_AUDIT", err)
			}
		})
	}
}

// rewrite makes a consistent log of the first keep entries, as one would who has
// the database and the source code, but no key.
func rewrite(x *tx, tenant page.ID, keep int, edit func(*model.AuditEntry)) error {
	rows, err := auditRows(x, `tenant = ? ORDER BY seq`, tenant.String())
	if err != nil {
		return err
	}
	for _, q := range []string{`DELETE FROM audit WHERE tenant = ?`, `DELETE FROM audit_heads WHERE tenant = ?`} {
		if _, err := x.exec(q, tenant.String()); err != nil {
			return err
		}
	}
	sign := x.sign
	x.sign = nil
	defer func() { x.sign = sign }()
	for _, e := range rows[:keep] {
		if edit != nil {
			edit(&e)
		}
		e.Prev = page.Hash{}
		if err := appendAudit(x, e); err != nil {
			return err
		}
	}
	return nil
}

func resign(x *tx, tenant page.ID, sign AuditSigner) error {
	var seq uint64
	var hash page.Hash
	if _, err := x.row(`SELECT seq, hash FROM audit_heads WHERE tenant = ?`, []any{tenant.String()}, &seq, bytesScan{hash[:]}); err != nil {
		return err
	}
	signature, err := sign.head(tenant, seq, hash)
	if err != nil {
		return err
	}
	_, err = x.exec(`UPDATE audit_heads SET signature = ? WHERE tenant = ?`, signature, tenant.String())
	return err
}
