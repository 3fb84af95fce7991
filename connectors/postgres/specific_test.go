package postgres_test

import (
	"context"
	"crypto/sha256"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"ropeway/connectors"
	"ropeway/connectors/postgres"
	"ropeway/connectors/request"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func (d database) must(t testing.TB, change map[string]any) connectors.Conn {
	t.Helper()
	c, err := d.open(t, change)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// onePage makes a page of records with the given fields.
func onePage(t testing.TB, names []string, rows ...[]page.Value) *page.Page {
	t.Helper()
	e, shape := page.NewEncoder(), page.NewShape(names...)
	for _, values := range rows {
		if err := e.Record(page.Record{Shape: shape, Values: values}); err != nil {
			t.Fatal(err)
		}
	}
	payload := e.Finish(nil)
	return &page.Page{Payload: page.Compress(payload), Header: page.Header{
		Version: page.Version, Chain: page.Chain{Job: page.NewID(), Step: "export"}, Epoch: page.NewEpoch(),
		Records: uint32(len(rows)), PayloadSize: uint32(len(payload)), PayloadHash: sha256.Sum256(payload)}}
}

func load(t testing.TB, c connectors.Conn, spec connectors.ImportSpec, p *page.Page) (connectors.Answer, error) {
	t.Helper()
	return request.Import{Type: postgres.Type(), Conn: c, Spec: spec, Step: "load"}.Run(t.Context(), p)
}

func newRead(c connectors.Conn, q connectors.Query) request.Read {
	return request.Read{Type: postgres.Type(), Conn: c, Query: q, Epoch: page.NewEpoch(),
		Header: page.Header{Chain: page.Chain{Job: page.NewID(), Step: "export"}}}
}

func discard(context.Context, *page.Page) error { return nil }

// TestBoundedReadDoesNotDragTheRest counts the bytes that the server sends.
func TestBoundedReadDoesNotDragTheRest(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE wide AS SELECT i AS id, repeat('x', 20000) AS v FROM generate_series(1, 10000) i")
	d.exec(t, "ALTER TABLE wide ADD PRIMARY KEY (id)")
	env := d.env()
	var received atomic.Int64
	env.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return countingConn{conn, &received}, err
	}
	settings, err := postgres.Type().Settings.Validate(d.settings())
	if err != nil {
		t.Fatal(err)
	}
	c, err := postgres.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := newRead(c, connectors.Query{Table: "wide", Key: []string{"id"}})
	r.Limits = request.Limits{Pages: 4}
	for range 3 {
		received.Store(0)
		end, err := r.Run(t.Context(), discard)
		if err != nil {
			t.Fatal(err)
		}
		if end.Records-r.Records < 200 {
			t.Fatalf("only %d records", end.Records-r.Records)
		}
		if got := received.Load(); got > 24<<20 { // four pages of 1 MiB, what is in flight at a cancel
			t.Errorf("%d MiB for 4 pages", got>>20)
		}
		r.Cursor, r.Seq, r.Prev, r.Pages, r.Records = end.Cursor, end.Seq, end.Prev, end.Pages, end.Records
	}
}

type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// TestKeysOfEveryKind reads by keys of many types, page by page.
func TestKeysOfEveryKind(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	d.exec(t, "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'great', 'best', 'most')")
	for _, test := range []struct{ kind, expression string }{
		{"smallint", "i"}, {"numeric", "i / 7.0"}, {"numeric", "10 ^ (i * 20)::numeric"}, {"double precision", "i / 7.0"},
		{"text", "'k' || i"}, {"varchar(20)", "'K''\" ' || i"}, {"char(9)", "'k' || i"}, {"uuid", "md5(i::text)::uuid"},
		{"bytea", "decode(md5(i::text), 'hex')"}, {"date", "'2024-01-01'::date + i"}, {"timestamptz", "now() + i * interval '1 s'"},
		{"timestamp", "CASE i WHEN 1 THEN '-infinity' WHEN 2 THEN '0001-01-01 BC' ELSE '2024-01-01'::timestamp + i * interval '1 us' END"},
		{"interval", "i * interval '1 day'"}, {"inet", "'10.0.0.0'::inet + i"}, {"mood", "(enum_range(NULL::mood))[i]"},
		{"integer[]", "ARRAY[i, 1]"}, {"boolean", "i = 1"},
	} {
		n := 6
		if test.kind == "boolean" {
			n = 2
		}
		d.exec(t, "DROP TABLE IF EXISTS k")
		d.exec(t, "CREATE TABLE k (key "+test.kind+" UNIQUE NOT NULL)")
		d.exec(t, "INSERT INTO k SELECT ("+test.expression+")::"+test.kind+" FROM generate_series(1, "+strconv.Itoa(n)+") i")
		r := newRead(c, connectors.Query{Table: "k", Key: []string{"key"}})
		r.Limits = request.Limits{Pages: 1, PageRecords: 1}
		for range n {
			end, err := r.Run(t.Context(), discard)
			if err != nil {
				t.Fatalf("%s: %v", test.kind, err)
			}
			r.Cursor, r.Records = end.Cursor, end.Records
			if end.Exhausted {
				break
			}
		}
		if r.Records != uint64(n) {
			t.Errorf("%s: %d records, want %d", test.kind, r.Records, n)
		}
	}
}

// TestOtherTargets imports into what is not a plain table of built-in types.
func TestOtherTargets(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	d.exec(t, `CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
		CREATE DOMAIN small AS positive CHECK (VALUE < 100);
		CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n small, m mood, ms mood[],
			twice bigint GENERATED ALWAYS AS (id * 2) STORED, CONSTRAINT later UNIQUE (n) DEFERRABLE INITIALLY DEFERRED);
		CREATE TABLE behind (id bigint PRIMARY KEY, n integer);
		CREATE VIEW v AS SELECT id, n FROM behind;
		CREATE TABLE parts (id bigint, n integer) PARTITION BY RANGE (id);
		CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (10)`)
	names := []string{"id", "n", "m", "ms"}
	row := func(id, n int64, m string) []page.Value {
		return []page.Value{page.Int(id), page.Int(n), page.String(m), page.Array([]page.Value{page.String(m), page.Null()})}
	}
	answer, err := load(t, c, connectors.ImportSpec{Table: "t"},
		onePage(t, names, row(1, 1, "sad"), row(2, 200, "ok"), row(3, -1, "ok"), row(4, 4, "angry"), row(5, 1, "ok"), row(6, 6, "ok")))
	if err != nil || answer.Applied != 2 || len(answer.Failed) != 4 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if code := answer.Failed[3].Fault.Code; code != "E_DUPLICATE" {
		t.Errorf("a deferred constraint: %s", code)
	}
	if got := d.text(t, "SELECT string_agg(id || m::text || ms::text || twice, ' ' ORDER BY id) FROM t"); got != "1sad{sad,NULL}2 6ok{ok,NULL}12" {
		t.Errorf("got %s", got)
	}
	answer, err = load(t, c, connectors.ImportSpec{Table: "t", Mode: "upsert", Key: []string{"id"}}, onePage(t, names, row(1, 7, "ok"), row(7, 8, "sad")))
	if err != nil || answer.Applied != 2 {
		t.Errorf("upsert into identity: %+v, %v", answer, err)
	}
	answer, err = load(t, c, connectors.ImportSpec{Table: "v"}, onePage(t, []string{"id", "n"}, []page.Value{page.Int(8), page.Int(9)}))
	if err != nil || answer.Applied != 1 {
		t.Errorf("view: %+v, %v", answer, err)
	}
	answer, err = load(t, c, connectors.ImportSpec{Table: "parts"},
		onePage(t, []string{"id", "n"}, []page.Value{page.Int(8), page.Int(9)}, []page.Value{page.Int(11), page.Int(9)}))
	if err != nil || answer.Applied != 1 || len(answer.Failed) != 1 {
		t.Errorf("partitions: %+v, %v", answer, err)
	}
	_, err = load(t, c, connectors.ImportSpec{Table: "t"}, onePage(t, []string{"id", "twice"}, []page.Value{page.Int(9), page.Int(9)}))
	if fault.ClassOf(err) != fault.SchemaDrift || fault.From(err).Field != "twice" {
		t.Errorf("generated column: %v", err)
	}
}

// TestDelivery_4_InboxThatTheRoleMayNotMake prints the script, and goes on when
// an administrator has run it.
func TestDelivery_4_InboxThatTheRoleMayNotMake(t *testing.T) {
	d := newDatabase(t)
	role := "r_" + d.name
	d.exec(t, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'; CREATE TABLE t (id bigint); "+
		"CREATE TABLE closed (id bigint); GRANT INSERT ON t TO "+role+"; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	t.Cleanup(func() { d.exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	env := d.env()
	env.Secret = func(context.Context) (map[string]string, error) {
		return map[string]string{"username": role, "password": "secret"}, nil
	}
	settings, err := postgres.Type().Settings.Validate(d.settings())
	if err != nil {
		t.Fatal(err)
	}
	c, err := postgres.Type().Open(t.Context(), env, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := onePage(t, []string{"id"}, []page.Value{page.Int(1)})
	_, err = load(t, c, connectors.ImportSpec{Table: "t"}, p)
	f := fault.From(err)
	if f == nil || f.Code != "E_PERMISSION" || f.Class != fault.SchemaDrift {
		t.Fatalf("got %v", err)
	}
	_, script, _ := strings.Cut(f.Fix, "job: ")
	script, _, _ = strings.Cut(script, "; or set")
	d.exec(t, script)
	if _, err := load(t, c, connectors.ImportSpec{Table: "t"}, p); fault.CodeOf(err) != "E_PERMISSION" {
		t.Errorf("inbox without a grant: %v", err)
	}
	d.exec(t, "GRANT INSERT, SELECT, UPDATE ON ropeway_inbox TO "+role)
	for range 2 {
		if _, err := load(t, c, connectors.ImportSpec{Table: "t"}, p); err != nil {
			t.Errorf("with the inbox: %v", err)
		}
	}
	if got := d.text(t, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("%s rows", got)
	}
	_, err = load(t, c, connectors.ImportSpec{Table: "closed"}, onePage(t, []string{"id"}, []page.Value{page.Int(1)}))
	if fault.CodeOf(err) != "E_PERMISSION" || fault.ClassOf(err) != fault.SchemaDrift {
		t.Errorf("a table without a grant: %v", err)
	}
	if _, err := newRead(c, connectors.Query{Table: "closed", Key: []string{"id"}}).Run(t.Context(), discard); fault.CodeOf(err) != "E_PERMISSION" {
		t.Errorf("reading a table without a grant: %v", err)
	}
}

func TestReadsCannotWrite(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, `CREATE TABLE t (id bigint); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING 1'`)
	c := d.must(t, nil)
	for _, q := range []connectors.Query{
		{SQL: "INSERT INTO t VALUES (1) RETURNING id"}, {SQL: "SELECT f() AS id"}, {SQL: "SELECT f() AS id", Key: []string{"id"}},
		{SQL: "WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x"}, {SQL: "DROP TABLE t"},
	} {
		if _, err := newRead(c, q).Run(t.Context(), discard); err == nil {
			t.Errorf("%s is allowed", q.SQL)
		}
	}
}

// TestSessionsThatTheServerEnded: what was idle is looked at before it is used;
// what breaks in the middle can be repeated.
// TestReadsCannotMakeTheirSessionWrite: a query of the cloud turns the read-only
// setting off, in its own read and for the reads after it.
func TestReadsCannotMakeTheirSessionWrite(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE secret (v int)")
	d.exec(t, "CREATE FUNCTION put() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO secret VALUES (1); RETURN 1; END $$")
	c := d.must(t, nil)
	for _, sql := range []string{
		"SELECT set_config('default_transaction_read_only', 'off', false) AS v",
		"SELECT set_config('transaction_read_only', 'off', false) AS v",
		"SELECT put() AS v",
		"SELECT set_config('transaction_read_only', 'off', true) || put() AS v",
	} {
		_, _ = newRead(c, connectors.Query{SQL: sql}).Run(t.Context(), discard)
		_, _ = newRead(c, connectors.Query{SQL: sql + ", 1 AS id", Key: []string{"id"}}).Run(t.Context(), discard)
	}
	if n := d.text(t, "SELECT count(*) FROM secret"); n != "0" {
		t.Errorf("exports wrote %s rows", n)
	}
}

func TestSessionsThatTheServerEnded(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id bigint)")
	c := d.must(t, nil)
	end := "SELECT count(pg_terminate_backend(pid, 1000)) FROM pg_stat_activity WHERE application_name = 'ropeway' AND datname = current_database()"
	p := onePage(t, []string{"id"}, []page.Value{page.Int(1)})
	for range 3 {
		_, err := load(t, c, connectors.ImportSpec{Table: "t"}, p)
		if err != nil && fault.ClassOf(err) != fault.Intermittent {
			t.Fatalf("got %v", err)
		}
		d.exec(t, end)
	}
	ended := false
	_, err := newRead(c, connectors.Query{SQL: "SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i"}).Run(t.Context(),
		func(context.Context, *page.Page) error {
			if !ended {
				d.exec(t, end)
				ended = true
			}
			return nil
		})
	if fault.ClassOf(err) != fault.Intermittent {
		t.Errorf("got %v", err)
	}
}

func TestSchemaSetting(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, `CREATE SCHEMA "odd ""name"; CREATE TABLE "odd ""name".t (id bigint PRIMARY KEY)`)
	c := d.must(t, map[string]any{"schema": `odd "name`})
	if _, err := load(t, c, connectors.ImportSpec{Table: "t"}, onePage(t, []string{"id"}, []page.Value{page.Int(1)})); err != nil {
		t.Fatal(err)
	}
	for _, q := range []connectors.Query{{Table: "t", Key: []string{"id"}}, {SQL: "SELECT id FROM t"}, {SQL: "SELECT page FROM ropeway_inbox"}} {
		end, err := newRead(c, q).Run(t.Context(), discard)
		if err != nil || end.Records != 1 {
			t.Errorf("%+v: %+v, %v", q, end, err)
		}
	}
}

func TestUnknownDatabaseIsNotAnAuthFault(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, map[string]any{"database": "nosuch"})
	if err := postgres.Type().Ping(t.Context(), c); fault.ClassOf(err) != fault.Connection {
		t.Errorf("got %v", err)
	}
}

func TestRowsBeyondTheLimits(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	for _, size := range []string{"4000000", "30000000"} {
		_, err := newRead(c, connectors.Query{SQL: "SELECT 1 AS id, repeat('x', " + size + ") AS v", Key: []string{"id"}}).
			Run(t.Context(), discard)
		if fault.CodeOf(err) != "E_TOO_LARGE" {
			t.Errorf("%s bytes: %v", size, err)
		}
	}
	if err := postgres.Type().Ping(t.Context(), c); err != nil {
		t.Error(err)
	}
}

// TestFieldThatTheServerRefuses: the server names the column, the record goes in
// without it.
func TestFieldThatTheServerRefuses(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id bigint PRIMARY KEY, v varchar(3), w text)")
	c := d.must(t, nil)
	spec := connectors.ImportSpec{Table: "t", FieldErrors: connectors.FieldErrors{Remove: []string{"v"}}}
	for id, mode := range []string{"insert", "upsert"} {
		spec.Mode, spec.Key = mode, []string{"id"}
		answer, err := load(t, c, spec, onePage(t, []string{"id", "v", "w"},
			[]page.Value{page.Int(int64(10 * id)), page.String("abc"), page.String("w")},
			[]page.Value{page.Int(int64(10*id + 1)), page.String("abcd"), page.String("w")}))
		if err != nil || answer.Applied+len(answer.Failed) != 2 {
			t.Fatalf("%s: %+v, %v", mode, answer, err)
		}
		if mode == "insert" && (len(answer.Degraded) != 1 || answer.Degraded[0].Index != 1) {
			t.Errorf("%s: %+v", mode, answer)
		}
	}
	if got := d.text(t, "SELECT count(*) FROM t WHERE id = 1 AND v IS NULL AND w = 'w'"); got != "1" {
		t.Error("the record is not there without its field")
	}
}

func TestStatementTimeout(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, map[string]any{"statementTimeout": "50ms"})
	_, err := newRead(c, connectors.Query{SQL: "SELECT 1 AS id FROM pg_sleep(60)", Key: []string{"id"}}).Run(t.Context(), discard)
	if fault.CodeOf(err) != "E_TIMEOUT" {
		t.Errorf("got %v", err)
	}
}
