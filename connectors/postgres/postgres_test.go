package postgres_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"ropeway/connectors"
	"ropeway/connectors/connectortest"
	"ropeway/connectors/postgres"
	"ropeway/tests/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.IgnoreServers()) }

func TestConnector(t *testing.T) {
	d := newDatabase(t)
	canary := "canary/" + strings.Repeat("pässword+", 3)
	connectortest.Run(t, connectortest.Subject{
		Type: postgres.Type(), Env: d.env(), Settings: d.settings(), Exec: d.exec, Text: d.text,
		Columns: contract(columns()), Casts: casts(), Refused: refused(),
		Long: "SELECT id FROM generate_series(1, 10) id, LATERAL (SELECT pg_sleep(10 + id)) s",
		Rejected: func(env *connectors.Env, _ map[string]any) {
			env.Secret = func(context.Context) (map[string]string, error) {
				return map[string]string{"username": "postgres", "password": canary}, nil
			}
		},
		Unreachable: func(_ *connectors.Env, settings map[string]any) { settings["port"] = closedPort(t) },
		Secrets:     []string{d.server.Password, canary},
	})
}

// A database is a fresh database of the shared server.
type database struct {
	server *testenv.PG
	name   string
	behind *pgconn.PgConn // for what happens behind the connector's back
}

func newDatabase(t testing.TB) database {
	t.Helper()
	d := database{server: testenv.Postgres(t)}
	d.name = d.server.Database(t)
	var err error
	if d.behind, err = pgconn.Connect(t.Context(), d.server.DSN(d.name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.behind.Close(context.Background()) })
	d.exec(t, "SET timezone = 'UTC'")
	return d
}

func (d database) settings() map[string]any {
	return map[string]any{"host": d.server.Host, "port": d.server.Port, "database": d.name, "tls": "disable"}
}

func (d database) env() connectors.Env {
	return connectors.Env{
		Dial: (&net.Dialer{}).DialContext, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Secret: func(context.Context) (map[string]string, error) {
			return map[string]string{"username": d.server.User, "password": d.server.Password}, nil
		},
	}
}

func (d database) run(t testing.TB, sql string) []*pgconn.Result {
	t.Helper()
	results, err := d.behind.Exec(context.Background(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return results
}

func (d database) exec(t testing.TB, sql string) {
	t.Helper()
	d.run(t, sql)
}

func (d database) text(t testing.TB, sql string) string {
	t.Helper()
	results := d.run(t, sql)
	return string(results[len(results)-1].Rows[0][0])
}

func (d database) open(t testing.TB, change map[string]any) (connectors.Conn, error) {
	t.Helper()
	given := d.settings()
	for k, v := range change {
		given[k] = v
	}
	settings, err := postgres.Type().Settings.Validate(given)
	if err != nil {
		t.Fatal(err)
	}
	c, err := postgres.Type().Open(t.Context(), d.env(), settings)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func closedPort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
