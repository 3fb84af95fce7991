package hub

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
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
