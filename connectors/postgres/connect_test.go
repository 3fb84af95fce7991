package postgres_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"ropeway/connectors"
	"ropeway/connectors/postgres"
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
				err = postgres.Type().Ping(t.Context(), c)
			}
			if fault.CodeOf(err) != test.code {
				t.Errorf("got %v", err)
			}
		})
	}
}

// openVia opens with a dialer that always goes to the server.
func (d database) openVia(t testing.TB, change map[string]any) (connectors.Conn, error) {
	env := d.env()
	address := net.JoinHostPort(d.server.Host, strconv.Itoa(d.server.Port))
	env.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	given := d.settings()
	for k, v := range change {
		given[k] = v
	}
	settings, err := postgres.Type().Settings.Validate(given)
	if err != nil {
		return nil, err
	}
	c, err := postgres.Type().Open(t.Context(), env, settings)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// TestHostile_3_NothingComesFromTheEnvironment: PG* variables, ~/.pgpass and
// service files change nothing and break nothing.
func TestHostile_3_NothingComesFromTheEnvironment(t *testing.T) {
	d := newDatabase(t)
	home := t.TempDir()
	pass := filepath.Join(home, ".pgpass")
	if err := os.WriteFile(pass, []byte("*:*:*:*:wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"HOME": home, "PGHOST": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody", "PGPASSWORD": "wrong",
		"PGDATABASE": "nosuch", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nosuch", "PGOPTIONS": "-c search_path=nosuch",
		"PGSERVICE": "nosuch", "PGSERVICEFILE": "/nosuch", "PGPASSFILE": pass, "PGTARGETSESSIONATTRS": "standby",
		"PGCONNECT_TIMEOUT": "x", "PGREQUIREAUTH": "none", "PGSSLCERTMODE": "nonsense", "PGCHANNELBINDING": "require",
		"PGMINPROTOCOLVERSION": "9", "PGTZ": "Asia/Tokyo", "PGAPPNAME": "other",
	} {
		t.Setenv(k, v)
	}
	c := d.must(t, nil)
	if err := postgres.Type().Ping(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	// Without a password in the credential none is taken from elsewhere.
	env := d.env()
	env.Secret = func(context.Context) (map[string]string, error) {
		return map[string]string{"username": d.server.User}, nil
	}
	if err := os.WriteFile(pass, []byte("*:*:*:*:"+d.server.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSWORD", d.server.Password)
	settings, err := postgres.Type().Settings.Validate(d.settings())
	if err != nil {
		t.Fatal(err)
	}
	bare, err := postgres.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if err := postgres.Type().Ping(t.Context(), bare); fault.ClassOf(err) != fault.Auth {
		t.Errorf("without a password: %v", err)
	}
}

func TestHostile_3_HostsAreRefused(t *testing.T) {
	for _, host := range []string{"", "/var/run/postgresql", "@abstract", "a,b", "db;sslmode=disable", "db?x=1",
		"db sslmode=disable", "file:x", "host:5432", "..", "a=b", "[::1", "[db]", "%2f", `\\unc`, "fe80::1%eth0"} {
		s := connectors.Settings{"host": host, "port": int64(5432), "database": "x", "tls": "disable"}
		got, err := postgres.Type().Target(s)
		if fault.CodeOf(err) != "E_SETTINGS" {
			t.Errorf("%q: %q, %v", host, got, err)
		}
	}
	for host, want := range map[string]string{"db.plant.local": "db.plant.local:5432", "::1": "[::1]:5432", "[::1]": "[::1]:5432"} {
		got, err := postgres.Type().Target(connectors.Settings{"host": host, "port": int64(5432)})
		if err != nil || got != want {
			t.Errorf("%s: %s, %v", host, got, err)
		}
	}
}

// TestEveryDialIsAsWritten: the policy sees the configured name at every dial,
// also for the cancel request.
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
	given := d.settings()
	given["host"] = "localhost"
	settings, err := postgres.Type().Settings.Validate(given)
	if err != nil {
		t.Fatal(err)
	}
	c, err := postgres.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r := newRead(c, connectors.Query{SQL: "SELECT repeat('x', 1000) AS x FROM generate_series(1, 10000000)"})
	_, err = r.Run(ctx, func(context.Context, *page.Page) error {
		cancel()
		return nil
	})
	if err == nil || dials.Load() < 2 {
		t.Errorf("%d dials, %v", dials.Load(), err)
	}
	denied := fault.Of("E_POLICY_DENIED")
	env.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, denied }
	c2, err := postgres.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if err := postgres.Type().Ping(t.Context(), c2); fault.CodeOf(err) != "E_POLICY_DENIED" {
		t.Errorf("a denied dial: %v", err)
	}
}
