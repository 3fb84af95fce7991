package postgres_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/postgres"
	"ropeway/connectors/request"
	"ropeway/protocol/page"
)

// The benchmarks move rows of 10 columns and about 204 bytes (PERFORMANCE P1):
// RW_BENCH_ROWS of them, 200,000 if it is not set. Compare rows/s with those of
// psql's binary COPY in the same run.
const benchColumns = `id bigint, customer int, product int, quantity smallint, price numeric(12,2),
	total numeric(14,2), status text, note text, created timestamptz, paid boolean`

func benchRows(b *testing.B) int {
	rows, err := strconv.Atoi(os.Getenv("RW_BENCH_ROWS"))
	if err != nil {
		return 200_000
	}
	return rows
}

func benchDatabase(b *testing.B) (database, int) {
	d, rows := newDatabase(b), benchRows(b)
	d.exec(b, "CREATE TABLE source ("+benchColumns+", PRIMARY KEY (id))")
	d.exec(b, `INSERT INTO source SELECT i, i % 50000, i % 1000, i % 90 + 1, (i % 10000) / 100.0,
		(i % 1000000) / 100.0, (ARRAY['new','paid','shipped','closed'])[i % 4 + 1],
		repeat(md5(i::text), 4), '2024-01-01'::timestamptz + i * interval '1 second', i % 3 = 0
		FROM generate_series(1, `+strconv.Itoa(rows)+`) i`)
	d.exec(b, "VACUUM ANALYZE source")
	d.exec(b, "CREATE TABLE target ("+benchColumns+")")
	d.exec(b, "CHECKPOINT")
	return d, rows
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) float64 {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano()).Seconds()
}

func report(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(0, "ns/op")
}

// export reads the whole source, keyset after keyset.
func export(b *testing.B, c connectors.Conn, send func(context.Context, *page.Page) error) {
	r := request.Read{
		Type: postgres.Type(), Conn: c, Epoch: page.NewEpoch(),
		Query:  connectors.Query{Table: "source", Key: []string{"id"}},
		Header: page.Header{Chain: page.Chain{Job: page.NewID(), Step: "export"}},
	}
	for {
		end, err := r.Run(b.Context(), send)
		if err != nil {
			b.Fatal(err)
		}
		if end.Exhausted {
			return
		}
		r.Cursor, r.Seq, r.Prev, r.Pages, r.Records = end.Cursor, end.Seq, end.Prev, end.Pages, end.Records
	}
}

func BenchmarkRead(b *testing.B) {
	d, rows := benchDatabase(b)
	c, err := d.open(b, nil)
	if err != nil {
		b.Fatal(err)
	}
	bytes, before := 0, cpu(b)
	b.ResetTimer()
	for range b.N {
		export(b, c, func(_ context.Context, p *page.Page) error {
			bytes += int(p.Header.PayloadSize)
			return nil
		})
	}
	report(b, rows)
	b.ReportMetric(float64(bytes)/float64(b.N)/float64(rows), "B/row")
	b.ReportMetric((cpu(b)-before)/float64(b.N)/float64(rows)*1e6, "cpu-s/Mrows")
}

func BenchmarkReadPsqlCopy(b *testing.B) {
	d, rows := benchDatabase(b)
	b.ResetTimer()
	for range b.N {
		d.psql(b, "COPY source TO STDOUT (FORMAT binary)", nil, io.Discard)
	}
	report(b, rows)
}

func BenchmarkImport(b *testing.B) { benchmarkImport(b, connectors.ImportSpec{Table: "target"}) }

func BenchmarkImportUpsert(b *testing.B) {
	benchmarkImport(b, connectors.ImportSpec{Table: "target", Mode: "upsert", Key: []string{"id"}})
}

func benchmarkImport(b *testing.B, spec connectors.ImportSpec) {
	d, rows := benchDatabase(b)
	if spec.Mode == connectors.Upsert {
		d.exec(b, "ALTER TABLE target ADD PRIMARY KEY (id)")
	}
	c, err := d.open(b, nil)
	if err != nil {
		b.Fatal(err)
	}
	used := 0.0
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		d.exec(b, "TRUNCATE target")
		var pages []*page.Page
		export(b, c, func(_ context.Context, p *page.Page) error {
			pages = append(pages, p)
			return nil
		})
		load := request.Import{Type: postgres.Type(), Conn: c, Spec: spec, Step: "load"}
		used -= cpu(b)
		b.StartTimer()
		for _, p := range pages {
			if a, err := load.Run(b.Context(), p); err != nil || len(a.Failed) > 0 {
				b.Fatal(a, err)
			}
		}
		used += cpu(b)
	}
	report(b, rows)
	b.ReportMetric(used/float64(b.N)/float64(rows)*1e6, "cpu-s/Mrows")
}

func BenchmarkImportPsqlCopy(b *testing.B) {
	d, rows := benchDatabase(b)
	file, err := os.Create(b.TempDir() + "/rows")
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	d.psql(b, "COPY source TO STDOUT (FORMAT binary)", nil, file)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		d.exec(b, "TRUNCATE target")
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		d.psql(b, "COPY target FROM STDIN (FORMAT binary)", file, io.Discard)
	}
	report(b, rows)
}

func (d database) psql(b *testing.B, sql string, in io.Reader, out io.Writer) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "psql", "-X", "-q", "-d", d.server.DSN(d.name), "-c", sql)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
}
