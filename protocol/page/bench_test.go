package page_test

import (
	"fmt"
	"testing"

	"ropeway/protocol/page"
)

// benchRow is the row of PERFORMANCE P1: ten columns, about 204 bytes of text.
type benchRow struct {
	id             int64
	name, email    string
	city, note     string
	active         bool
	cents          uint64
	score          float64
	born           int32
	changed        int64
	amountNegative bool
}

var benchShape = page.NewShape("id", "name", "email", "city", "note", "active", "amount",
	"score", "born", "changed_at")

func benchRows(n int) []benchRow {
	rows := make([]benchRow, n)
	for i := range rows {
		rows[i] = benchRow{
			id: int64(1_000_000 + i*7), name: fmt.Sprintf("Customer Number %d", i),
			email:  fmt.Sprintf("customer.%d@mail%d.example.com", i, i%97),
			city:   []string{"Hamburg", "München", "Graz", "Zürich", "Genova"}[i%5],
			note:   fmt.Sprintf("order %x shipped by courier, left with neighbour %d", i*7919, i%31),
			active: i%3 == 0, cents: uint64(i) * 1337 % 10_000_000, amountNegative: i%11 == 0,
			score: float64(i) * 0.37, born: int32(i % 20000), changed: 1_719_792_000_000_000 + int64(i)*1_234_567,
		}
	}
	return rows
}

func (r *benchRow) encode(e *page.Encoder) {
	e.Begin(benchShape)
	e.Int64(r.id)
	e.String(r.name)
	e.String(r.email)
	e.String(r.city)
	e.String(r.note)
	e.Bool(r.active)
	e.Decimal(r.amountNegative, r.cents, -2)
	e.Float64(r.score)
	e.Date(r.born)
	e.Timestamp(r.changed, 0)
}

// benchPayload gives rows, their payload and the size of their plain JSON.
func benchPayload(tb testing.TB, n int) ([]benchRow, []byte, int64) {
	rows := benchRows(n)
	e := page.NewEncoder()
	size := int64(0)
	for i := range rows {
		rows[i].encode(e)
		if err := e.End(); err != nil {
			tb.Fatal(err)
		}
		size += int64(len(rows[i].plainJSON()))
	}
	return rows, append([]byte(nil), e.Finish(nil)...), size
}

// plainJSON is the row as an ordinary program would write it.
func (r *benchRow) plainJSON() string {
	sign := ""
	if r.amountNegative {
		sign = "-"
	}
	return fmt.Sprintf(`{"id":%d,"name":%q,"email":%q,"city":"%s","note":%q,"active":%v,"amount":%s%d.%02d,`+
		`"score":%v,"born":%q,"changed_at":%q}`, r.id, r.name, r.email, r.city, r.note, r.active,
		sign, r.cents/100, r.cents%100, r.score, page.Date(r.born), page.Timestamp(r.changed, 0))
}

func BenchmarkEncode(b *testing.B) {
	rows, payload, size := benchPayload(b, 5000)
	e := page.NewEncoder()
	b.SetBytes(size)
	b.ReportMetric(float64(len(payload))/float64(len(rows)), "B/record")
	b.ReportAllocs()
	for b.Loop() {
		e.Reset()
		for i := range rows {
			rows[i].encode(e)
			if err := e.End(); err != nil {
				b.Fatal(err)
			}
		}
		e.Finish(nil)
	}
}

func BenchmarkDecode(b *testing.B) {
	_, payload, size := benchPayload(b, 5000)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		d, err := page.NewDecoder(payload)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for d.Next() {
			n += len(d.Record().Values)
		}
		if d.Err() != nil || n != 50000 {
			b.Fatal(n, d.Err())
		}
	}
}

func BenchmarkRaw(b *testing.B) {
	_, payload, size := benchPayload(b, 5000)
	e := page.NewEncoder()
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		e.Reset()
		d, err := page.NewDecoder(payload)
		if err != nil {
			b.Fatal(err)
		}
		for d.Next() {
			if err := e.Raw(d); err != nil {
				b.Fatal(err)
			}
		}
		e.Finish(nil)
	}
}

func BenchmarkCompress(b *testing.B) {
	_, payload, size := benchPayload(b, 5000)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		page.Compress(payload)
	}
	b.ReportMetric(float64(len(payload))/float64(len(page.Compress(payload))), "ratio")
}

func BenchmarkOpen(b *testing.B) {
	_, payload, size := benchPayload(b, 5000)
	p := page.New(page.Header{}, payload, 5000)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Open(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	_, payload, size := benchPayload(b, 5000)
	b.SetBytes(size)
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		d, err := page.NewDecoder(payload)
		if err != nil {
			b.Fatal(err)
		}
		for d.Next() {
			out = d.Record().AppendJSON(out[:0])
		}
	}
}

func TestFastPathDoesNotAllocatePerRecord(t *testing.T) {
	rows, payload, _ := benchPayload(t, 2000)
	e := page.NewEncoder()
	encode := testing.AllocsPerRun(10, func() {
		e.Reset()
		for i := range rows {
			rows[i].encode(e)
			_ = e.End()
		}
		e.Finish(nil)
	})
	decode := testing.AllocsPerRun(10, func() {
		d, _ := page.NewDecoder(payload)
		for d.Next() {
			_ = d.Record()
		}
	})
	if encode > 40 || decode > 40 {
		t.Errorf("allocations per page of %d records: encode %v, decode %v", len(rows), encode, decode)
	}
}
