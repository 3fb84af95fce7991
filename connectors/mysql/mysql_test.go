package mysql_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/connectors"
	"ropeway/connectors/connectortest"
	"ropeway/connectors/mysql"
	"ropeway/tests/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.IgnoreServers()) }

func TestConnector(t *testing.T) {
	d := newDatabase(t)
	canary := "canary/" + strings.Repeat("pässword+", 3)
	connectortest.Run(t, connectortest.Subject{
		Type: mysql.Type(), Env: d.env(), Settings: d.settings(), Exec: d.exec, Text: d.text,
		Columns: contract(columns()), Casts: casts(), Refused: refused(),
		Long: "SELECT id FROM (SELECT 1 AS id UNION ALL SELECT 2) AS n WHERE sleep(10 + id) = 0",
		Rejected: func(env *connectors.Env, _ map[string]any) {
			env.Secret = func(context.Context) (map[string]string, error) {
				return map[string]string{"username": d.server.User, "password": canary}, nil
			}
		},
		Unreachable: func(_ *connectors.Env, settings map[string]any) { settings["port"] = closedPort(t) },
		Secrets:     []string{d.server.Password, canary},
	})
}

// A database is a fresh database of the shared server.
type database struct {
	server *testenv.MariaDB
	name   string
	behind *sql.DB // for what happens behind the connector's back
}

func newDatabase(t testing.TB) database {
	t.Helper()
	d := database{server: testenv.Maria(t)}
	d.name = d.server.Database(t)
	var err error
	if d.behind, err = d.server.Open(d.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.behind.Close() })
	d.behind.SetMaxOpenConns(1)
	d.exec(t, "SET sql_mode = 'PIPES_AS_CONCAT,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'")
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

// exec runs the suite's standard SQL: a TEXT cannot be in a key here.
func (d database) exec(t testing.TB, sql string) {
	t.Helper()
	if strings.Contains(sql, "text PRIMARY KEY") || strings.Contains(sql, "REFERENCES") || strings.Contains(sql, "KEY (v, id)") {
		sql = strings.ReplaceAll(sql, " text ", " varchar(100) ")
	}
	if _, err := d.behind.Exec(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (d database) text(t testing.TB, query string) string {
	t.Helper()
	var text sql.NullString
	if err := d.behind.QueryRow(query).Scan(&text); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return text.String
}

func (d database) open(t testing.TB, change map[string]any) (connectors.Conn, error) {
	t.Helper()
	return d.openIn(t, d.env(), change)
}

func (d database) openIn(t testing.TB, env connectors.Env, change map[string]any) (connectors.Conn, error) {
	t.Helper()
	given := d.settings()
	for k, v := range change {
		given[k] = v
	}
	settings, err := mysql.Type().Settings.Validate(given)
	if err != nil {
		return nil, err
	}
	c, err := mysql.Type().Open(t.Context(), env, settings)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func (d database) must(t testing.TB, change map[string]any) connectors.Conn {
	t.Helper()
	c, err := d.open(t, change)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closedPort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
