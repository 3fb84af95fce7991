package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// cost is what one run took. CPU is that of the carrier alone, never of the
// database server.
type cost struct {
	wall, cpu time.Duration
	hub       time.Duration // of cpu
	rss       [2]int64      // peak of hub and agent, bytes
}

func (c cost) rate(rows int) float64          { return float64(rows) / c.wall.Seconds() }
func (c cost) cpuPerMillion(rows int) float64 { return c.cpu.Seconds() * 1e6 / float64(rows) }

// runCopyPipe is the fastest a user gets with what PostgreSQL brings:
// psql COPY TO | psql COPY FROM, binary, one transaction, no resuming.
func runCopyPipe(ctx context.Context, e *ends) (cost, error) {
	out := e.psql(ctx, "erp", "COPY orders TO STDOUT (FORMAT binary)")
	in := e.psql(ctx, "warehouse", "COPY orders FROM STDIN (FORMAT binary)")
	var said bytes.Buffer
	out.Stderr, in.Stderr = &said, &said
	r, w, err := os.Pipe()
	if err != nil {
		return cost{}, err
	}
	out.Stdout, in.Stdin = w, r
	begun := time.Now()
	err = errors.Join(out.Start(), in.Start())
	r.Close()
	w.Close()
	if err != nil {
		return cost{}, err
	}
	if err := errors.Join(out.Wait(), in.Wait()); err != nil {
		return cost{}, fmt.Errorf("psql: %w: %s", err, said.String())
	}
	c := cost{wall: time.Since(begun)}
	for _, p := range []*os.ProcessState{out.ProcessState, in.ProcessState} {
		c.cpu += p.UserTime() + p.SystemTime()
	}
	return c, nil
}

func (e *ends) psql(ctx context.Context, database, statement string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "psql", "-X", "-q", "-h", e.pg.Host, "-p", strconv.Itoa(e.pg.Port),
		"-U", e.pg.User, "-d", database, "-v", "ON_ERROR_STOP=1", "-c", statement)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+e.pg.Password, "PGSSLMODE=disable")
	return cmd
}

// loopPage is how many rows the pgx loop carries in one transaction.
const loopPage = 5000

// runPgxLoop is what a Go programmer writes: keyset pages into COPY, a commit a
// page, the next page read while this one is written. It keeps nothing on the way.
func runPgxLoop(ctx context.Context, e *ends) (cost, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun, used := time.Now(), selfCPU()
	pages, failed := make(chan [][]any, 1), make(chan error, 1)
	go func() {
		defer close(pages)
		failed <- readPages(ctx, e.source, pages)
	}()
	var names []string
	for page := range pages {
		if names == nil {
			names = fieldNames(ctx, e.target)
		}
		if _, err := e.target.CopyFrom(ctx, pgx.Identifier{plainTable}, names, pgx.CopyFromRows(page)); err != nil {
			cancel()
			return cost{}, errors.Join(err, <-failed)
		}
	}
	return cost{wall: time.Since(begun), cpu: selfCPU() - used}, <-failed
}

func readPages(ctx context.Context, conn *pgx.Conn, pages chan<- [][]any) error {
	for last := int64(0); ; {
		rows, err := conn.Query(ctx, "SELECT * FROM orders WHERE id > $1 ORDER BY id LIMIT $2", last, loopPage)
		if err != nil {
			return err
		}
		page, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]any, error) { return r.Values() })
		if err != nil || len(page) == 0 {
			return err
		}
		last = page[len(page)-1][0].(int64)
		select {
		case pages <- page:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func fieldNames(ctx context.Context, conn *pgx.Conn) []string {
	rows, _ := conn.Query(ctx, "SELECT * FROM "+plainTable+" LIMIT 0")
	defer rows.Close() // an error shows again in the COPY
	var names []string
	for _, f := range rows.FieldDescriptions() {
		names = append(names, f.Name)
	}
	return names
}

func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
