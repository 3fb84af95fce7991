package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// columns are PostgreSQL types with values at their extremes; NULL is added.
var columns = []struct{ typ, values string }{
	{"boolean", `true|false`},
	{"smallint", `-32768|32767|0`},
	{"integer", `-2147483648|2147483647`},
	{"bigint", `-9223372036854775808|9223372036854775807|9007199254740993`},
	{"real", `'1e-37'|'3.4028235e38'|'NaN'|'Infinity'|'-Infinity'|'-0'`},
	{"double precision", `'1e-307'|'1.7976931348623157e308'|'NaN'|'Infinity'|'-Infinity'|'-0'`},
	{"numeric", `0.29|12345678901234567890123456789012345678.123456789|-0.00000000000000000000000000000000000001|'NaN'|'Infinity'|'-Infinity'|1.500`},
	{"numeric(38,10)", `9999999999999999999999999999.9999999999`},
	{"text", `''|'héllo ✓ 𝄞'|E'line\nbreak\ttab'|repeat('x', 200000)`},
	{"varchar(20)", `'leading 007'|'  spaces  '`},
	{"char(5)", `'ab'`},
	{"bytea", `'\x'|'\x00ff00'`},
	{"date", `'0001-01-01'|'9999-12-31'|'2024-02-29'|'infinity'|'-infinity'|'0044-03-15 BC'`},
	{"time", `'00:00:00'|'23:59:59.999999'|'24:00:00'`},
	{"timestamp", `'0001-01-01'|'9999-12-31 23:59:59.999999'|'infinity'`},
	{"timestamptz", `'0001-01-02 00:00:00+00'|'9999-12-30 23:59:59.999999+00'|'2024-03-31 02:30:00+01'|'-infinity'`},
	{"interval", `'1 year 2 months 3 days 04:05:06.000007'|'-178000000 years'|'-1 day +1 hour'`},
	{"uuid", `'00000000-0000-0000-0000-000000000000'|'ffffffff-ffff-ffff-ffff-ffffffffffff'`},
	{"json", `'{"b":1, "a":[1.50,null,"ü"], "b":2}'|'null'|'12345678901234567890.1'`},
	{"jsonb", `'{"a": {"b": [1, 2, {"c": null}]}}'|'"text"'`},
	{"integer[]", `'{1,NULL,3}'|'{}'`},
	{"text[]", `'{"a,b","c\"d",NULL,""}'`},
	{"inet", `'192.168.0.1/24'|'::1'`},
	{"point", `'(1.5,-2)'`},
	{"int4range", `'[1,10)'|'empty'`},
	{"money", `'-92233720368547758.08'`},
	{"tsvector", `'fat:1 cat:2'`},
	{"bit(4)", `'1010'`},
	{"xml", `'<a>1</a>'`},
}

// TestEveryTypeValueByValue moves each type through agent, tunnel, queue and hub
// and compares both ends by their text in the database itself.
func TestEveryTypeValueByValue(t *testing.T) {
	w := newWorld(t)
	var source, target, flows strings.Builder
	for i, c := range columns {
		name := fmt.Sprintf("t%02d", i)
		fmt.Fprintf(&source, "CREATE TABLE %[1]s (id int PRIMARY KEY, v %[2]s); INSERT INTO %[1]s VALUES (0, NULL);\n", name, c.typ)
		fmt.Fprintf(&target, "CREATE TABLE %s (id int, v %s);\n", name, c.typ)
		for j, v := range strings.Split(c.values, "|") {
			fmt.Fprintf(&source, "INSERT INTO %s VALUES (%d, %s);\n", name, j+1, v)
		}
		mode := []string{"insert}", "upsert, key: [id]}"}[i%2]
		fmt.Fprintf(&flows, "---\nkind: Flow\nname: %[1]s\nexport: {connection: erp, table: %[1]s, key: [id]}\nsteps:\n"+
			"  - set: {id: record.id}\n  - import: {connection: warehouse, table: %[1]s, mode: %[2]s\n", name, mode)
		if i%2 == 1 {
			fmt.Fprintf(&target, "ALTER TABLE %s ADD PRIMARY KEY (id);\n", name)
		}
	}
	w.sql(w.source, source.String())
	w.sql(w.target, target.String())
	w.sql(w.source, `CREATE TABLE orders (id int PRIMARY KEY)`)
	w.up("  - import: {connection: warehouse, table: orders}\n" + flows.String())
	for i, c := range columns {
		name := fmt.Sprintf("t%02d", i)
		out, err := w.Client(w.context(60e9), "", "flow", "run", name, "--wait", "-o", "json")
		if err != nil {
			t.Errorf("%s: %v\n%s\n%s", c.typ, err, out, w.run("", "error", "list", "--flow", name, "-o", "json"))
			continue
		}
		want, got := w.texts(0, name), w.texts(1, name)
		for id, text := range want {
			if got[id] != text {
				t.Errorf("%s: value %d is %.80q in the target, want %.80q", c.typ, id, got[id], text)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d rows, want %d", c.typ, len(got), len(want))
		}
	}
}

// texts are the values of a table as the database writes them.
func (w *world) texts(end int, table string) map[int]string {
	w.t.Helper()
	db := w.source
	if end == 1 {
		db = w.target
	}
	rows, err := db.Query(`SELECT id, coalesce(v::text, '<null>') FROM ` + table)
	w.must(err)
	defer rows.Close()
	out := map[int]string{}
	for rows.Next() {
		var id int
		var text string
		w.must(rows.Scan(&id, &text))
		out[id] = text
	}
	w.must(rows.Err())
	return out
}
