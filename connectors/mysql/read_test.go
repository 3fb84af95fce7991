package mysql_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"ropeway/connectors"
	"ropeway/connectors/mysql"
	"ropeway/connectors/request"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// TestTypesOfMariaDB: JSON, uuid and inet come as text, and are known when a
// table is read by name.
func TestTypesOfMariaDB(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	for i, column := range ownColumns() {
		source, target := fmt.Sprintf("s%d", i), fmt.Sprintf("d%d", i)
		for _, name := range []string{source, target} {
			d.exec(t, "CREATE TABLE "+name+" (id bigint PRIMARY KEY, v "+column.Type+")")
		}
		for id, s := range column.Samples {
			d.exec(t, fmt.Sprintf("INSERT INTO %s VALUES (%d, %s)", source, id, s.sql))
		}
		query := connectors.Query{Table: source, Key: []string{"id"}}
		var copied *page.Page
		if _, err := newRead(c, query).Run(t.Context(), func(_ context.Context, p *page.Page) error {
			copied = p
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if answer, err := load(t, c, connectors.ImportSpec{Table: target}, copied); err != nil || len(answer.Failed) > 0 {
			t.Fatalf("%s: %+v, %v", column.Type, answer, err)
		}
		query.Table = target
		got, err := readAll(t, c, query, request.Limits{})
		if err != nil || len(got) != len(column.Samples) {
			t.Fatalf("%s: %d records, %v", column.Type, len(got), err)
		}
		for id, s := range column.Samples {
			if v, _ := got[id].Field("v"); !page.Equal(v, s.want) {
				t.Errorf("%s %s: got %s %v, want %s %v", column.Type, s.sql, v.Kind(), v, s.want.Kind(), s.want)
			}
		}
		free, err := readAll(t, c, connectors.Query{SQL: "SELECT v FROM " + target}, request.Limits{})
		if err != nil || free[0].Values[0].Kind() != page.KindString {
			t.Errorf("%s in a free query: %v, %v", column.Type, free, err)
		}
	}
}

// TestKeysOfEveryKind reads by keys of many types, record by record.
func TestKeysOfEveryKind(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	const n = 6
	for _, test := range []struct{ kind, expression string }{
		{"smallint", "cast(seq AS signed) - 3"}, {"bigint unsigned", "18446744073709551609 + seq"}, {"bit(64)", "18446744073709551600 + seq"},
		{"bit(3)", "seq"}, {"decimal(30,10)", "seq / 7.0"}, {"decimal(65,30)", "12345678901234567890123456789012345 + seq / 7"},
		{"float", "seq / 7"}, {"double", "seq / 7e0"}, {"varchar(20)", `concat('K''" \\', seq)`}, {"char(9)", "concat('k', seq)"},
		{"varchar(20) COLLATE utf8mb4_bin", "concat('k', seq)"}, {"varbinary(20)", "unhex(md5(seq))"}, {"binary(16)", "unhex(md5(seq))"},
		{"date", "'2024-01-01' + INTERVAL seq DAY"}, {"datetime(6)", "'2024-01-01' + INTERVAL seq MICROSECOND"},
		{"datetime", "'0001-01-01' + INTERVAL seq YEAR"}, {"timestamp", "'2024-03-31 02:30:00' + INTERVAL seq MINUTE"},
		{"time", "sec_to_time(cast(seq AS signed) * 100000 - 300000)"}, {"time(6)", "sec_to_time(seq * 0.000001)"}, {"year", "2000 + seq"},
		{"inet6", "concat('::', seq)"},
	} {
		d.exec(t, "CREATE OR REPLACE TABLE k (k "+test.kind+" NOT NULL UNIQUE, id int)")
		d.exec(t, "INSERT INTO k SELECT "+test.expression+", seq FROM seq_1_to_"+strconv.Itoa(n))
		for _, q := range []connectors.Query{{Table: "k", Key: []string{"k"}}, {SQL: "SELECT * FROM k", Key: []string{"k"}},
			{Table: "k", Key: []string{"k", "id"}}} {
			got, err := readAll(t, c, q, request.Limits{Pages: 1, PageRecords: 1})
			if err != nil || len(got) != n {
				t.Errorf("%s by %v: %d records, %v", test.kind, q.Key, len(got), err)
			}
		}
	}
	for _, kind := range []string{"enum('b','a')", "set('b','a')", "json", "point"} {
		d.exec(t, "CREATE OR REPLACE TABLE k (k "+kind+" NOT NULL, id int)")
		q := connectors.Query{SQL: "SELECT * FROM k", Key: []string{"k"}}
		_, err := readAll(t, c, q, request.Limits{})
		if refused := fault.CodeOf(err) == "E_QUERY"; refused == (kind == "json") { // which is a text
			t.Errorf("%s: %v", kind, err)
		}
	}
	d.exec(t, "CREATE OR REPLACE TABLE k (k date NOT NULL UNIQUE, id int); INSERT INTO k VALUES ('0000-00-00', 1)")
	if _, err := readAll(t, c, connectors.Query{Table: "k", Key: []string{"k"}}, request.Limits{}); fault.CodeOf(err) != "E_QUERY" {
		t.Errorf("zero date: %v", err)
	}
}

// TestKeysThatTheServerHoldsEqual: "a" and "A" are one key to the server, so
// that one of them could be lost between two requests.
func TestKeysThatTheServerHoldsEqual(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	d.exec(t, "CREATE TABLE k (k varchar(9), id int); INSERT INTO k VALUES ('a', 1), ('b', 2), ('B ', 3), ('c', 4)")
	_, err := readAll(t, c, connectors.Query{Table: "k", Key: []string{"k"}}, request.Limits{Pages: 1, PageRecords: 2})
	if fault.CodeOf(err) != "E_QUERY" {
		t.Errorf("got %v", err)
	}
	d.exec(t, "ALTER TABLE k MODIFY k varchar(9) COLLATE utf8mb4_nopad_bin")
	got, err := readAll(t, c, connectors.Query{Table: "k", Key: []string{"k"}}, request.Limits{Pages: 1, PageRecords: 2})
	if err != nil || len(got) != 4 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestFreeQueries run in the server's own mode and cannot leave a trace.
func TestFreeQueries(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x'), (2, 'y')")
	c := d.must(t, nil)
	for sql, want := range map[string]int{
		`SELECT id, "text" AS w, 'it''s \' q' AS u FROM t # comment`:   2,
		"WITH x AS (SELECT id FROM t) SELECT * FROM x -- comment\n ; ": 2,
		"SELECT id FROM t UNION ALL SELECT 3 /* ? */":                  3,
		"SELECT v FROM `t` WHERE v LIKE 'x%' ORDER BY id":              1,
	} {
		for _, key := range [][]string{nil, {"id"}} {
			if key != nil && !strings.Contains(sql, "id,") && !strings.Contains(sql, "SELECT id") {
				continue
			}
			got, err := readAll(t, c, connectors.Query{SQL: sql, Key: key}, request.Limits{})
			if err != nil || len(got) != want {
				t.Errorf("%s: %d records, %v", sql, len(got), err)
			}
		}
	}
	for _, sql := range []string{
		"INSERT INTO t VALUES (3, 'z') RETURNING id", "DELETE FROM t RETURNING id", "DROP TABLE t", "SELECT * FROM t INTO OUTFILE '" + d.server.Dir + "/out'",
		"SELECT 1 INTO DUMPFILE '" + d.server.Dir + "/out'", "SELECT 1 INTO @x", "SET SESSION TRANSACTION READ WRITE", "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t",
		"SELECT id FROM t WHERE id = ?", "CALL nosuch()", "SELECT nextval(s)", "SELECT 1; SELECT 2",
	} {
		for _, key := range [][]string{nil, {"id"}} {
			if _, err := readAll(t, c, connectors.Query{SQL: sql, Key: key}, request.Limits{}); fault.ClassOf(err) != fault.SchemaDrift {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	if got := d.text(t, "SELECT count(*) FROM t"); got != "2" {
		t.Errorf("%s rows", got)
	}
}

// TestSessionsThatTheServerEnded: what was idle is looked at before it is used;
// what breaks in the middle can be repeated.
func TestSessionsThatTheServerEnded(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id bigint)")
	c := d.must(t, nil)
	end := func() {
		for _, id := range strings.Fields(d.text(t, "SELECT coalesce(group_concat(id SEPARATOR ' '), '') FROM information_schema.PROCESSLIST WHERE DB = database() AND id <> connection_id()")) {
			d.behind.Exec("KILL " + id) // it may be gone
		}
	}
	p := onePage(t, []string{"id"}, []page.Value{page.Int(1)})
	for range 3 {
		if _, err := load(t, c, connectors.ImportSpec{Table: "t"}, p); err != nil && fault.ClassOf(err) != fault.Intermittent {
			t.Fatalf("got %v", err)
		}
		end()
	}
	ended := false
	_, err := newRead(c, connectors.Query{SQL: "SELECT seq, repeat('x', 1000) AS x FROM seq_1_to_1000000"}).Run(t.Context(),
		func(context.Context, *page.Page) error {
			if !ended {
				end()
				ended = true
			}
			return nil
		})
	if fault.ClassOf(err) != fault.Intermittent {
		t.Errorf("got %v", err)
	}
}

// TestCancelEndsTheStatement: the server does not go on for nobody.
func TestCancelEndsTheStatement(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r := newRead(c, connectors.Query{SQL: "SELECT seq, benchmark(2000000000, md5(seq)) AS x FROM seq_2_to_3 UNION ALL SELECT 1, 1"})
	done := make(chan error)
	go func() {
		_, err := r.Run(ctx, discard)
		done <- err
	}()
	running := "SELECT count(*) FROM information_schema.PROCESSLIST WHERE DB = database() AND INFO LIKE '%benchmark(2000000000%' AND id <> connection_id()"
	for d.text(t, running) == "0" {
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("the read ended well")
	}
	for d.text(t, running) != "0" { // the test's deadline ends it
	}
}

// TestBoundedReadDoesNotDragTheRest counts the bytes that the server sends.
func TestBoundedReadDoesNotDragTheRest(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE wide (id int PRIMARY KEY, v mediumtext) AS SELECT seq AS id, repeat('x', 20000) AS v FROM seq_1_to_8000")
	env := d.env()
	var received atomic.Int64
	env.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return countingConn{conn, &received}, err
	}
	c, err := d.openIn(t, env, nil)
	if err != nil {
		t.Fatal(err)
	}
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
		if got := received.Load(); got > 24<<20 { // four pages of 1 MiB, what is in flight at the cut
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

func TestRowsBeyondTheLimits(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "SET GLOBAL max_allowed_packet = 1 << 26")
	t.Cleanup(func() { d.exec(t, "SET GLOBAL max_allowed_packet = 1 << 24") })
	c := d.must(t, nil)
	for _, size := range []string{"4000000", "17000000", "40000000"} {
		_, err := newRead(c, connectors.Query{SQL: "SELECT 1 AS id, repeat('x', " + size + ") AS v", Key: []string{"id"}}).
			Run(t.Context(), discard)
		if fault.CodeOf(err) != "E_TOO_LARGE" {
			t.Errorf("%s bytes: %v", size, err)
		}
	}
	if err := mysql.Type().Ping(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestStatementTimeout(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, map[string]any{"statementTimeout": "50ms"})
	_, err := newRead(c, connectors.Query{SQL: "SELECT 1 AS id FROM seq_1_to_2 WHERE sleep(60) = 0", Key: []string{"id"}}).Run(t.Context(), discard)
	if fault.CodeOf(err) != "E_TIMEOUT" {
		t.Errorf("got %v", err)
	}
}

func TestUnknownDatabaseIsNotAnAuthFault(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, map[string]any{"database": "nosuch"})
	if err := mysql.Type().Ping(t.Context(), c); fault.ClassOf(err) != fault.Connection {
		t.Errorf("got %v", err)
	}
}

// TestTimesAreThoseOfTheServerInUTC: the server's own zone does not matter, also
// not in the hours that it skips or has twice.
func TestTimesAreThoseOfTheServerInUTC(t *testing.T) {
	d := newDatabase(t)
	before := d.text(t, "SELECT @@global.time_zone")
	d.exec(t, "SET GLOBAL time_zone = '-05:00'")
	t.Cleanup(func() { d.exec(t, "SET GLOBAL time_zone = '"+before+"'") })
	d.exec(t, "CREATE TABLE t (id int PRIMARY KEY, l datetime, z timestamp NULL); SET time_zone = '+03:00'")
	d.exec(t, "INSERT INTO t VALUES (1, '2024-03-31 02:30:00', '2024-03-31 02:30:00')")
	c := d.must(t, nil)
	got, err := readAll(t, c, connectors.Query{Table: "t", Key: []string{"id"}}, request.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !page.Equal(got[0].Values[1], local("2024-03-31T02:30:00")) || !page.Equal(got[0].Values[2], zoned("2024-03-30T23:30:00")) {
		t.Errorf("got %v", got)
	}
	got[0].Values[0] = page.Int(2)
	if _, err := load(t, c, connectors.ImportSpec{Table: "t"}, onePage(t, []string{"id", "l", "z"}, got[0].Values)); err != nil {
		t.Fatal(err)
	}
	if got := d.text(t, "SELECT count(DISTINCT l, z) FROM t"); got != "1" {
		t.Error("the times changed on their way")
	}
}
