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

const usage = `usage: make bench, or after make build: go run ./tests/bench [--report FILE]

Measures PostgreSQL → agent → tunnel → durable sealed queue → PostgreSQL beside a
binary psql COPY pipe and a pgx keyset+COPY loop, alternating, then the agent's
buffer and the page codec. Prints a table and writes the report in Markdown.
Fails when a run fails or rows differ at the ends; a missed goal is only told.

environment:
  BENCH_ROWS=1000000   rows to carry, from 1000
  BENCH_ROUNDS=2       rounds, in each of which everything runs once
  BENCH_DIR=           folder for databases and state; put it on the disk that counts
  BENCH_BIN=bin        folder of the built programs
`

func main() {
	err := run()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what flags and environment choose.
type settings struct {
	rows, rounds int
	dir, bins    string
	report       string
}

func readSettings() (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() { fmt.Print(usage) }
	flags.StringVar(&s.report, "report", filepath.Join("docs", "performance.md"), "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected %q\n%s", flags.Arg(0), usage)
	}
	var err1, err2, err3 error
	s.rows, err1 = number("BENCH_ROWS", 1_000_000, 1000, 100_000_000)
	s.rounds, err2 = number("BENCH_ROUNDS", 2, 1, 20)
	bins := os.Getenv("BENCH_BIN")
	if bins == "" {
		bins = "bin"
	}
	s.bins, err3 = filepath.Abs(bins)
	s.dir = os.Getenv("BENCH_DIR")
	return s, errors.Join(err1, err2, err3)
}

func number(name string, otherwise, least, most int) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s=%s: write a number from %d to %d", name, text, least, most)
	}
	return n, nil
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
	r := newReport(s)
	if err := s.carryRows(ctx, r); err != nil {
		return err
	}
	say("P11: the agent's buffer beside append+fdatasync")
	if r.buffer, err = benchmarks(ctx, "./agent/internal/buffer", "Put64KiB", 3); err != nil {
		return err
	}
	say("P15: the page codec")
	if r.codec, err = benchmarks(ctx, "./protocol/page", "Encode$|Decode$", 3); err != nil {
		return err
	}
	text := r.markdown()
	fmt.Print("\n", text)
	return os.WriteFile(s.report, []byte(text), 0o644)
}

// carryRows runs P1, P2 and their peers in turn.
func (s settings) carryRows(ctx context.Context, r *report) error {
	dir, err := os.MkdirTemp(s.dir, "ropeway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say("starting PostgreSQL and filling %d rows", s.rows)
	e, err := openEnds(ctx, dir, s.rows)
	if err != nil {
		return err
	}
	defer e.close()
	r.rowBytes, r.postgres = e.rowBytes, e.version
	say("starting hub and agent")
	site, err := startSite(ctx, rig.At(s.bins), filepath.Join(dir, "site"), e)
	if err != nil {
		return err
	}
	defer site.Close()
	for round := range s.rounds {
		for _, c := range []struct {
			carrier
			target string
			run    func(context.Context, *ends) (cost, error)
		}{
			{copyPipe, plainTable, runCopyPipe},
			{pgxLoop, plainTable, runPgxLoop},
			{ropewayPlain, plainTable, site.plain},
			{ropewaySteps, stepsTable, site.steps},
		} {
			if err := e.clear(ctx, c.target); err != nil {
				return err
			}
			cost, err := c.run(ctx, e)
			if err == nil {
				err = e.compare(ctx, c.target)
			}
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, c.carrier, err)
			}
			say("round %d  %-38s %8.0f rows/s  %6.2f CPU-s per M rows", round+1, c.carrier,
				cost.rate(s.rows), cost.cpuPerMillion(s.rows))
			r.costs[c.carrier] = append(r.costs[c.carrier], cost)
		}
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("▸ "+format+"\n", args...) }
