// Command bench measures Ropeway beside its peers in one run on one machine, as
// `make bench`: rows from PostgreSQL to PostgreSQL (P1, P2), the agent's buffer
// (P11) and the page codec (P15). It knows the programs as a user does, and the
// Go benchmarks of two packages; it judges rows by its own SQL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"ropeway/tests/rig"
)

const usage = `usage: make bench, or after make build: go run ./tests/bench [flags]

Carries rows from PostgreSQL to PostgreSQL with Ropeway, a binary psql COPY pipe and
a pgx keyset+COPY loop in turn, then measures the agent's buffer and the page codec.
Prints a report and writes it in Markdown. Fails when a run fails or rows differ at
the ends; a goal that is missed is only told. BENCH_ROWS says how many rows
(1000000); databases and state are in TMPDIR, so put it on the disk that counts.

`

// settings are what flags and environment choose.
type settings struct {
	rows, rounds int
	bins, report string
}

func readSettings() (settings, error) {
	s := settings{rows: 1_000_000}
	if text := os.Getenv("BENCH_ROWS"); text != "" {
		var err error
		if s.rows, err = strconv.Atoi(text); err != nil || s.rows < 1000 {
			return s, fmt.Errorf("BENCH_ROWS=%s: write a number from 1000", text)
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage); flags.PrintDefaults() }
	flags.IntVar(&s.rounds, "rounds", 2, "how often everything runs, in turn")
	flags.StringVar(&s.bins, "bin", "bin", "`folder` of the built programs")
	flags.StringVar(&s.report, "report", filepath.Join("docs", "performance.md"), "`file` to write")
	err := flags.Parse(os.Args[1:])
	if err == nil && (flags.NArg() > 0 || s.rounds < 1) {
		err = errors.New("see --help")
	}
	return s, err
}

func main() {
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	r := &report{settings: s, begun: time.Now(), costs: map[carrier][]cost{}}
	if err := r.carryRows(ctx); err != nil {
		return err
	}
	say("measuring the agent's buffer and the page codec")
	if r.buffer, err = benchmarks(ctx, "ropeway/agent/internal/buffer", "Put64KiB"); err != nil {
		return err
	}
	if r.codec, err = benchmarks(ctx, "ropeway/protocol/page", "Encode$|Decode$"); err != nil {
		return err
	}
	text := r.markdown()
	fmt.Print("\n", text)
	return os.WriteFile(s.report, []byte(text), 0o644)
}

// carryRows runs P1, P2 and their peers in turn.
func (r *report) carryRows(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "ropeway-bench-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o711) // the server may run as another user
	}
	if err != nil {
		return err
	}
	say("starting PostgreSQL and filling in %d rows", r.rows)
	e, err := openEnds(ctx, filepath.Join(dir, "postgres"), r.rows)
	if err != nil {
		return err
	}
	defer e.close()
	r.rowBytes, r.postgres = e.rowBytes, e.version
	say("starting hub and agent")
	site, err := startSite(ctx, rig.At(r.bins), filepath.Join(dir, "site"), e)
	if err != nil {
		return err
	}
	defer site.Close()
	if _, err := runCopyPipe(ctx, e); err != nil { // warms the caches up
		return err
	}
	for range r.rounds {
		for _, c := range []struct {
			carrier
			target string
			run    func(context.Context, *ends) (cost, error)
		}{
			{copyPipe, "orders", runCopyPipe},
			{pgxLoop, "orders", runPgxLoop},
			{ropewayPlain, "orders", site.plain},
			{ropewaySteps, "paid_orders", site.steps},
		} {
			cost, err := e.measure(ctx, c.target, c.run)
			if err != nil {
				return fmt.Errorf("%s: %w", c.carrier, err)
			}
			say("%-36s %8.0f rows/s %6.2f CPU-s per M rows", c.carrier, cost.rate(r.rows), cost.cpuPerMillion(r.rows))
			r.costs[c.carrier] = append(r.costs[c.carrier], cost)
		}
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("▸ "+format+"\n", args...) }
