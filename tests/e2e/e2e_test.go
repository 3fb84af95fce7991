package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"ropeway/tests/rig"
	"ropeway/tests/testenv"
)

var bins rig.Bins

func TestMain(m *testing.M) { os.Exit(rig.Main(m, &bins)) }

// world is one site with a PostgreSQL on each end.
type world struct {
	*rig.Site
	t              *testing.T
	pg             *testenv.PG
	names          [2]string
	source, target *sql.DB
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pg: testenv.Postgres(t)}
	w.names = [2]string{w.pg.Database(t), w.pg.Database(t)}
	w.source, w.target = open(t, w.pg.DSN(w.names[0])), open(t, w.pg.DSN(w.names[1]))
	var err error
	if w.Site, err = rig.NewSite(bins, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Site.Close)
	return w
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func (w *world) sql(db *sql.DB, query string) {
	w.t.Helper()
	if _, err := db.Exec(query); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

func (w *world) number(db *sql.DB, query string) (n int) {
	w.t.Helper()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// run runs `ropeway` and fails the test when it fails.
func (w *world) run(stdin string, args ...string) string {
	w.t.Helper()
	out, err := w.Client(w.context(60*time.Second), stdin, args...)
	if err != nil {
		w.t.Fatalf("%v\nhub:\n%s\nagent:\n%s", err, rig.Tail(w.Path("hub.log"), 20), rig.Tail(w.Path("agent.log"), 20))
	}
	return out
}

// refused runs a command that must end with code and say every word.
func (w *world) refused(code int, out string, err error, words ...string) {
	w.t.Helper()
	var f *rig.Failed
	if !errors.As(err, &f) {
		w.t.Fatalf("the command did not fail: %v\n%s", err, out)
	}
	if f.Code != code {
		w.t.Errorf("%s: exit %d, want %d: %s", f.Command, f.Code, code, f.Stderr)
	}
	for _, word := range words {
		if !strings.Contains(f.Stderr+f.Stdout, word) {
			w.t.Errorf("%s does not say %q:\n%s%s", f.Command, word, f.Stderr, f.Stdout)
		}
	}
}

func (w *world) context(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := w.Write(name, text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\nhub:\n%s\nagent:\n%s", err, rig.Tail(w.Path("hub.log"), 20), rig.Tail(w.Path("agent.log"), 20))
	}
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// manifests are the scripted path's objects with a flow over table orders.
func (w *world) manifests(steps string) string {
	return fmt.Sprintf(`kind: AgentGroup
name: plant-7
---
kind: Credential
name: erp-login
custody: vault
---
kind: Connection
name: erp
connector: postgres
agentGroup: plant-7
credential: erp-login
settings: {host: %[1]s, port: %[2]d, database: %[3]s, tls: disable}
concurrency: 4
---
kind: Connection
name: warehouse
connector: postgres
credential: erp-login
settings: {host: %[1]s, port: %[2]d, database: %[4]s, tls: disable}
concurrency: 6
---
kind: Flow
name: orders-to-warehouse
export: {connection: erp, table: orders, key: [id]}
steps:
%[5]s`, w.pg.Host, w.pg.Port, w.names[0], w.names[1], steps)
}

func (w *world) login() string {
	return fmt.Sprintf(`{"username":%q,"password":%q}`, w.pg.User, w.pg.Password)
}

func (w *world) policy(rules ...string) string {
	if len(rules) == 0 {
		rules = []string{"allow: [export, lookup, import]"}
	}
	return fmt.Sprintf("rules:\n  - {name: erp, connector: postgres, target: \"%s:%d\", %s}\n",
		w.pg.Host, w.pg.Port, strings.Join(rules, ", "))
}

// up brings the whole site up with a flow of the given steps.
func (w *world) up(steps string) {
	w.t.Helper()
	ctx := w.context(2 * time.Minute)
	w.write("manifests/all.yaml", w.manifests(steps))
	w.write("policy.yaml", w.policy())
	w.must(w.StartHub(ctx))
	w.run("", "apply", "-f", w.Path("manifests"))
	w.run(w.login(), "secret", "set", "erp-login", "--file", "-")
	w.must(w.Enroll(ctx, "plant-7"))
	w.must(w.StartAgent(ctx, true))
}
