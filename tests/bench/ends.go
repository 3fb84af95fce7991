package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ropeway/tests/testenv"
)

// The two targets: rows as they are, and rows that steps have changed.
const (
	plainTable = "orders"
	stepsTable = "paid_orders"
)

// ends are the databases at both ends, on one server.
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

// serverSettings keep the server's own upkeep out of the measured minutes. It
// is as durable as by default.
var serverSettings = []string{
	"shared_buffers=512MB", "max_wal_size=16GB", "checkpoint_timeout=1h", "autovacuum=off",
}

const columns = `id bigint PRIMARY KEY, customer_id bigint NOT NULL, status text NOT NULL,
	total numeric(14,2) NOT NULL, quantity integer NOT NULL, email text, note text,
	express boolean NOT NULL, ordered_on date NOT NULL, updated_at timestamptz NOT NULL`

const fill = `INSERT INTO orders SELECT i, 1 + i %% 99991, CASE WHEN i %% 4 = 0 THEN 'open' ELSE 'paid' END,
	(i::bigint * 3701 %% 100000000)::numeric / 100, 1 + i %% 12,
	'customer.' || i %% 99991 || '@mail' || i %% 97 || '.example.com',
	'order ' || md5(i::text) || ' shipped by courier, left with neighbour number ' || i %% 31,
	i %% 7 = 0, date '2024-01-01' + i %% 900, timestamptz '2026-01-01' + i * interval '1.3 seconds'
	FROM generate_series(1, %d) i`

// steps are filter and map of P2 as SQL, beside stepsManifest.
const steps = `SELECT id, customer_id, upper(status) AS status, (total * 100)::bigint AS total_cents, quantity,
	email, note, express, ordered_on, updated_at FROM orders WHERE status = 'paid'`

func openEnds(ctx context.Context, dir string, rows int) (*ends, error) {
	pg, err := testenv.StartPostgres(ctx, dir, serverSettings...)
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
	for _, q := range []string{"CREATE TABLE orders (" + columns + ")", fmt.Sprintf(fill, rows), "VACUUM ANALYZE orders"} {
		if _, err := e.source.Exec(ctx, q); err != nil {
			return err
		}
	}
	empty := `CREATE TABLE orders (LIKE src); CREATE TABLE paid_orders (LIKE src); DROP TABLE src;
		ALTER TABLE paid_orders ALTER total TYPE bigint, ADD PRIMARY KEY (id);
		ALTER TABLE paid_orders RENAME total TO total_cents`
	if _, err := e.target.Exec(ctx, "CREATE TABLE src ("+columns+");"+empty); err != nil {
		return err
	}
	for table, query := range map[string]string{plainTable: "SELECT * FROM orders", stepsTable: steps} {
		if e.want[table], err = sumOf(ctx, e.source, query); err != nil {
			return err
		}
	}
	const facts = "SELECT current_setting('server_version'), avg(length(o::text))::float8 FROM orders o"
	return e.source.QueryRow(ctx, facts).Scan(&e.version, &e.rowBytes)
}

// clear empties a target and writes out what the last run left, so that each
// run starts alike.
func (e *ends) clear(ctx context.Context, table string) error {
	if _, err := e.target.Exec(ctx, "TRUNCATE "+table); err != nil {
		return err
	}
	_, err := e.target.Exec(ctx, "CHECKPOINT")
	return err
}

// compare finds whether a target holds what it must, each row once.
func (e *ends) compare(ctx context.Context, table string) error {
	got, err := sumOf(ctx, e.target, "SELECT * FROM "+table)
	if err == nil && got != e.want[table] {
		err = fmt.Errorf("the rows differ: %s has %+v, the source says %+v", table, got, e.want[table])
	}
	return err
}

func sumOf(ctx context.Context, conn *pgx.Conn, query string) (s sum, err error) {
	const q = "SELECT count(*), sum(hashtextextended(r::text, 0)::numeric)::text FROM (%s) r"
	err = conn.QueryRow(ctx, fmt.Sprintf(q, query)).Scan(&s.rows, &s.hash)
	return s, err
}

func (e *ends) close() {
	for _, c := range []*pgx.Conn{e.source, e.target} {
		if c != nil {
			c.Close(context.Background())
		}
	}
	e.pg.Stop()
}
