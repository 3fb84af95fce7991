package mysql_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"ropeway/connectors"
	"ropeway/connectors/mysql"
	"ropeway/connectors/request"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestTLSModes(t *testing.T) {
	d := newDatabase(t)
	foreign := `-----BEGIN CERTIFICATE-----
MIIBVzCB/qADAgECAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMTBHRlc3QwHhcN
-----END CERTIFICATE-----`
	for _, test := range []struct {
		name     string
		settings map[string]any
		code     string
	}{
		{"disable", map[string]any{"tls": "disable"}, ""},
		{"require", map[string]any{"tls": "require"}, ""},
		{"verify-ca", map[string]any{"tls": "verify-ca", "ca": d.server.CA}, ""},
		{"verify-full", map[string]any{"tls": "verify-full", "ca": d.server.CA}, ""},
		{"verify-full by name", map[string]any{"tls": "verify-full", "ca": d.server.CA, "host": "localhost"}, ""},
		{"default without the authority", map[string]any{"tls": nil}, "E_TLS"},
		{"verify-ca without the authority", map[string]any{"tls": "verify-ca"}, "E_TLS"},
		{"verify-full by another name", map[string]any{"tls": "verify-full", "ca": d.server.CA, "host": "127.0.0.2"}, "E_TLS"},
		{"verify-ca by another name", map[string]any{"tls": "verify-ca", "ca": d.server.CA, "host": "127.0.0.2"}, ""},
		{"no certificate in ca", map[string]any{"tls": "verify-ca", "ca": "nonsense"}, "E_SETTINGS"},
		{"broken certificate in ca", map[string]any{"tls": "verify-ca", "ca": foreign}, "E_SETTINGS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := d.openVia(t, test.settings)
			if err == nil {
				err = mysql.Type().Ping(t.Context(), c)
			}
			if fault.CodeOf(err) != test.code {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAccountsByTLS: every way of authentication that the server has works with
// and without TLS, and the server sees TLS where it was asked for.
func TestAccountsByTLS(t *testing.T) {
	d := newDatabase(t)
	for _, test := range []struct{ identified, password string }{
		{"BY 'pässword ''x'", "pässword 'x"}, {"VIA mysql_native_password USING PASSWORD('a')", "a"}, {"BY ''", ""},
		{"BY 'x' REQUIRE SSL", "x"},
	} {
		account := "u_" + d.name[2:12]
		d.exec(t, "CREATE OR REPLACE USER "+account+" IDENTIFIED "+test.identified)
		d.exec(t, "GRANT ALL ON "+d.name+".* TO "+account)
		t.Cleanup(func() { d.exec(t, "DROP USER IF EXISTS "+account) })
		env := d.env()
		env.Secret = func(context.Context) (map[string]string, error) {
			return map[string]string{"username": account, "password": test.password}, nil
		}
		for mode, encrypted := range map[string]bool{"disable": false, "verify-full": true} {
			c, err := d.openIn(t, env, map[string]any{"tls": mode, "ca": d.server.CA})
			if err != nil {
				t.Fatal(err)
			}
			got, err := readAll(t, c, connectors.Query{SQL: "SELECT VARIABLE_VALUE <> '' AS e FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'"}, request.Limits{})
			if refused := !encrypted && test.identified == "BY 'x' REQUIRE SSL"; refused {
				if fault.ClassOf(err) != fault.Auth {
					t.Errorf("%s without TLS: %v", test.identified, err)
				}
				continue
			}
			if err != nil || (got[0].Values[0].Int() == 1) != encrypted {
				t.Errorf("%s, %s: %v, %v", test.identified, mode, got, err)
			}
		}
	}
}

// openVia opens with a dialer that always goes to the server.
func (d database) openVia(t testing.TB, change map[string]any) (connectors.Conn, error) {
	env := d.env()
	address := net.JoinHostPort(d.server.Host, strconv.Itoa(d.server.Port))
	env.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return d.openIn(t, env, change)
}

// TestHostile_3_NothingComesFromTheEnvironment: option files and variables of
// the client programs change nothing.
func TestHostile_3_NothingComesFromTheEnvironment(t *testing.T) {
	d := newDatabase(t)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".my.cnf"), []byte("[client]\nuser=nobody\npassword=wrong\nhost=192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"HOME": home, "MYSQL_HOST": "192.0.2.1", "MYSQL_PWD": "wrong", "MYSQL_TCP_PORT": "1",
		"MYSQL_UNIX_PORT": "/nosuch", "USER": "nobody"} {
		t.Setenv(k, v)
	}
	if err := mysql.Type().Ping(t.Context(), d.must(t, nil)); err != nil {
		t.Fatal(err)
	}
}

func TestHostile_3_HostsAreRefused(t *testing.T) {
	for _, host := range []string{"", "/run/mysqld/mysqld.sock", "@abstract", "a,b", "tcp(db:3306)", "db?allowAllFiles=true",
		"user:pass@tcp(db", "db allowAllFiles", "file:x", "host:3306", "..", "a=b", "[::1", "[db]", "%2f", `\\unc`, "fe80::1%eth0"} {
		s := connectors.Settings{"host": host, "port": int64(3306), "database": "x", "tls": "disable"}
		got, err := mysql.Type().Target(s)
		if fault.CodeOf(err) != "E_SETTINGS" {
			t.Errorf("%q: %q, %v", host, got, err)
		}
	}
	for host, want := range map[string]string{"db.plant.local": "db.plant.local:3306", "::1": "[::1]:3306", "[::1]": "[::1]:3306"} {
		got, err := mysql.Type().Target(connectors.Settings{"host": host, "port": int64(3306)})
		if err != nil || got != want {
			t.Errorf("%s: %s, %v", host, got, err)
		}
	}
}

// TestHostile_3_DatabaseNamesAreNames: whatever is in a setting is no option of
// the driver.
func TestHostile_3_DatabaseNamesAreNames(t *testing.T) {
	d := newDatabase(t)
	for _, name := range []string{d.name + "?allowAllFiles=true&multiStatements=true", "x`; DROP DATABASE " + d.name, "../mysql"} {
		c := d.must(t, map[string]any{"database": name})
		if err := mysql.Type().Ping(t.Context(), c); fault.ClassOf(err) != fault.Connection {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := d.name + "`; -- \"'"
	d.exec(t, "CREATE DATABASE `"+d.name+"``; -- \"'`; CREATE TABLE `"+d.name+"``; -- \"'`.t (`i``d` int PRIMARY KEY)")
	t.Cleanup(func() { d.exec(t, "DROP DATABASE `"+d.name+"``; -- \"'`") })
	c := d.must(t, map[string]any{"database": odd})
	for _, mode := range []string{"insert", "upsert", "update", "delete", "insert"} {
		spec := connectors.ImportSpec{Table: "t", Mode: mode, Key: []string{"i`d"}}
		if a, err := load(t, c, spec, onePage(t, []string{"i`d"}, []page.Value{page.Int(1)})); err != nil || a.Applied != 1 {
			t.Errorf("%s: %+v, %v", mode, a, err)
		}
	}
	got, err := readAll(t, c, connectors.Query{Table: "t", Key: []string{"i`d"}}, request.Limits{})
	if err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestEveryDialIsAsWritten: the policy sees the configured name at every dial,
// also for the statement that ends another.
func TestEveryDialIsAsWritten(t *testing.T) {
	d := newDatabase(t)
	env := d.env()
	var dials atomic.Int32
	env.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		if network != "tcp" || address != "localhost:"+strconv.Itoa(d.server.Port) {
			t.Errorf("dialled %s %s", network, address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(d.server.Host, strconv.Itoa(d.server.Port)))
	}
	c, err := d.openIn(t, env, map[string]any{"host": "localhost", "tls": "require"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := newRead(c, connectors.Query{SQL: "SELECT repeat('x', 1000) AS x FROM seq_1_to_10000000"})
	_, err = r.Run(ctx, func(context.Context, *page.Page) error {
		cancel()
		return nil
	})
	if err == nil || dials.Load() < 2 {
		t.Errorf("%d dials, %v", dials.Load(), err)
	}
	denied := fault.Of("E_POLICY_DENIED")
	env.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, denied }
	c2, err := d.openIn(t, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := mysql.Type().Ping(t.Context(), c2); fault.CodeOf(err) != "E_POLICY_DENIED" {
		t.Errorf("a denied dial: %v", err)
	}
}
