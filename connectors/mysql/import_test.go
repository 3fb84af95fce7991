package mysql_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// TestOtherTargets imports into what is not a plain table.
func TestOtherTargets(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	d.exec(t, `CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n int, twice bigint AS (n * 2) STORED, at timestamp NOT NULL DEFAULT current_timestamp());
		CREATE TABLE isam (id bigint) ENGINE = MyISAM; CREATE TABLE aria (id bigint) ENGINE = Aria;
		CREATE VIEW v AS SELECT id, n FROM t; CREATE TABLE parts (id bigint, n int) PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (10))`)
	row := func(id, n int64) []page.Value { return []page.Value{page.Int(id), page.Int(n)} }
	for _, table := range []string{"isam", "aria", "v"} {
		_, err := load(t, c, connectors.ImportSpec{Table: table}, onePage(t, []string{"id"}, []page.Value{page.Int(1)}))
		if f := fault.From(err); f == nil || f.Class != fault.SchemaDrift || f.Fix == "" {
			t.Errorf("%s: %v", table, err)
		}
	}
	answer, err := load(t, c, connectors.ImportSpec{Table: "parts"}, onePage(t, []string{"id", "n"}, row(8, 9), row(11, 9)))
	if err != nil || answer.Applied != 1 || answer.Failed[0].Fault.Code != "E_VALUE" {
		t.Errorf("partitions: %+v, %v", answer, err)
	}
	answer, err = load(t, c, connectors.ImportSpec{Table: "t"}, onePage(t, []string{"id", "at"}, // nothing is made up for a null
		[]page.Value{page.Int(0), page.Timestamp(hour, 0)}, []page.Value{page.Null(), page.Timestamp(hour, 0)}, []page.Value{page.Int(2), page.Null()}))
	if err != nil || answer.Applied != 1 || len(answer.Failed) != 2 || answer.Failed[1].Fault.Field != "at" {
		t.Errorf("nulls: %+v, %v", answer, err)
	}
	if got := d.text(t, "SELECT group_concat(id) FROM t"); got != "0" {
		t.Errorf("ids %s", got)
	}
	_, err = load(t, c, connectors.ImportSpec{Table: "t"}, onePage(t, []string{"id", "twice"}, row(9, 9)))
	if fault.ClassOf(err) != fault.SchemaDrift || fault.From(err).Field != "twice" {
		t.Errorf("generated column: %v", err)
	}
}

// TestUpsertFindsRowsByItsKeyOnly: a row found by another unique index is a
// duplicate, not the row to change.
func TestUpsertFindsRowsByItsKeyOnly(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	for i, kind := range []string{"int", "varchar(9) CHARACTER SET latin1", "decimal(9,2)", "binary(4)", "datetime(3)", "double"} {
		table := fmt.Sprintf("t%d", i)
		d.exec(t, "CREATE TABLE "+table+" (k "+kind+" NOT NULL UNIQUE, mail varchar(20) UNIQUE, n int)")
		keys := [][]page.Value{{page.Int(1), page.Int(2), page.Int(3)}, {page.String("ä"), page.String("ö"), page.String("ü")},
			{decimal("1.10"), decimal("2"), decimal("3.33")}, {page.Bytes([]byte("aaaa")), page.Bytes([]byte("bbbb")), page.Bytes([]byte("cccc"))},
			{page.LocalTimestamp(1000), page.LocalTimestamp(2000), page.LocalTimestamp(3000)}, {page.Float(0.1), page.Float(0.2), page.Float(0.3)}}[i]
		row := func(k int, mail string, n int64) []page.Value {
			return []page.Value{keys[k], page.String(mail), page.Int(n)}
		}
		names := []string{"k", "mail", "n"}
		spec := connectors.ImportSpec{Table: table, Mode: "upsert", Key: []string{"k"}}
		if a, err := load(t, c, spec, onePage(t, names, row(0, "a", 1), row(1, "b", 1))); err != nil || a.Applied != 2 {
			t.Fatalf("%s: %+v, %v", kind, a, err)
		}
		a, err := load(t, c, spec, onePage(t, names, row(0, "a2", 2), row(2, "b", 2), row(1, "a2", 2), row(1, "b2", 3)))
		if err != nil || a.Applied != 2 || len(a.Failed) != 2 || a.Failed[0].Fault.Code != "E_DUPLICATE" || a.Failed[1].Fault.Code != "E_DUPLICATE" {
			t.Errorf("%s: %+v, %v", kind, a, err)
		}
		if got := d.text(t, "SELECT group_concat(mail, n ORDER BY n) FROM "+table); got != "a22,b23" {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

// TestUpdatesInLists: multi-row updates and deletes by one and two columns, with
// keys that are there, missing, and there twice.
func TestUpdatesInLists(t *testing.T) {
	d := newDatabase(t)
	c := d.must(t, nil)
	const n = 1234
	for _, key := range [][]string{{"a"}, {"a", "b"}} {
		d.exec(t, "CREATE OR REPLACE TABLE t (a int, b varchar(9), v varchar(20), x decimal(9,3), y datetime, UNIQUE ("+strings.Join(key, ",")+"))")
		d.exec(t, "INSERT INTO t SELECT seq, 'b', 'old', 0, NULL FROM seq_1_to_"+strconv.Itoa(n))
		var rows [][]page.Value
		for i := range int64(n) {
			rows = append(rows, []page.Value{page.Int(i + 1), page.String("B"), page.String("v'\\" + strconv.Itoa(int(i))), decimal("1.5"), page.Null()})
		}
		rows[500][0] = page.Int(n + 7) // missing
		rows[700][0] = page.Int(700)   // twice: the second wins
		rows[700][2] = page.String("second")
		spec := connectors.ImportSpec{Table: "t", Mode: "update", Key: key}
		a, err := load(t, c, spec, onePage(t, []string{"a", "b", "v", "x", "y"}, rows...))
		if err != nil || len(a.Failed) != 1 || a.Failed[0].Index != 500 || a.Failed[0].Fault.Code != "E_MISSING" {
			t.Fatalf("%v: %+v, %v", key, a, err)
		}
		if got := d.text(t, "SELECT count(*) FROM t WHERE v = concat('v''\\\\', a - 1) AND x = 1.5"); got != strconv.Itoa(n-3) {
			t.Errorf("%v: %s rows have their value", key, got)
		}
		if got := d.text(t, "SELECT group_concat(v ORDER BY a) FROM t WHERE a IN (501, 700, 701)"); got != "old,second,old" {
			t.Errorf("%v: %s", key, got)
		}
		spec.Mode = "delete"
		if a, err := load(t, c, spec, onePage(t, []string{"a", "b", "v", "x", "y"}, rows...)); err != nil || a.Applied != n {
			t.Fatalf("%+v, %v", a, err)
		}
		if got := d.text(t, "SELECT group_concat(a) FROM t"); got != "501,701" {
			t.Errorf("%v: %s are left", key, got)
		}
	}
}

// TestDelivery_4_InboxThatTheRoleMayNotMake prints the script, and goes on when
// an administrator has run it.
func TestDelivery_4_InboxThatTheRoleMayNotMake(t *testing.T) {
	d := newDatabase(t)
	role := "r_" + d.name[2:12]
	d.exec(t, "CREATE USER "+role+" IDENTIFIED BY 'secret'; CREATE TABLE t (id bigint); CREATE TABLE closed (id bigint); GRANT INSERT, SELECT ON t TO "+role)
	t.Cleanup(func() { d.exec(t, "DROP USER "+role) })
	env := d.env()
	env.Secret = func(context.Context) (map[string]string, error) {
		return map[string]string{"username": role, "password": "secret"}, nil
	}
	c, err := d.openIn(t, env, nil)
	if err != nil {
		t.Fatal(err)
	}
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
	_, err = load(t, c, connectors.ImportSpec{Table: "closed"}, p)
	if fault.CodeOf(err) != "E_PERMISSION" {
		t.Errorf("a table without a grant: %v", err)
	}
	if _, err := newRead(c, connectors.Query{Table: "closed", Key: []string{"id"}}).Run(t.Context(), discard); fault.CodeOf(err) != "E_PERMISSION" {
		t.Errorf("reading a table without a grant: %v", err)
	}
}

// TestDelivery_4_LongPageNames: names differ in the inbox by their hash.
func TestDelivery_4_LongPageNames(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id bigint)")
	c := d.must(t, nil)
	p := onePage(t, []string{"id"}, []page.Value{page.Int(1)})
	for _, path := range []string{strings.Repeat("/step.1", 300), strings.Repeat("/step.1", 300) + "/other", strings.Repeat("/step.1", 300)} {
		p.Header.Path = path
		if _, err := load(t, c, connectors.ImportSpec{Table: "t"}, p); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.text(t, "SELECT count(*) FROM t"); got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
}

// TestRecordsBeyondAStatement: what the server takes in one statement bounds a
// record, and only this record.
func TestRecordsBeyondAStatement(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id int PRIMARY KEY, v longtext); SET GLOBAL max_allowed_packet = 1 << 20")
	t.Cleanup(func() { d.exec(t, "SET GLOBAL max_allowed_packet = 1 << 24") })
	c := d.must(t, nil)
	var rows [][]page.Value
	for i, size := range []int{400_000, 2_000_000, 400_000, 400_000, 400_000} {
		rows = append(rows, []page.Value{page.Int(int64(i)), page.String(strings.Repeat("x", size))})
	}
	for _, mode := range []string{"insert", "update", "upsert"} {
		a, err := load(t, c, connectors.ImportSpec{Table: "t", Mode: mode, Key: []string{"id"}}, onePage(t, []string{"id", "v"}, rows...))
		if err != nil || len(a.Failed) != 1 || a.Failed[0].Index != 1 || a.Failed[0].Fault.Code != "E_TOO_LARGE" {
			t.Errorf("%s: %+v, %v", mode, a, err)
		}
	}
}

// TestFieldThatTheServerRefuses: the server names the column, the record goes in
// without it.
func TestFieldThatTheServerRefuses(t *testing.T) {
	d := newDatabase(t)
	d.exec(t, "CREATE TABLE t (id bigint PRIMARY KEY, v enum('a','b'), w text)")
	c := d.must(t, nil)
	spec := connectors.ImportSpec{Table: "t", FieldErrors: connectors.FieldErrors{Remove: []string{"v"}}}
	for id, mode := range []string{"insert", "upsert"} {
		spec.Mode, spec.Key = mode, []string{"id"}
		answer, err := load(t, c, spec, onePage(t, []string{"id", "v", "w"},
			[]page.Value{page.Int(int64(10 * id)), page.String("a"), page.String("w")},
			[]page.Value{page.Int(int64(10*id + 1)), page.String("c"), page.String("w")}))
		if err != nil || answer.Applied != 2 || len(answer.Degraded) != 1 || answer.Degraded[0].Index != 1 {
			t.Fatalf("%s: %+v, %v", mode, answer, err)
		}
	}
	if got := d.text(t, "SELECT count(*) FROM t WHERE v IS NULL AND w = 'w'"); got != "2" {
		t.Error("the records are not there without their field")
	}
}
