package store

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// auditFormat is the first field of every hashed row.
const auditFormat = "ropeway audit 1"

// AuditSigner makes a keyed hash of data for a tenant. The key is not in the
// database: who can write there can make a new chain, but not its signed head.
type AuditSigner func(tenant page.ID, data []byte) (page.Hash, error)

// AuditList is one piece of a list. Next continues it; 0 at its end.
type AuditList struct {
	Items []model.AuditEntry
	Next  uint64
}

// Audit appends entries to the log of their tenant. Seq, Prev and Hash are set
// by the store; entries of one call are committed together.
func (s *Store) Audit(ctx context.Context, entries ...model.AuditEntry) error {
	err := s.write(ctx, func(t *tx) error {
		for _, e := range entries {
			if err := appendAudit(t, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// appendAudit chains one entry to the head of its tenant.
func appendAudit(t *tx, e model.AuditEntry) error {
	var seq int64
	if _, err := t.row(`SELECT seq, hash FROM audit_heads WHERE tenant = ?`,
		[]any{e.Tenant.String()}, &seq, bytesScan{e.Prev[:]}); err != nil {
		return err
	}
	e.Seq, e.At = uint64(seq+1), timeOf(micros(e.At))
	e.Hash = auditHash(&e)
	if _, err := t.exec(`INSERT INTO audit (tenant, seq, environment, at, actor, action, kind, object,
		detail, prev, hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Tenant.String(), int64(e.Seq), idText(e.Environment), micros(e.At), e.Actor, e.Action, e.Kind,
		e.Object, e.Detail, e.Prev[:], e.Hash[:]); err != nil {
		return err
	}
	signature, err := t.sign.head(e.Tenant, e.Seq, e.Hash)
	if err != nil {
		return fmt.Errorf("sign audit log: %w", err)
	}
	_, err = t.exec(`INSERT INTO audit_heads (tenant, seq, hash, signature) VALUES (?, ?, ?, ?)
		ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq, hash = excluded.hash,
		signature = excluded.signature`,
		e.Tenant.String(), int64(e.Seq), e.Hash[:], signature)
	return err
}

// head signs the newest entry of a log; nothing without a signer.
func (s AuditSigner) head(tenant page.ID, seq uint64, hash page.Hash) ([]byte, error) {
	if s == nil {
		return []byte{}, nil
	}
	b := append([]byte("ropeway audit head 1"), tenant[:]...)
	b = append(binary.BigEndian.AppendUint64(b, seq), hash[:]...)
	signature, err := s(tenant, b)
	return signature[:], err
}

// auditHash is the SHA-256 of the canonical bytes of an entry: every field with
// its length before it, so that no two entries share their bytes.
func auditHash(e *model.AuditEntry) page.Hash {
	var b []byte
	field := func(f []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	number := func(n uint64) { field(binary.BigEndian.AppendUint64(nil, n)) }
	field([]byte(auditFormat))
	field(e.Tenant[:])
	number(e.Seq)
	field(e.Environment[:])
	number(uint64(micros(e.At)))
	for _, text := range []string{e.Actor, e.Action, e.Kind, e.Object, e.Detail} {
		field([]byte(text))
	}
	field(e.Prev[:])
	return sha256.Sum256(b)
}

// AuditEntries lists the log of a tenant, newest first, before the entry with
// seq before; 0 starts at the newest.
func (s *Store) AuditEntries(
	ctx context.Context, tenant page.ID, limit int, before uint64,
) (AuditList, error) {
	var out AuditList
	if before == 0 || before > 1<<62 {
		before = 1 << 62
	}
	var err error
	out.Items, err = auditRows(s.read(ctx), `tenant = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
		tenant.String(), int64(before), limit+1)
	if err != nil {
		return AuditList{}, fmt.Errorf("list audit log: %w", err)
	}
	if len(out.Items) > limit {
		out.Items = out.Items[:limit]
		out.Next = out.Items[limit-1].Seq
	}
	return out, nil
}

// VerifyAudit walks the log of a tenant and returns the number of sound entries.
// A changed, missing, moved or cut-off entry is an error of code E_AUDIT that
// names the first place where the chain is broken.
func (s *Store) VerifyAudit(ctx context.Context, tenant page.ID) (uint64, error) {
	const batch = 1000
	q := s.read(ctx)
	var last model.AuditEntry
	for {
		rows, err := auditRows(q, `tenant = ? AND seq > ? ORDER BY seq LIMIT ?`, tenant.String(),
			int64(last.Seq), batch)
		if err != nil {
			return last.Seq, fmt.Errorf("verify audit log: %w", err)
		}
		for _, e := range rows {
			if e.Seq != last.Seq+1 || e.Prev != last.Hash || e.Hash != auditHash(&e) {
				return last.Seq, tampered("the chain breaks after entry %d", last.Seq)
			}
			last = e
		}
		if len(rows) < batch {
			break
		}
	}
	return last.Seq, s.checkHead(q, tenant, &last)
}

// checkHead notices entries cut off at the end.
func (s *Store) checkHead(q querier, tenant page.ID, last *model.AuditEntry) error {
	var seq uint64
	var hash page.Hash
	var signature []byte
	found, err := q.row(`SELECT seq, hash, signature FROM audit_heads WHERE tenant = ?`, []any{tenant.String()},
		&seq, bytesScan{hash[:]}, &signature)
	if err != nil {
		return fmt.Errorf("verify audit log: %w", err)
	}
	if !found && last.Seq == 0 {
		return checkNeverWritten(q, tenant)
	}
	want, err := s.opt.sign.head(tenant, seq, hash)
	if err != nil {
		return fmt.Errorf("verify audit log: %w", err)
	}
	if found && subtle.ConstantTimeCompare(signature, want) != 1 {
		return tampered("the head after entry %d has not the signature of this hub", seq)
	}
	// Entries may have been appended while the log was walked.
	if !found || seq < last.Seq || seq == last.Seq && hash != last.Hash {
		return tampered("the head does not belong to entry %d", last.Seq)
	}
	if seq > last.Seq {
		more, err := auditRows(q, `tenant = ? AND seq > ? ORDER BY seq LIMIT 1`, tenant.String(),
			int64(last.Seq))
		if err != nil {
			return fmt.Errorf("verify audit log: %w", err)
		}
		if len(more) == 0 {
			return tampered("entries after %d are missing", last.Seq)
		}
	}
	return nil
}

// checkNeverWritten notices a log that was removed as a whole: a tenant that has
// a token has an entry about it.
func checkNeverWritten(q querier, tenant page.ID) error {
	found, err := q.row(`SELECT 1 FROM api_tokens WHERE tenant = ? LIMIT 1`, []any{tenant.String()}, new(int))
	if err != nil {
		return fmt.Errorf("verify audit log: %w", err)
	}
	if found {
		return tampered("the whole log is missing")
	}
	return nil
}

func tampered(format string, args ...any) error {
	return fault.New(fault.Internal, "E_AUDIT", "the audit log was changed behind the hub").
		WithFix("keep a copy of the database, restore the log from a backup and find out who had access").
		WithSource(source).WithCause(fmt.Sprintf(format, args...))
}

func auditRows(q querier, where string, args ...any) ([]model.AuditEntry, error) {
	list := []model.AuditEntry{}
	rows, err := q.query(`SELECT tenant, seq, environment, at, actor, action, kind, object, detail,
		prev, hash
		FROM audit WHERE `+where, args...)
	err = each(rows, err, func(r rowScanner) error {
		var e model.AuditEntry
		var at int64
		err := r.Scan(idScan{&e.Tenant}, &e.Seq, idScan{&e.Environment}, &at, &e.Actor, &e.Action,
			&e.Kind,
			&e.Object, &e.Detail, bytesScan{e.Prev[:]}, bytesScan{e.Hash[:]})
		e.At = timeOf(at)
		list = append(list, e)
		return err
	})
	return list, err
}
