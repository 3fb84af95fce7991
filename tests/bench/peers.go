package main

import (
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
	hubCPU    time.Duration // of cpu
	rss       [2]int64      // peak of hub and agent, bytes
}

func (c cost) rate(rows int) float64          { return float64(rows) / c.wall.Seconds() }
func (c cost) cpuPerMillion(rows int) float64 { return c.cpu.Seconds() * 1e6 / float64(rows) }
func (c cost) hubPerMillion(rows int) float64 { return c.hubCPU.Seconds() * 1e6 / float64(rows) }

// runCopyPipe is the fastest a user gets with what PostgreSQL brings. It is one
// transaction and cannot resume.
func runCopyPipe(ctx context.Context, e *ends) (cost, error) {
	const script = `set -o pipefail
psql -Xqd erp -c 'COPY orders TO STDOUT (FORMAT binary)' | psql -Xqd warehouse -c 'COPY orders FROM STDIN (FORMAT binary)'`
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Env = append(os.Environ(), "PGHOST="+e.pg.Host, "PGPORT="+strconv.Itoa(e.pg.Port), "PGUSER="+e.pg.User,
		"PGPASSWORD="+e.pg.Password, "PGSSLMODE=disable")
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return cost{}, fmt.Errorf("psql: %w: %s", err, out)
	}
	p := cmd.ProcessState // includes what bash waited for
	return cost{wall: time.Since(begun), cpu: p.UserTime() + p.SystemTime()}, nil
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
	for rows := range pages {
		if _, err := e.target.CopyFrom(ctx, pgx.Identifier{"orders"}, columns, pgx.CopyFromRows(rows)); err != nil {
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
		list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]any, error) { return r.Values() })
		if err != nil || len(list) == 0 {
			return err
		}
		last = list[len(list)-1][0].(int64)
		select {
		case pages <- list:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
