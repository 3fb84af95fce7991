// Package audit writes what people and agents changed into the tenant's audit
// log and checks that nobody touched the log since. It owns the words of an
// entry; the chain itself is the store's. It never sees a secret.
package audit

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// maxText bounds each text of an entry, in bytes.
const maxText = 1024

// Rows is where entries are kept; *store.Store is one.
type Rows interface {
	Audit(ctx context.Context, entries ...model.AuditEntry) error
	AuditEntries(ctx context.Context, tenant page.ID, limit int, before uint64) (store.AuditList,
		error)
	VerifyAudit(ctx context.Context, tenant page.ID) (uint64, error)
}

// Log is the audit log of a hub.
type Log struct {
	rows  Rows
	clock func() time.Time
}

// New returns a log over rows.
func New(rows Rows, clock func() time.Time) *Log { return &Log{rows: rows, clock: clock} }

// Event is something that was changed. Detail never holds a secret.
type Event struct {
	Scope  store.Scope // Environment may be zero: the tenant as a whole
	Actor  string      // name of the token, of the agent, or "local"
	Action string      // e.g. "secret set"
	Kind   string
	Object string
	Detail string
}

// Write appends an event; it is durable when Write returns.
func (l *Log) Write(ctx context.Context, e Event) error {
	return l.rows.Audit(ctx, model.AuditEntry{At: l.clock(), Tenant: e.Scope.Tenant,
		Environment: e.Scope.Environment,
		Actor:       cut(e.Actor), Action: cut(e.Action), Kind: cut(e.Kind), Object: cut(e.Object),
		Detail: cut(e.Detail)})
}

// Entries lists the log of a tenant, newest first, before an entry; 0 starts at
// the newest.
func (l *Log) Entries(
	ctx context.Context, tenant page.ID, limit int, before uint64,
) (store.AuditList, error) {
	return l.rows.AuditEntries(ctx, tenant, limit, before)
}

// Verdict is the outcome of a check of the log.
type Verdict struct {
	Entries uint64    `json:"entries"` // sound ones, from the first on
	Sound   bool      `json:"sound"`
	Finding string    `json:"finding,omitempty"`
	At      time.Time `json:"at"`
}

// Verify walks the whole log of a tenant. A log that was changed is a verdict,
// not an error.
func (l *Log) Verify(ctx context.Context, tenant page.ID) (Verdict, error) {
	n, err := l.rows.VerifyAudit(ctx, tenant)
	v := Verdict{Entries: n, Sound: err == nil, At: l.clock()}
	if broken := asTampered(err); broken != "" {
		v.Finding, err = broken, nil
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("verify audit log: %w", err)
	}
	return v, nil
}
