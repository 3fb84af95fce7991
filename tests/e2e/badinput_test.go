package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"ropeway/tests/rig"
)

// TestBadManifests: each is refused whole, with code, place and the way out.
func TestBadManifests(t *testing.T) {
	w := newWorld(t)
	ctx := w.context(2 * time.Minute)
	w.must(w.StartHub(ctx))
	cases := map[string]struct {
		text  string
		words []string
	}{
		"unknown key":       {"kind: AgentGroup\nname: a\ncolour: red\n", []string{"colour"}},
		"unknown kind":      {"kind: Agentgruop\nname: a\n", []string{"Agentgruop", "AgentGroup"}},
		"unknown connector": {"kind: Connection\nname: a\nconnector: postgers\nsettings: {}\n", []string{"postgers"}},
		"unknown reference": {"kind: Connection\nname: a\nconnector: postgres\nagentGroup: nowhere\nsettings: {host: h, database: d}\n", []string{"nowhere"}},
		"unknown setting":   {"kind: Connection\nname: a\nconnector: postgres\nsettings: {host: h, database: d, hots: x}\n", []string{"hots"}},
		"level 26":          {"kind: Connection\nname: a\nconnector: postgres\nsettings: {host: h, database: d}\nconcurrency: 26\n", []string{"26"}},
		"borrow from self":  {"kind: Connection\nname: a\nconnector: postgres\nsettings: {host: h, database: d}\nborrowFrom: a\n", []string{"borrow"}},
		"broken filter":     {w.manifests("  - filter: record.status ==\n  - import: {connection: warehouse, table: orders}\n"), []string{"filter"}},
		"not YAML":          {"kind: [\n", []string{"E_MANIFEST"}},
	}
	for name, c := range cases {
		w.write("bad.yaml", c.text)
		out, err := w.Client(ctx, "", "apply", "-f", w.Path("bad.yaml"))
		t.Log(name, err)
		w.refused(1, out, err, c.words...)
	}
	if got := strings.TrimSpace(w.run("", "get", "connection", "-o", "json")); got != "[]" {
		t.Errorf("a refused set left something behind: %s", got)
	}
}

// TestFaultsOfTheSite: what goes wrong around a flow pauses or refuses it with
// the reason, and it goes on once the reason is gone. Nothing is lost.
func TestFaultsOfTheSite(t *testing.T) {
	w := newWorld(t)
	w.sql(w.source, `CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(12,2), note text)`)
	w.sql(w.source, `INSERT INTO orders SELECT i, 'paid', 0.29, 'n' FROM generate_series(1, 100) i`)
	w.up(paidSteps)
	ctx := w.context(3 * time.Minute)
	run := func() (string, error) {
		return w.Client(ctx, "", "flow", "run", "orders-to-warehouse", "--wait", "-o", "json")
	}

	// The target table is missing: the job pauses, waits, and goes on by itself.
	out, err := run()
	w.refused(1, out, err)
	missing := decode[rig.Job](t, out)
	if missing.State != "paused" || missing.Cause == nil || missing.Cause.Code != "E_TABLE_MISSING" || missing.Cause.Fix == "" {
		t.Fatalf("missing table: %+v", missing)
	}
	w.sql(w.target, `CREATE TABLE orders (id int PRIMARY KEY, total_cents bigint, note varchar(10))`)
	if j, err := w.WaitJob(ctx, missing.ID); err != nil || j.State != "completed" || j.Records.Delivered != 100 {
		t.Fatalf("after the table is there: %+v %v", j, err)
	}

	// The site takes its permission back: exit 4, and the rule to add is named.
	w.write("policy.yaml", "rules: []\n")
	out, err = w.eventually(ctx, run, "policy")
	w.refused(4, out, err)
	denied := decode[rig.Job](t, out)
	if denied.Cause == nil || denied.Cause.Class != "policy" || !strings.Contains(denied.Cause.Cause+denied.Cause.Fix, "connector: postgres") {
		t.Fatalf("denying policy: %+v %+v", denied, denied.Cause)
	}
	w.write("policy.yaml", w.policy())
	if j, err := w.WaitJob(ctx, denied.ID); err != nil || j.State != "completed" {
		t.Fatalf("after the policy allows it: %+v %v", j, err)
	}

	// A wrong credential: exit 4; the connection is offline until the secret is right.
	w.run(`{"username":"nobody","password":"canary-7f3a"}`, "secret", "set", "erp-login", "--file", "-")
	out, err = run()
	w.refused(4, out, err)
	auth := decode[rig.Job](t, out)
	if auth.Cause == nil || auth.Cause.Class != "auth" {
		t.Fatalf("wrong credential: %+v", auth)
	}
	state := decode[struct{ State, Cause string }](t, w.run("", "connection", "queue", "erp", "-o", "json"))
	if state.State != "offline" || state.Cause != "auth" {
		t.Errorf("connection with a wrong credential: %+v", state)
	}
	w.run(w.login(), "secret", "set", "erp-login", "--file", "-")
	if j, err := w.WaitJob(ctx, auth.ID); err != nil || j.State != "completed" {
		t.Fatalf("after the right secret: %+v %v", j, err)
	}
	for _, log := range []string{"hub.log", "agent.log"} {
		if text := rig.Tail(w.Path(log), 1<<20); strings.Contains(text, "canary-7f3a") || strings.Contains(text, w.pg.Password) {
			t.Errorf("%s holds a secret", log)
		}
	}

	// A failing query pauses its job with the database's own words.
	w.write("manifests/query.yaml", "kind: Flow\nname: broken\nexport: {connection: erp, query: \"SELECT nothing FROM orders\"}\n"+
		"steps:\n  - import: {connection: warehouse, table: orders}\n")
	w.run("", "apply", "-f", w.Path("manifests/query.yaml"))
	out, err = w.Client(ctx, "", "flow", "run", "broken", "--wait", "-o", "json")
	w.refused(1, out, err, "nothing")
}

// eventually repeats a run until its answer holds word, for settings that the
// agent reads again within a second.
func (w *world) eventually(ctx interface{ Done() <-chan struct{} }, run func() (string, error), word string) (string, error) {
	for {
		out, err := run()
		if strings.Contains(out, word) {
			return out, err
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("never said %q: %s", word, out)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// TestStrangersOnTheAgentsPort: plain HTTP, TLS without a certificate and tokens
// that are not good are refused at once and cost nothing.
func TestStrangersOnTheAgentsPort(t *testing.T) {
	w := newWorld(t)
	w.up("  - import: {connection: warehouse, table: orders}\n")
	ctx := w.context(time.Minute)

	plain, err := net.Dial("tcp", w.Listen)
	w.must(err)
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(15 * time.Second))
	_, _ = io.WriteString(plain, "GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
	if answer, _ := io.ReadAll(plain); strings.Contains(string(answer), "200 OK") {
		t.Errorf("plain HTTP was served: %q", answer)
	}
	bare, err := tls.Dial("tcp", w.Listen, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"ropeway/1"}, MinVersion: tls.VersionTLS13,
	})
	if err == nil {
		_ = bare.SetDeadline(time.Now().Add(15 * time.Second))
		if _, err = bare.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a tunnel without a certificate stays open: %v", err)
		}
		bare.Close()
	}

	enroll := func(state, token string) (string, error) {
		w.write("bad.token", token)
		return w.AgentAt(ctx, w.Path(state), "enroll", "--token-file", w.Path("bad.token"), "--hub", "https://"+w.Listen)
	}
	used := rig.Tail(w.Path("token"), 1)
	out, err := enroll("second", used)
	w.refused(4, out, err, "E_TOKEN_USED")
	out, err = enroll("third", "rwt1.garbage")
	w.refused(4, out, err, "E_TOKEN_INVALID")
	out, err = w.AgentAt(ctx, w.Path("agent"), "run", "--policy", w.Path("policy.yaml"))
	w.refused(1, out, err, "E_STATE_LOCKED")
	if agents := decode[[]json.RawMessage](t, w.run("", "agent", "list", "-o", "json")); len(agents) != 1 {
		t.Errorf("%d agents after refused enrollments, want 1", len(agents))
	}

	w.run("", "agent", "revoke", w.agentName())
	deadline := time.Now().Add(10 * time.Second)
	for {
		state := decode[[]struct{ State string }](t, w.run("", "agent", "list", "-o", "json"))
		local := decode[struct{ State string }](t, w.agent("status", "-o", "json"))
		if state[0].State == "revoked" && local.State != "online" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a revoked agent is still %s, and says %s", state[0].State, local.State)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (w *world) agentName() string {
	return decode[[]struct{ Name string }](w.t, w.run("", "agent", "list", "-o", "json"))[0].Name
}
