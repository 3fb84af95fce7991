package mysql_test

import (
	"context"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/mysql"
	"ropeway/connectors/request"
	"ropeway/protocol/page"
)

// The benchmarks move rows of 10 columns and about 204 bytes, as those of
// PostgreSQL do: RW_BENCH_ROWS of them, 200,000 if it is not set.
const benchColumns = `id bigint, customer int, product int, quantity smallint, price decimal(12,2),
	total decimal(14,2), status varchar(20), note varchar(200), created datetime, paid boolean`

func benchDatabase(b *testing.B) (database, int) {
	rows, err := strconv.Atoi(os.Getenv("RW_BENCH_ROWS"))
	if err != nil {
		rows = 200_000
	}
	d := newDatabase(b)
	d.exec(b, "CREATE TABLE source ("+benchColumns+", PRIMARY KEY (id))")
	d.exec(b, `INSERT INTO source SELECT seq, seq % 50000, seq % 1000, seq % 90 + 1, (seq % 10000) / 100.0,
		(seq % 1000000) / 100.0, elt(seq % 4 + 1, 'new', 'paid', 'shipped', 'closed'),
		repeat(md5(seq), 4), '2024-01-01' + INTERVAL seq SECOND, seq % 3 = 0
		FROM seq_1_to_`+strconv.Itoa(rows))
	d.exec(b, "ANALYZE TABLE source")
	d.exec(b, "CREATE TABLE target ("+benchColumns+")")
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
		Type: mysql.Type(), Conn: c, Epoch: page.NewEpoch(),
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
	c := d.must(b, nil)
	before := cpu(b)
	b.ResetTimer()
	for range b.N {
		export(b, c, func(context.Context, *page.Page) error { return nil })
	}
	report(b, rows)
	b.ReportMetric((cpu(b)-before)/float64(b.N)/float64(rows)*1e6, "cpu-s/Mrows")
}

func BenchmarkImport(b *testing.B) { benchmarkImport(b, connectors.ImportSpec{Table: "target"}) }

func BenchmarkImportUpsert(b *testing.B) {
	benchmarkImport(b, connectors.ImportSpec{Table: "target", Mode: "upsert", Key: []string{"id"}})
}

func BenchmarkImportUpdate(b *testing.B) {
	benchmarkImport(b, connectors.ImportSpec{Table: "target", Mode: "update", Key: []string{"id"}})
}

func benchmarkImport(b *testing.B, spec connectors.ImportSpec) {
	d, rows := benchDatabase(b)
	if spec.Mode != "" {
		d.exec(b, "ALTER TABLE target ADD PRIMARY KEY (id)")
	}
	c := d.must(b, nil)
	used := 0.0
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		d.exec(b, "TRUNCATE target")
		if spec.Mode == connectors.Update {
			d.exec(b, "INSERT INTO target (id) SELECT id FROM source")
		}
		var pages []*page.Page
		export(b, c, func(_ context.Context, p *page.Page) error {
			pages = append(pages, p)
			return nil
		})
		load := request.Import{Type: mysql.Type(), Conn: c, Spec: spec, Step: "load"}
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
