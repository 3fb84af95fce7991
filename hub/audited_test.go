package hub

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// unaudited are operations that change nothing although they are no GET.
var unaudited = []string{"ping-connection"}

// Promise S7: every operation that changes something leaves a row in the audit
// log, with the caller's name. The list comes from the API itself.
func TestS7_EveryChangeIsAudited(t *testing.T) {
	m := newMatrix(t)
	operations := m.operations()
	for _, id := range slices.Sorted(maps.Keys(operations)) {
		r, there := rows[id]
		if operations[id][0] == "GET" || slices.Contains(unaudited, id) || !there {
			continue
		}
		if id == "apply" {
			r.body = "kind: AgentGroup\nname: audited\n"
		}
		m.prepare(r)
		before := m.newest()
		m.cell(id, operations[id], r, "admin", r.want[5])
		rows := m.newest()
		if rows.Seq == before.Seq {
			t.Errorf("%s wrote no audit row", id)
		} else if rows.Actor != "matrix-admin" {
			t.Errorf("%s was audited as done by %q: %+v", id, rows.Actor, rows)
		}
	}
	code, body := m.call("admin", "GET", "/api/v1/audit/verify", "", "")
	if code != 200 || !strings.Contains(body, `"ok":true`) {
		t.Errorf("the log does not verify: %d %s", code, body)
	}
}

type auditRow struct {
	Seq                         uint64
	Actor, Action, Kind, Object string
}

func (m *matrix) newest() auditRow {
	m.t.Helper()
	code, body := m.call("admin", "GET", "/api/v1/audit?limit=1", "", "")
	var list struct{ Items []auditRow }
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != 200 || len(list.Items) != 1 {
		m.t.Fatalf("audit: %d %s", code, body)
	}
	return list.Items[0]
}

// sealable is a secret engine that can be sealed.
type sealable struct{ asked int }

func (e *sealable) MAC(_ context.Context, tenant page.ID, purpose string, _ []byte) (page.Hash, error) {
	if e.asked++; e.asked > 1 {
		return page.Hash{}, fault.Of("E_SEALED")
	}
	return page.Hash(sha256.Sum256([]byte(tenant.String() + purpose))), nil
}

// A sealed engine does not hold up audit rows of a tenant that was seen before;
// another tenant's wait until it is open.
func TestSignerOutlivesASealedEngine(t *testing.T) {
	s, tenant := newSigner(&sealable{}), page.NewID()
	first, err := s.sign(tenant, []byte("head"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.sign(tenant, []byte("head"))
	if err != nil || again != first {
		t.Errorf("again: %v, %v", again, err)
	}
	if other, err := s.sign(tenant, []byte("heae")); err != nil || other == first {
		t.Errorf("another head: %v, %v", other, err)
	}
	if _, err := s.sign(page.NewID(), nil); fault.CodeOf(err) != "E_SEALED" {
		t.Errorf("a new tenant: %v", err)
	}
}
