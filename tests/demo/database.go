package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	_ "github.com/jackc/pgx/v5/stdlib" // the demo's own eyes on the databases
	_ "github.com/mattn/go-sqlite3"

	"ropeway/tests/testenv"
)

// databases are the two ends of the flow, with the demo's own connections to
// them and the manifest fields that lead Ropeway there.
type databases struct {
	erp, warehouse *sql.DB
	connector      string
	settings       [2]string // of erp and warehouse, as YAML flow mappings
	targets        [2]string // as the policy names them
	credential     string    // JSON for `ropeway secret set`; empty = none
	close          func()
}

// badOrders have a total that the warehouse's column cannot hold; they are
// parked, and whoever likes can edit and retry them.
const badOrders = `total >= 100000000`

func openPostgres(ctx context.Context, dir string) (*databases, error) {
	pg, err := testenv.StartPostgres(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w (DEMO_DB=sqlite make demo needs no server)", err)
	}
	d := &databases{connector: "postgres", close: func() { pg.Stop(); os.RemoveAll(pg.Dir) }}
	for i, name := range []string{"erp", "warehouse"} {
		for _, q := range []string{"DROP DATABASE IF EXISTS " + name, "CREATE DATABASE " + name} {
			if err := pg.Exec(ctx, "postgres", q); err != nil {
				d.close()
				return nil, err
			}
		}
		d.settings[i] = fmt.Sprintf("{host: %s, port: %d, database: %s, tls: disable}", pg.Host, pg.Port, name)
		d.targets[i] = pg.Host + ":" + strconv.Itoa(pg.Port)
	}
	d.credential = fmt.Sprintf(`{"username":%q,"password":%q}`, pg.User, pg.Password)
	if d.erp, err = sql.Open("pgx", pg.DSN("erp")); err == nil {
		d.warehouse, err = sql.Open("pgx", pg.DSN("warehouse"))
	}
	return d, err
}

func openSQLite(dir string) (*databases, error) {
	d := &databases{connector: "sqlite", close: func() {}}
	var err error
	for i, name := range []string{"erp", "warehouse"} {
		path, absErr := filepath.Abs(filepath.Join(dir, name+".db"))
		if absErr != nil {
			return nil, absErr
		}
		d.settings[i], d.targets[i] = fmt.Sprintf("{path: %q}", path), path
		db, openErr := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_journal_mode=WAL&_busy_timeout=10000")
		if openErr != nil {
			err = openErr
		}
		if i == 0 {
			d.erp = db
		} else {
			d.warehouse = db
		}
	}
	return d, err
}

// fill makes the orders and the empty target. The target has no unique index on
// purpose: a row that came twice would show.
func (d *databases) fill(ctx context.Context, rows int) error {
	const table = `CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, status text NOT NULL,
		total %s NOT NULL, note text, updated_at %s NOT NULL)`
	const pgRows = `INSERT INTO orders SELECT i, 1 + i %% 997, CASE WHEN i %% 4 = 0 THEN 'open' ELSE 'paid' END,
		CASE WHEN i %% (%[1]d / 5) = 1 THEN 100000000 ELSE (i * 37 %% 1000000)::numeric / 100 END,
		'order ' || md5(i::text), timestamptz '2026-01-01' + i * interval '1 minute' FROM generate_series(1, %[1]d) i`
	const liteRows = `WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %[1]d)
		INSERT INTO orders SELECT i, 1 + i %% 997, CASE WHEN i %% 4 = 0 THEN 'open' ELSE 'paid' END,
		CASE WHEN i %% (%[1]d / 5) = 1 THEN 100000000 ELSE (i * 37 %% 1000000) / 100.0 END,
		'order ' || hex(i * 7919), datetime('2026-01-01', '+' || i || ' minutes') FROM s`
	target := `CREATE TABLE orders (id bigint, customer bigint, total_cents bigint, total numeric(10,2), note text)`
	source, insert := fmt.Sprintf(table, "numeric(14,2)", "timestamptz"), pgRows
	if d.connector == "sqlite" {
		source, insert = fmt.Sprintf(table, "numeric", "text"), liteRows
		target = `CREATE TABLE orders (id bigint, customer bigint, total_cents bigint, total numeric CHECK (total < 100000000), note text)`
	}
	for _, q := range []string{source, fmt.Sprintf(insert, rows)} {
		if _, err := d.erp.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("fill the source: %w", err)
		}
	}
	if _, err := d.warehouse.ExecContext(ctx, target); err != nil {
		return fmt.Errorf("make the target: %w", err)
	}
	return nil
}

// verdict is what the demo's own SQL says of both databases.
type verdict struct{ lost, doubled int }

// String is the last line of the demo.
func (v verdict) String() string { return fmt.Sprintf("lost %d, doubled %d", v.lost, v.doubled) }

// judge compares the ends row by row: what is paid and fits must be in the
// target with the right values, once, and nothing else may be there.
func (d *databases) judge(ctx context.Context) (verdict, error) {
	want := map[int64]int64{} // id → cents
	err := each(ctx, d.erp, `SELECT id, CAST(round(total * 100) AS bigint) FROM orders
		WHERE status = 'paid' AND NOT (`+badOrders+`)`, func(id, cents int64) { want[id] = cents })
	if err != nil {
		return verdict{}, err
	}
	v, seen := verdict{}, make(map[int64]bool, len(want))
	err = each(ctx, d.warehouse, `SELECT id, total_cents FROM orders`, func(id, cents int64) {
		if seen[id] {
			v.doubled++
			return
		}
		seen[id] = true
		if w, ok := want[id]; !ok || w != cents {
			v.lost++ // a wrong row is a lost one
		}
	})
	for id := range want {
		if !seen[id] {
			v.lost++
		}
	}
	return v, err
}

func each(ctx context.Context, db *sql.DB, query string, row func(id, cents int64)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, cents int64
		if err := rows.Scan(&id, &cents); err != nil {
			return err
		}
		row(id, cents)
	}
	return rows.Err()
}
