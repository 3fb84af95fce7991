package main

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"

	"ropeway/tests/testenv"
)

// ends are the databases at both ends, on one server: orders in erp, orders and
// paid_orders in warehouse.
type ends struct {
	pg             *testenv.PG
	source, target *pgx.Conn
	version        string
	rowBytes       float64        // of a row as text
	want           map[string]sum // by target table
}

// sum tells contents apart: rows and the sum of their hashes.
type sum struct {
	rows int64
	hash string
}

// columns are the ten of a row.
var columns = []string{"id", "customer_id", "status", "total", "quantity", "email", "note", "express",
	"ordered_on", "updated_at"}

const table = `CREATE TABLE %s (id bigint %s, customer_id bigint NOT NULL, status text NOT NULL,
	%s NOT NULL, quantity integer NOT NULL, email text, note text, express boolean NOT NULL,
	ordered_on date NOT NULL, updated_at timestamptz NOT NULL)`

const fill = `INSERT INTO orders SELECT i, 1 + i %% 99991, CASE WHEN i %% 4 = 0 THEN 'open' ELSE 'paid' END,
	(i::bigint * 3701 %% 100000000)::numeric / 100, 1 + i %% 12,
	'customer.' || i %% 99991 || '@mail' || i %% 97 || '.example.com', 'order ' || md5(i::text) ||
	' shipped by courier in one parcel, left with neighbour number ' || i %% 31,
	i %% 7 = 0, date '2024-01-01' + i %% 900, timestamptz '2026-01-01' + i * interval '1.3 seconds'
	FROM generate_series(1, %d) i`

// stepsSQL is what the steps of P2 do, beside stepsManifest.
const stepsSQL = `SELECT id, customer_id, upper(status) AS status, (total * 100)::bigint AS total_cents, quantity,
	email, note, express, ordered_on, updated_at FROM orders WHERE status = 'paid'`

func openEnds(ctx context.Context, dir string, rows int) (*ends, error) {
	// As durable as by default, but without upkeep in the measured minutes.
	pg, err := testenv.StartPostgres(ctx, dir, "shared_buffers=512MB", "max_wal_size=16GB",
		"checkpoint_timeout=1h", "autovacuum=off")
	if err != nil {
		return nil, err
	}
	e := &ends{pg: pg, want: map[string]sum{}}
	if err := e.prepare(ctx, rows); err != nil {
		e.close()
		return nil, fmt.Errorf("prepare the databases: %w", err)
	}
	return e, nil
}

func (e *ends) prepare(ctx context.Context, rows int) error {
	var err error
	for name, conn := range map[string]**pgx.Conn{"erp": &e.source, "warehouse": &e.target} {
		if err := e.pg.Exec(ctx, "postgres", "CREATE DATABASE "+name); err != nil {
			return err
		}
		if *conn, err = pgx.Connect(ctx, e.pg.DSN(name)); err != nil {
			return err
		}
	}
	for _, do := range []struct {
		conn *pgx.Conn
		sql  string
	}{
		{e.source, fmt.Sprintf(table, "orders", "PRIMARY KEY", "total numeric(14,2)")},
		{e.source, fmt.Sprintf(fill, rows)},
		{e.source, "VACUUM ANALYZE orders"},
		{e.target, fmt.Sprintf(table, "orders", "", "total numeric(14,2)")},
		{e.target, fmt.Sprintf(table, "paid_orders", "PRIMARY KEY", "total_cents bigint")},
	} {
		if _, err := do.conn.Exec(ctx, do.sql); err != nil {
			return err
		}
	}
	for name, query := range map[string]string{"orders": "SELECT * FROM orders", "paid_orders": stepsSQL} {
		if e.want[name], err = sumOf(ctx, e.source, query); err != nil {
			return err
		}
	}
	const facts = "SELECT current_setting('server_version'), avg(length(o::text))::float8 FROM orders o"
	return e.source.QueryRow(ctx, facts).Scan(&e.version, &e.rowBytes)
}

// measure runs one carrier into an empty table, with the writes of the last run
// out of the way, and finds whether the table holds what it must, each row once.
func (e *ends) measure(ctx context.Context, target string, run func(context.Context, *ends) (cost, error)) (cost, error) {
	for _, q := range []string{"TRUNCATE " + target, "CHECKPOINT"} {
		if _, err := e.target.Exec(ctx, q); err != nil {
			return cost{}, err
		}
	}
	c, err := run(ctx, e)
	if err != nil {
		return c, err
	}
	got, err := sumOf(ctx, e.target, "SELECT * FROM "+target)
	if err == nil && got != e.want[target] {
		err = fmt.Errorf("the rows differ: %s has %+v, the source says %+v", target, got, e.want[target])
	}
	return c, err
}

func sumOf(ctx context.Context, conn *pgx.Conn, query string) (s sum, err error) {
	const q = "SELECT count(*), sum(hashtextextended(r::text, 0)::numeric)::text FROM (%s) r"
	err = conn.QueryRow(ctx, fmt.Sprintf(q, query)).Scan(&s.rows, &s.hash)
	return s, err
}

func (e *ends) close() {
	e.pg.Stop()
	os.RemoveAll(e.pg.Dir)
}
