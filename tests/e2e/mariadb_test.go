package e2e

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"ropeway/tests/rig"
	"ropeway/tests/testenv"
)

// acrossSystems are types of MariaDB with values, the type of PostgreSQL that
// holds them too, and how that shows them.
var acrossSystems = []struct {
	maria, postgres string
	values          [][2]string // as MariaDB's SQL writes it, as PostgreSQL shows it
}{
	{"boolean", "boolean", [][2]string{{"true", "true"}, {"false", "false"}}},
	{"tinyint unsigned", "smallint", [][2]string{{"255", "255"}}},
	{"smallint", "smallint", [][2]string{{"-32768", "-32768"}, {"32767", "32767"}}},
	{"mediumint", "integer", [][2]string{{"-8388608", "-8388608"}}},
	{"int unsigned", "bigint", [][2]string{{"4294967295", "4294967295"}}},
	{"bigint", "bigint", [][2]string{{"-9223372036854775808", "-9223372036854775808"}, {"9007199254740993", "9007199254740993"}}},
	{"bigint unsigned", "numeric", [][2]string{{"18446744073709551615", "18446744073709551615"}, {"0", "0"}}},
	{"year", "integer", [][2]string{{"2155", "2155"}}},
	{"bit(12)", "bigint", [][2]string{{"b'101000000001'", "2561"}}},
	{"float", "real", [][2]string{{"0.1", "0.1"}, {"3.4028234663852886e38", "3.4028235e+38"}, {"16777216", "1.6777216e+07"}}},
	{"double", "double precision", [][2]string{{"0.1", "0.1"}, {"1.7976931348623157e308", "1.7976931348623157e+308"}, {"-2.2250738585072014e-308", "-2.2250738585072014e-308"}}},
	{"decimal(65,30)", "numeric", [][2]string{{"-12345678901234567890123456789012345.000000000000000000000000000001", "-12345678901234567890123456789012345.000000000000000000000000000001"}, {"0.29", "0.290000000000000000000000000000"}}},
	{"decimal(12,2)", "numeric(12,2)", [][2]string{{"0.29", "0.29"}, {"-9999999999.99", "-9999999999.99"}}},
	{"text", "text", [][2]string{{"''", ""}, {"'héllo ✓ 𝄞'", "héllo ✓ 𝄞"}, {`'it''s "so" \\ \n'`, "it's \"so\" \\ \n"}, {"repeat('x', 60000)", strings.Repeat("x", 60000)}}},
	{"varchar(20) CHARACTER SET latin1", "varchar(20)", [][2]string{{"'  Größe € 007'", "  Größe € 007"}}},
	{"char(5)", "text", [][2]string{{"'ab'", "ab"}}},
	{"enum('new','it''s')", "text", [][2]string{{"'it''s'", "it's"}}},
	{"set('a','b','c')", "text", [][2]string{{"'c,a'", "a,c"}}},
	{"varbinary(10)", "bytea", [][2]string{{"''", `\x`}, {"x'00ff275c'", `\x00ff275c`}}},
	{"longblob", "bytea", [][2]string{{"repeat(x'00ff', 30000)", `\x` + strings.Repeat("00ff", 30000)}}},
	{"binary(16)", "uuid", [][2]string{{"x'f47ac10b58cc4372a5670e02b2c3d479'", "f47ac10b-58cc-4372-a567-0e02b2c3d479"}}},
	{"uuid", "uuid", [][2]string{{"'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "f47ac10b-58cc-4372-a567-0e02b2c3d479"}}},
	{"date", "date", [][2]string{{"'0001-01-01'", "0001-01-01"}, {"'9999-12-31'", "9999-12-31"}, {"'2024-02-29'", "2024-02-29"}}},
	{"datetime", "timestamp", [][2]string{{"'2024-03-31 02:30:00'", "2024-03-31 02:30:00"}, {"'9999-12-31 23:59:59'", "9999-12-31 23:59:59"}}},
	{"datetime(6)", "timestamp", [][2]string{{"'0001-01-01 00:00:00.000001'", "0001-01-01 00:00:00.000001"}}},
	{"timestamp(3) NULL", "timestamptz", [][2]string{{"'1970-01-01 00:00:01'", "1970-01-01 00:00:01+00"}, {"'2038-01-19 03:14:07.999'", "2038-01-19 03:14:07.999+00"}}},
	{"time(6)", "time", [][2]string{{"'00:00:00'", "00:00:00"}, {"'23:59:59.999999'", "23:59:59.999999"}}},
	{"time", "interval", [][2]string{{"'838:59:59'", "838:59:59"}, {"'-00:00:01'", "-00:00:01"}}},
	{"json", "json", [][2]string{{`'{"b":1, "a":[1.50,null,"ü"], "b":12345678901234567890.1}'`, `{"b":1, "a":[1.50,null,"ü"], "b":12345678901234567890.1}`}}},
	{"json", "jsonb", [][2]string{{`'{"a": [1, {"b": null}]}'`, `{"a": [1, {"b": null}]}`}}},
	{"inet6", "inet", [][2]string{{"'2001:db8::1'", "2001:db8::1/128"}}},
	{"point", "text", [][2]string{{"ST_GeomFromText('POINT(1.5 -2)', 4326)", "0101000020e6100000000000000000f83f00000000000000c0"}}},
}

// plant is a site whose source is a MariaDB behind the agent; the hub reaches
// the PostgreSQL.
type plant struct {
	*world
	server *testenv.MariaDB
	name   string
	erp    *sql.DB
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{server: testenv.Maria(t)}
	p.name = p.server.Database(t)
	var err error
	if p.erp, err = p.server.Open(p.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.erp.Close() })
	p.erp.SetMaxOpenConns(1) // settings of the session hold
	p.world = newWorld(t)
	p.sql(p.target, fmt.Sprintf("ALTER DATABASE %s SET timezone = 'UTC'", p.names[1]))
	p.target.SetMaxIdleConns(0)
	return p
}

// start brings the site up with TLS to the MariaDB and the given flows.
func (p *plant) start(flows string) {
	p.t.Helper()
	ctx := p.context(2 * time.Minute)
	ca := "      " + strings.ReplaceAll(strings.TrimSpace(p.server.CA), "\n", "\n      ")
	p.write("manifests/all.yaml", fmt.Sprintf(`kind: AgentGroup
name: plant-7
---
kind: Credential
name: erp-login
custody: vault
---
kind: Credential
name: warehouse-login
custody: vault
---
kind: Connection
name: erp
connector: mysql
agentGroup: plant-7
credential: erp-login
settings:
  host: %s
  port: %d
  database: %s
  ca: |
%s
concurrency: 4
---
kind: Connection
name: warehouse
connector: postgres
credential: warehouse-login
settings: {host: %s, port: %d, database: %s, tls: disable}
concurrency: 6
%s`, p.server.Host, p.server.Port, p.name, ca, p.pg.Host, p.pg.Port, p.names[1], flows))
	p.write("policy.yaml", fmt.Sprintf("rules:\n  - {name: erp, connector: mysql, target: \"%s:%d\", allow: [export, lookup, import]}\n",
		p.server.Host, p.server.Port))
	p.must(p.StartHub(ctx))
	p.run("", "apply", "-f", p.Path("manifests"))
	p.run(fmt.Sprintf(`{"username":%q,"password":%q}`, p.server.User, p.server.Password), "secret", "set", "erp-login", "--file", "-")
	p.run(p.login(), "secret", "set", "warehouse-login", "--file", "-")
	p.must(p.Enroll(ctx, "plant-7"))
	p.must(p.StartAgent(ctx, true))
}

// TestMariaDBToPostgres: orders of a MariaDB behind the agent go through filter
// and map into the hub's PostgreSQL; the one that is refused is parked.
func TestMariaDBToPostgres(t *testing.T) {
	p := newPlant(t)
	p.sql(p.erp, `CREATE TABLE orders (id int PRIMARY KEY, status enum('open','paid'), total decimal(12,2), note varchar(100), at timestamp(6))`)
	p.sql(p.erp, `INSERT INTO orders SELECT seq, if(seq % 4 = 0, 'open', 'paid'), 0.29, concat('n', seq), '2024-03-31 02:30:00.000001' FROM seq_1_to_20000`)
	p.sql(p.erp, `UPDATE orders SET note = 'much too long for the target' WHERE id = 7`)
	p.sql(p.target, `CREATE TABLE orders (id int PRIMARY KEY, total_cents bigint, note varchar(10), at timestamptz)`)
	p.start(`---
kind: Flow
name: orders-to-warehouse
export: {connection: erp, table: orders, key: [id]}
steps:
  - filter: record.status == "paid"
  - map:
      id: record.id
      total_cents: int(record.total * 100)
      note: record.note
      at: record.at
  - import: {connection: warehouse, table: orders, mode: upsert, key: [id]}
    name: load
`)
	type job struct {
		State   string
		Records struct{ Exported, Delivered, Filtered, Parked int }
	}
	out, err := p.Client(p.context(time.Minute), "", "flow", "run", "orders-to-warehouse", "--wait", "-o", "json")
	p.refused(1, out, err) // completed_with_errors
	ran := decode[job](t, out)
	if ran.State != "completed_with_errors" || ran.Records.Exported != 20000 || ran.Records.Filtered != 5000 ||
		ran.Records.Parked != 1 || ran.Records.Delivered != 14999 {
		t.Fatalf("job: %+v\n%s", ran, rig.Tail(p.Path("agent.log"), 20))
	}
	if n := p.number(p.target, `SELECT count(*) FROM orders WHERE total_cents = 29 AND note = 'n' || id AND at = '2024-03-31 02:30:00.000001+00'`); n != 14999 {
		t.Errorf("%d rows are exact in the target, want 14999", n)
	}
}

// TestMariaDBValueByValue moves each type to PostgreSQL and back through agent,
// tunnel, queue and hub, and compares both ends in the databases themselves.
func TestMariaDBValueByValue(t *testing.T) {
	p := newPlant(t)
	var flows strings.Builder
	for i, c := range acrossSystems {
		there, back := fmt.Sprintf("t%02d", i), fmt.Sprintf("b%02d", i)
		for _, name := range []string{there, back} {
			p.sql(p.erp, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v %s)", name, c.maria))
		}
		p.sql(p.erp, fmt.Sprintf("INSERT INTO %s VALUES (0, NULL)", there))
		p.sql(p.target, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v %s)", there, c.postgres))
		for j, v := range c.values {
			p.sql(p.erp, fmt.Sprintf("INSERT INTO %s VALUES (%d, %s)", there, j+1, v[0]))
		}
		mode := []string{"insert}", "upsert, key: [id]}"}[i%2]
		fmt.Fprintf(&flows, "---\nkind: Flow\nname: %[1]s\nexport: {connection: erp, table: %[1]s, key: [id]}\nsteps:\n"+
			"  - filter: record.id >= 0\n  - import: {connection: warehouse, table: %[1]s, mode: %[3]s\n"+
			"---\nkind: Flow\nname: %[2]s\nexport: {connection: warehouse, table: %[1]s, key: [id]}\nsteps:\n"+
			"  - set: {id: record.id}\n  - import: {connection: erp, table: %[2]s, mode: %[3]s\n", there, back, mode)
	}
	p.start(flows.String())
	for i, c := range acrossSystems {
		there, back := fmt.Sprintf("t%02d", i), fmt.Sprintf("b%02d", i)
		for _, flow := range []string{there, back} {
			out, err := p.Client(p.context(time.Minute), "", "flow", "run", flow, "--wait", "-o", "json")
			if err != nil {
				t.Errorf("%s %s: %v\n%s\n%s", c.maria, flow, err, out, p.run("", "error", "list", "--flow", flow, "-o", "json"))
			}
		}
		got := p.texts(1, there)
		if len(got) != len(c.values)+1 || got[0] != "<null>" {
			t.Errorf("%s: %d rows, null is %q", c.maria, len(got), got[0])
		}
		for j, v := range c.values {
			if got[j+1] != v[1] {
				t.Errorf("%s to %s: %.80s is %.80q, want %.80q", c.maria, c.postgres, v[0], got[j+1], v[1])
			}
		}
		same := fmt.Sprintf("SELECT count(*) FROM %s a JOIN %s b ON a.id = b.id AND a.v <=> b.v AND hex(a.v) <=> hex(b.v)", there, back)
		if n := p.number(p.erp, same); n != len(c.values)+1 {
			t.Errorf("%s to %s and back: %d values of %d are the same", c.maria, c.postgres, n, len(c.values)+1)
		}
	}
}
