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

const opening = `# Performance

Written by %s on %s: %d rows × 10 columns, %.0f bytes a row as text; %d rounds, in each of
which everything runs once; %d cores (%s/%s), %s, PostgreSQL %s. Both databases, hub, agent and peers share
this one machine. **Absolute figures are noise: only ratios within this run count.**

## Rows from PostgreSQL to PostgreSQL

Ropeway: keyset read at the agent → tunnel (mTLS) → hub queue (sealed, synced before it is acknowledged)
→ import by the hub, four pages at a time, exactly once. The peers keep nothing, the pipe is one transaction.
CPU is that of the carrier, without the database server. After each run the rows were compared by
count and checksum.

| carrier | rows/s, best | median | × COPY pipe | CPU-s per M rows (hub + agent) | peak RSS, hub / agent |
|---|---|---|---|---|---|
`

// markdown is the report. Each figure in it was measured in this run, but for
// the limits.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, opening, "`make bench`", r.begun.UTC().Format("2006-01-02"), r.rows, r.rowBytes, r.rounds,
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), r.postgres)
	for _, c := range []carrier{copyPipe, pgxLoop, ropewayPlain, ropewaySteps} {
		rates := r.of(c, cost.rate)
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.2f | %.1f%s |\n", c, slices.Max(rates), median(rates), r.ratio(c),
			median(r.of(c, cost.cpuPerMillion)), r.parts(c))
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
	b.WriteString("\n## Goals\n\nJudged by medians.\n\n| what | wanted | measured | |\n|---|---|---|---|\n")
	r.goals(&b)
	return b.String()
}

// parts are the last cells of a row: CPU and memory of hub and agent.
func (r *report) parts(c carrier) string {
	hub := median(r.of(c, cost.hubPerMillion))
	if hub == 0 {
		return " | –"
	}
	var rss [2]int64
	for _, x := range r.costs[c] {
		rss[0], rss[1] = max(rss[0], x.rss[0]), max(rss[1], x.rss[1])
	}
	agent := median(r.of(c, cost.cpuPerMillion)) - hub
	return fmt.Sprintf(" (%.1f + %.1f) | %d / %d MB", hub, agent, rss[0]>>20, rss[1]>>20)
}

func (r *report) goals(b *strings.Builder) {
	row := func(what, sign string, limit, got float64, met bool) {
		verdict := map[bool]string{true: "met", false: "not met"}[met]
		fmt.Fprintf(b, "| %s | %s %g | %.2f | %s |\n", what, sign, limit, got, verdict)
	}
	atLeast := func(what string, limit, got float64) { row(what, "≥", limit, got, got >= limit) }
	atMost := func(what string, limit, got float64) { row(what, "≤", limit, got, got <= limit) }
	ratio, cpu := r.ratio(ropewayPlain), median(r.of(ropewayPlain, cost.cpuPerMillion))
	in := median(r.buffer["Put64KiB/put/16"])
	atLeast("P1 gate: rows/s against the COPY pipe", 0.2, ratio)
	atMost("P1 gate: CPU-s per M rows", 14, cpu)
	atLeast("P1 goal: rows/s against the COPY pipe", 0.45, ratio)
	atMost("P1 goal: CPU-s per M rows", 9, cpu)
	atLeast("P2 goal: thousand rows/s", 60, median(r.of(ropewaySteps, cost.rate))/1000)
	atLeast("P11 goal: into the buffer against append+fdatasync", 0.65, in/median(r.buffer["Put64KiB/append+fdatasync"]))
	atLeast("P11 goal: out of the buffer against in", 1, median(r.buffer["Put64KiB/next"])/in)
	atLeast("P15 goal: encode, MB/s", 1000, median(r.codec["Encode"]))
	atLeast("P15 goal: decode, MB/s", 500, median(r.codec["Decode"]))
}

func (r *report) ratio(c carrier) float64 {
	return median(r.of(c, cost.rate)) / median(r.of(copyPipe, cost.rate))
}

func (r *report) of(c carrier, measure func(c cost, rows int) float64) (out []float64) {
	for _, x := range r.costs[c] {
		out = append(out, measure(x, r.rows))
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
