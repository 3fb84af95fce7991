package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

const paidSteps = `  - filter: record.status == "paid"
  - map:
      id: record.id
      total_cents: int(record.total * 100)
      note: record.note
  - import: {connection: warehouse, table: orders, mode: upsert, key: [id]}
    name: load
`

// TestScriptedPath is the sequence of the surface contract up to `error list`,
// with one record that the target refuses, edited and retried.
func TestScriptedPath(t *testing.T) {
	w := newWorld(t)
	w.sql(w.source, `CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(12,2), note text)`)
	w.sql(w.source, `INSERT INTO orders SELECT i, CASE WHEN i % 4 = 0 THEN 'open' ELSE 'paid' END, 0.29, 'n' || i
		FROM generate_series(1, 1000) i`)
	w.sql(w.source, `UPDATE orders SET note = 'much too long for the target' WHERE id = 7`)
	w.sql(w.target, `CREATE TABLE orders (id int PRIMARY KEY, total_cents bigint, note varchar(10))`)
	w.up(paidSteps)

	mode := func(path string) os.FileMode {
		info, err := os.Stat(w.Path(path))
		w.must(err)
		return info.Mode().Perm()
	}
	if got := mode("hub/ca.pem"); got != 0o644 {
		t.Errorf("hub/ca.pem has mode %o, want 644", got)
	}
	for _, secret := range []string{"hub/admin.token", "token"} {
		if got := mode(secret); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", secret, got)
		}
	}

	status := decode[struct {
		State    string
		Tunnels  []struct{ Transport string }
		Identity struct{ Serial, NotAfter, Fingerprint string }
		Buffer   struct{ Pages, Bytes int64 }
	}](t, w.agent("status", "-o", "json"))
	if status.State != "online" || len(status.Tunnels) == 0 || status.Tunnels[0].Transport != "tcp" ||
		status.Identity.Serial == "" || status.Identity.NotAfter == "" || status.Identity.Fingerprint == "" {
		t.Errorf("agent status is not complete: %+v", status)
	}

	type job struct {
		ID, State string
		Records   struct{ Exported, Delivered, Filtered, Parked int }
		Pages     int
		Duration  float64
	}
	out, err := w.Client(w.context(time.Minute), "", "flow", "run", "orders-to-warehouse", "--wait", "-o", "json")
	w.refused(1, out, err) // completed_with_errors
	ran := decode[job](t, out)
	if ran.State != "completed_with_errors" || ran.Records.Exported != 1000 || ran.Records.Filtered != 250 ||
		ran.Records.Parked != 1 || ran.Records.Delivered != 749 || ran.Pages == 0 || ran.Duration <= 0 {
		t.Fatalf("job: %+v", ran)
	}
	if got := decode[job](t, w.run("", "job", "show", ran.ID, "-o", "json")); got.State != ran.State || got.Records != ran.Records {
		t.Errorf("job show: %+v, want %+v", got, ran)
	}
	if n := w.number(w.target, `SELECT count(*) FROM orders WHERE total_cents = 29`); n != 749 {
		t.Errorf("%d rows with exact cents in the target, want 749", n)
	}

	type parked struct{ ID, Code, Class, Step, State string }
	list := decode[[]parked](t, w.run("", "error", "list", "--flow", "orders-to-warehouse", "-o", "json"))
	if len(list) != 1 || list[0].Class != "value" || list[0].Step != "load" {
		t.Fatalf("error list: %+v", list)
	}
	shown := w.run("", "error", "show", list[0].ID, "-o", "json")
	if !strings.Contains(shown, "much too long") {
		t.Errorf("error show does not show the record: %s", shown)
	}
	retried := decode[struct{ Job string }](t,
		w.run(`{"id":7,"total_cents":29,"note":"short"}`, "error", "edit", list[0].ID, "--file", "-", "-o", "json"))
	again, err := w.WaitJob(w.context(time.Minute), retried.Job)
	w.must(err)
	if again.State != "completed" || again.Records.Delivered != 1 {
		t.Errorf("retry: %+v", again)
	}
	if n := w.number(w.target, `SELECT count(*) FROM orders WHERE id = 7 AND note = 'short'`); n != 1 {
		t.Error("the edited record is not in the target")
	}
	out, err = w.Client(w.context(time.Minute), "", "error", "retry", list[0].ID, "-o", "json")
	w.refused(1, out, err, "retr")

	queue := decode[struct {
		State       string
		Concurrency int
		Queued      int
		InFlight    int
		Borrowers   []string
	}](t, w.run("", "connection", "queue", "warehouse", "-o", "json"))
	if queue.State != "online" || queue.Concurrency != 6 || queue.Queued != 0 || queue.Borrowers == nil {
		t.Errorf("connection queue: %+v", queue)
	}
	agents := decode[[]struct{ Name, State, Group string }](t, w.run("", "agent", "list", "-o", "json"))
	if len(agents) != 1 || agents[0].State != "online" || agents[0].Group != "plant-7" {
		t.Errorf("agent list: %+v", agents)
	}
	buffer := decode[struct{ Pages, Bytes, Unacked int }](t, w.agent("buffer", "status", "-o", "json"))
	if buffer.Unacked != 0 {
		t.Errorf("buffer status: %+v", buffer)
	}
	w.sql(w.source, `UPDATE orders SET note = 'short' WHERE id = 7`)
	if got := decode[job](t, w.run("", "flow", "run", "orders-to-warehouse", "--wait", "-o", "json")); got.Records.Exported != 1000 {
		t.Errorf("second run: %+v", got)
	}
}

// agent runs `ropeway-agent` against the site's state.
func (w *world) agent(args ...string) string {
	w.t.Helper()
	out, err := w.AgentCommand(w.context(30*time.Second), "", args...)
	w.must(err)
	return out
}
