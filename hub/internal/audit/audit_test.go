package audit_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ropeway/hub/internal/audit"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestEventsAreChainedAndVerified(t *testing.T) {
	s, err := store.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	log := audit.New(s, func() time.Time { return now })
	scope := store.Scope{Tenant: page.NewID(), Environment: page.NewID()}
	hostile := "line\nbreak \x1b[31m \xff\x00" + strings.Repeat("ä", 4000)
	for range 3 {
		if err := log.Write(context.Background(), audit.Event{Scope: scope, Actor: "ann",
			Action: "secret set",
			Kind:   "Credential", Object: hostile}); err != nil {
			t.Fatal(err)
		}
	}
	v, err := log.Verify(context.Background(), scope.Tenant)
	if err != nil || !v.Sound || v.Entries != 3 || !v.At.Equal(now) {
		t.Fatalf("got %+v, %v", v, err)
	}
	list, err := log.Entries(context.Background(), scope.Tenant, 2, 0)
	if err != nil || len(list.Items) != 2 || list.Next == 0 {
		t.Fatalf("got %+v, %v", list, err)
	}
	e := list.Items[0]
	if e.Actor != "ann" || e.Environment != scope.Environment || !e.At.Equal(now) || e.Seq != 3 {
		t.Fatalf("got %+v", e)
	}
	if len(e.Object) > 1024 || !utf8.ValidString(e.Object) || strings.ContainsAny(e.Object,
		"\n\x1b\x00") {
		t.Fatalf("the object is %q", e.Object)
	}
}

// broken is a log that was changed behind the hub, or cannot be read.
type broken struct {
	audit.Rows
	err error
}

func (b broken) VerifyAudit(context.Context, page.ID) (uint64, error) { return 7, b.err }
func (b broken) Audit(context.Context, ...model.AuditEntry) error     { return b.err }

func TestAChangedLogIsAVerdictAndNotAnError(t *testing.T) {
	changed := fault.New(fault.Internal, "E_AUDIT",
		"changed").WithCause("the chain breaks after entry 7")
	v, err := audit.New(broken{err: changed}, time.Now).Verify(context.Background(), page.NewID())
	if err != nil || v.Sound || v.Entries != 7 || v.Finding != "the chain breaks after entry 7" {
		t.Fatalf("got %+v, %v", v, err)
	}
	if v, err := audit.New(broken{err: context.Canceled}, time.Now).Verify(context.Background(),
		page.NewID()); err == nil {
		t.Fatalf("an unreadable log gives the verdict %+v", v)
	}
}
