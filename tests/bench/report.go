package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// carrier is a way to bring the rows over, as the report names it.
type carrier string

const (
	copyPipe     carrier = "psql COPY pipe, binary"
	pgxLoop      carrier = "pgx keyset+COPY, 5,000-row pages"
	ropewayPlain carrier = "Ropeway (P1)"
	ropewaySteps carrier = "Ropeway, filter + map + upsert (P2)"
)

// report is what one run measured.
type report struct {
	settings
	begun         time.Time
	postgres      string
	rowBytes      float64
	costs         map[carrier][]cost
	buffer, codec speeds
}

// markdown is the report. Each figure in it was measured in this run, but for
// the limits.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Performance

Written by `+"`make bench`"+` on %s: %d rows × 10 columns, %.0f bytes a row as text; %d rounds, in each
of which everything runs once; %d cores (%s/%s), %s, PostgreSQL %s. Both databases, hub, agent and peers
share this one machine. **Absolute figures are noise: only ratios within this run count.**

## Rows from PostgreSQL to PostgreSQL

Ropeway: keyset read at the agent → tunnel (mTLS) → hub queue (sealed, synced before it is acknowledged)
→ import by the hub, exactly once. The peers keep nothing on the way, and the pipe is one transaction.
CPU is that of the carrier, without the database server. After each run the rows were compared by
count and checksum.

| carrier | rows/s, best | median | × COPY pipe | CPU-s per M rows (hub + agent) | peak RSS, hub / agent |
|---|---|---|---|---|---|
`, r.begun.UTC().Format("2006-01-02"), r.rows, r.rowBytes, r.rounds, runtime.NumCPU(), runtime.GOOS,
		runtime.GOARCH, runtime.Version(), r.postgres)
	for _, c := range []carrier{copyPipe, pgxLoop, ropewayPlain, ropewaySteps} {
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.2f | %s | %s |\n", c,
			slices.Max(r.rates(c)), median(r.rates(c)), r.ratio(c), r.cpuText(c), r.memoryText(c))
	}
	b.WriteString(`
## Buffer and codec

Medians. Buffer: 64 KiB pages, each durable before its put returns, beside plain appends with
fdatasync. Codec: one core, in bytes of the same rows as JSON.

| what | MB/s |
|---|---|
`)
	for _, s := range []speeds{r.buffer, r.codec} {
		for _, name := range s.names() {
			fmt.Fprintf(&b, "| %s | %.0f |\n", name, median(s[name]))
		}
	}
	b.WriteString("\n## Goals\n\n| what | wanted | measured | |\n|---|---|---|---|\n")
	for _, g := range r.goals() {
		fmt.Fprintf(&b, "| %s | %s %g | %.3g | %s |\n", g.what, g.sign(), g.limit, g.got, g.verdict())
	}
	return b.String()
}

// goal is a limit that a measured figure keeps or misses.
type goal struct {
	what       string
	limit, got float64
	atMost     bool
}

func (r *report) goals() []goal {
	in := median(r.buffer["Put64KiB/put/16"])
	ratio, cpu := r.ratio(ropewayPlain), median(r.cpu(ropewayPlain))
	return []goal{
		{"P1 gate: rows/s against the COPY pipe", 0.2, ratio, false},
		{"P1 gate: CPU-s per M rows", 14, cpu, true},
		{"P1 goal: rows/s against the COPY pipe", 0.45, ratio, false},
		{"P1 goal: CPU-s per M rows", 9, cpu, true},
		{"P2 goal: thousand rows/s", 60, median(r.rates(ropewaySteps)) / 1000, false},
		{"P11 goal: into the buffer against append+fdatasync", 0.65, in / median(r.buffer["Put64KiB/append+fdatasync"]), false},
		{"P11 goal: out of the buffer against in", 1, median(r.buffer["Put64KiB/next"]) / in, false},
		{"P15 goal: encode, MB/s", 1000, median(r.codec["Encode"]), false},
		{"P15 goal: decode, MB/s", 500, median(r.codec["Decode"]), false},
	}
}

func (g goal) sign() string {
	if g.atMost {
		return "≤"
	}
	return "≥"
}

func (g goal) verdict() string {
	if g.atMost && g.got <= g.limit || !g.atMost && g.got >= g.limit {
		return "met"
	}
	return "not met"
}

func (r *report) rates(c carrier) []float64 {
	return over(r.costs[c], func(c cost) float64 { return c.rate(r.rows) })
}

func (r *report) cpu(c carrier) []float64 {
	return over(r.costs[c], func(c cost) float64 { return c.cpuPerMillion(r.rows) })
}

func (r *report) ratio(c carrier) float64 { return median(r.rates(c)) / median(r.rates(copyPipe)) }

func (r *report) cpuText(c carrier) string {
	total := median(r.cpu(c))
	hub := median(over(r.costs[c], func(c cost) float64 { return c.hubCPU.Seconds() * 1e6 / float64(r.rows) }))
	if hub == 0 {
		return fmt.Sprintf("%.1f", total)
	}
	return fmt.Sprintf("%.1f (%.1f + %.1f)", total, hub, total-hub)
}

func (r *report) memoryText(c carrier) string {
	var most [2]int64
	for _, c := range r.costs[c] {
		most[0], most[1] = max(most[0], c.rss[0]), max(most[1], c.rss[1])
	}
	if most[0] == 0 {
		return "–"
	}
	return fmt.Sprintf("%d / %d MB", most[0]>>20, most[1]>>20)
}

func over[T any](list []T, measure func(T) float64) []float64 {
	out := make([]float64, len(list))
	for i, x := range list {
		out[i] = measure(x)
	}
	return out
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
