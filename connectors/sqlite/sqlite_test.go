package sqlite_test

import (
	"database/sql"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	"ropeway/connectors"
	"ropeway/connectors/connectortest"
	"ropeway/connectors/sqlite"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A file is a database file and a handle behind the connector's back.
type file struct {
	path string
	db   *sql.DB
}

func newFile(t testing.TB) file {
	t.Helper()
	f := file{path: filepath.Join(t.TempDir(), "odd name?mode=memory&%41.db")}
	if err := os.WriteFile(f.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The link has a plain name, for the handle behind the back.
	link := filepath.Join(filepath.Dir(f.path), "link.db")
	if err := os.Symlink(f.path, link); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", link+"?_foreign_keys=on&_busy_timeout=10000&_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	f.db = db
	t.Cleanup(func() { db.Close() })
	return f
}

func env() connectors.Env {
	return connectors.Env{
		Path:  func(p string) (string, error) { return filepath.EvalSymlinks(p) },
		Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func (f file) exec(t testing.TB, sql string) {
	t.Helper()
	if _, err := f.db.Exec(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (f file) text(t testing.TB, sql string) string {
	t.Helper()
	var text string
	if err := f.db.QueryRow("SELECT CAST((" + sql + ") AS TEXT)").Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func TestConnector(t *testing.T) {
	f := newFile(t)
	connectortest.Run(t, connectortest.Subject{
		Type: sqlite.Type(), Env: env(), Settings: map[string]any{"path": f.path},
		Exec: f.exec, Text: f.text, Columns: columns(), Casts: casts(), Refused: refused(),
		Long: "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1000000000000) " +
			"SELECT max(id) AS id FROM n",
		Unreachable: func(_ *connectors.Env, settings map[string]any) {
			settings["path"] = filepath.Dir(f.path) // a directory is no database
		},
	})
}

func columns() []connectortest.Column {
	sample := func(sql string, want page.Value) connectortest.Sample {
		return connectortest.Sample{SQL: sql, Want: want}
	}
	return []connectortest.Column{
		{Type: "INTEGER", Samples: []connectortest.Sample{sample("-9223372036854775808", page.Int(math.MinInt64)),
			sample("9223372036854775807", page.Int(math.MaxInt64)), sample("0", page.Int(0))}},
		{Type: "REAL", Samples: []connectortest.Sample{sample("1.7976931348623157e308", page.Float(math.MaxFloat64)),
			sample("5e-324", page.Float(math.SmallestNonzeroFloat64)), sample("9e999", page.Float(math.Inf(1))),
			sample("1", page.Float(1)), sample("0.1", page.Float(0.1))}},
		{Type: "TEXT", Samples: []connectortest.Sample{sample("''", page.String("")), sample("'Größe 😀 ''q'''", page.String("Größe 😀 'q'")),
			sample("'007'", page.String("007")), sample("'2024-01-01'", page.String("2024-01-01")),
			sample("12", page.String("12"))}},
		{Type: "BLOB", Samples: []connectortest.Sample{sample("x''", page.Bytes([]byte{})), sample("x'00ff'", page.Bytes([]byte{0, 255})),
			sample("'text'", page.String("text")), sample("1.5", page.Float(1.5)), sample("7", page.Int(7))}},
		{Type: "BOOLEAN", Samples: []connectortest.Sample{sample("1", page.Bool(true)), sample("0", page.Bool(false)), sample("2", page.Int(2))}},
		{Type: "DATE", Samples: []connectortest.Sample{sample("'2024-02-30'", page.String("2024-02-30")), sample("'0000-00-00'", page.String("0000-00-00"))}},
		{Type: "TIMESTAMP", Samples: []connectortest.Sample{sample("'2024-01-01 00:00:00'", page.String("2024-01-01 00:00:00")),
			sample("1700000000", page.Int(1700000000))}},
		{Type: "DECIMAL(10,2)", Samples: []connectortest.Sample{sample("'12.50'", page.Float(12.5)), sample("7", page.Int(7)),
			sample("'n/a'", page.String("n/a"))}},
	}
}

func casts() []connectortest.Cast {
	dec := func(s string) page.Value {
		d, err := page.DecimalFromString(s)
		if err != nil {
			panic(err)
		}
		return d
	}
	long := "12345678901234567890.123456789"
	return []connectortest.Cast{
		{Type: "TEXT", Value: dec(long), Text: long},
		{Type: "TEXT", Value: page.Uint(math.MaxUint64), Text: "18446744073709551615"},
		{Type: "BLOB", Value: dec("1.50"), Text: "1.50"},
		{Type: "NUMERIC", Value: dec("1.50"), Text: "1.5"},
		{Type: "NUMERIC", Value: dec("100.00"), Text: "100"},
		{Type: "INTEGER", Value: page.Bool(true), Text: "1"},
		{Type: "INTEGER", Value: page.String("42"), Text: "42"},
		{Type: "REAL", Value: dec("0.1"), Text: "0.1"},
		{Type: "TEXT", Value: page.Bool(true), Text: "true"},
		{Type: "TIMESTAMP", Value: page.Timestamp(0, 0), Text: "1970-01-01T00:00:00Z"},
		{Type: "DATE", Value: page.Date(0), Text: "1970-01-01"},
		{Type: "TEXT", Value: page.UUID([16]byte{15: 1}), Text: "00000000-0000-0000-0000-000000000001"},
		{Type: "TEXT", Value: page.JSON([]byte(`{"a" :1}`)), Text: `{"a" :1}`},
		{Type: "TEXT", Value: page.Array([]page.Value{page.Int(1), page.Null()}), Text: "[1,null]"},
		{Type: "TEXT", Value: page.Interval(1, 2, 3_000_000), Text: "P1M2DT3S"},
		{Type: "TEXT", Value: page.Foreign("inet", "::1"), Text: "::1"},
	}
}

func refused() []connectortest.Cast {
	return []connectortest.Cast{
		{Type: "INTEGER", Value: page.Uint(math.MaxUint64)},
		{Type: "INTEGER", Value: page.String("seven")},
		{Type: "INTEGER", Value: page.Date(0)},
		{Type: "REAL", Value: page.Int(1<<53 + 1)},
		{Type: "REAL", Value: page.Float(math.NaN())},
		{Type: "NUMERIC", Value: page.String("12345678901234567890.5")},
		{Type: "INTEGER CHECK (v < 5)", Value: page.Int(5)},
	}
}

// TestHostile_3_PolicySeesEveryFile: nothing but the path that Env.Path returned
// is ever opened.
func TestHostile_3_PolicySeesEveryFile(t *testing.T) {
	f := newFile(t)
	f.exec(t, "CREATE TABLE t (id bigint)")
	other := filepath.Join(t.TempDir(), "other.db")
	c := open(t, env(), f.path)
	for _, sql := range []string{
		"ATTACH DATABASE '" + other + "' AS other",
		"VACUUM INTO '" + other + "'",
		"PRAGMA journal_mode = OFF",
		"SELECT * FROM pragma_database_list",
		"SELECT load_extension('x')",
	} {
		if err := read(t, c, connectors.Query{SQL: sql}); err == nil {
			t.Errorf("%s is allowed", sql)
		}
	}
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Error("another file was made")
	}
	for _, path := range []string{":memory:", "file:" + f.path, ""} {
		if _, err := sqlite.Type().Open(t.Context(), env(), connectors.Settings{"path": path}); fault.CodeOf(err) != "E_SETTINGS" {
			t.Errorf("path %q: %v", path, err)
		}
	}
}

// TestReadsCannotWrite: whatever a query does, the file stays as it is.
func TestReadsCannotWrite(t *testing.T) {
	f := newFile(t)
	f.exec(t, "CREATE TABLE t (id bigint)")
	c := open(t, env(), f.path)
	if err := read(t, c, connectors.Query{SQL: "INSERT INTO t VALUES (1) RETURNING id"}); err == nil {
		t.Error("a read wrote a row")
	}
	if got := f.text(t, "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

func TestHostile_3_OnlyFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/zero", filepath.Join(dir, "nosuch"), text} {
		if err := sqlite.Type().Ping(t.Context(), open(t, env(), path)); fault.CodeOf(err) != "E_UNREACHABLE" {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestPolicyDeniesAPath(t *testing.T) {
	e := env()
	e.Path = func(string) (string, error) { return "", fault.Of("E_POLICY_DENIED") }
	err := sqlite.Type().Ping(t.Context(), open(t, e, "/etc/passwd"))
	if fault.CodeOf(err) != "E_POLICY_DENIED" {
		t.Errorf("got %v", err)
	}
}

func open(t *testing.T, e connectors.Env, path string) connectors.Conn {
	t.Helper()
	settings, err := sqlite.Type().Settings.Validate(map[string]any{"path": path})
	if err != nil {
		t.Fatal(err)
	}
	c, err := sqlite.Type().Open(t.Context(), e, settings)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sink takes records and throws them away.
type sink struct{ e *page.Encoder }

func (s sink) Encoder() *page.Encoder           { return s.e }
func (s sink) Done(func() []byte) (bool, error) { return true, s.e.End() }
func (s sink) Room() (records, bytes int)       { return -1, -1 }

func read(t *testing.T, c connectors.Conn, q connectors.Query) error {
	t.Helper()
	_, err := sqlite.Type().Read(t.Context(), c, q, nil, connectors.NewWriter(sink{page.NewEncoder()}))
	return err
}
