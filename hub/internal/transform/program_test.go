package transform

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func runSteps(t testing.TB, in []byte, steps ...model.Step) Out {
	t.Helper()
	p, err := Compile(steps, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), In{Header: header(), Payload: in})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDelivery_7_CountsClose: what goes into a step comes out, is filtered or is
// parked, and origins say which source record each result is.
func TestDelivery_7_CountsClose(t *testing.T) {
	shape := page.NewShape("id", "v")
	var records []page.Record
	for i := range 10 {
		v := page.Int(int64(i))
		if i == 4 {
			v = page.String("four")
		}
		records = append(records, page.NewRecord(shape, page.Int(int64(i)), v))
	}
	out := runSteps(t, payload(t, records...),
		model.Step{Name: "filter-1", Filter: "record.id % 2 == 0"},
		model.Step{Name: "map-1", Map: model.Assignments{{Field: "id", Expr: "record.id"}, {Field: "twice", Expr: "record.v * 2"}}})
	want := []model.StepCount{
		{Step: "filter-1", In: 10, Out: 5, Filtered: 5},
		{Step: "map-1", In: 5, Out: 4, Parked: 1},
	}
	if diff := cmp.Diff(want, out.Counts); diff != "" {
		t.Error(diff)
	}
	for _, c := range out.Counts {
		if c.Open() != 0 {
			t.Errorf("%s is open by %d", c.Step, c.Open())
		}
	}
	if len(out.Parked) != 1 {
		t.Fatalf("%d parked", len(out.Parked))
	}
	p := out.Parked[0]
	if p.Index != 4 || p.Origin.Index != 4 || p.Origin.Root != header().Name() || p.Step != "map-1" || p.Fault.Field != "twice" {
		t.Errorf("parked %+v", p)
	}
	back, err := page.ParseRecord(p.Record)
	if err != nil || !page.EqualRecords(back, records[4]) {
		t.Errorf("the parked record is %s, %v", p.Record, err)
	}
	d, err := page.NewDecoder(out.Payload)
	if err != nil {
		t.Fatal(err)
	}
	var indexes []uint32
	for d.Next() {
		indexes = append(indexes, d.Origin("").Index)
	}
	if diff := cmp.Diff([]uint32{0, 2, 6, 8}, indexes); diff != "" {
		t.Error(diff)
	}
}

// TestFilterKeepsBytes: a record that a filter keeps is the same in every kind,
// and so is a field that a map passes on.
func TestFilterKeepsBytes(t *testing.T) {
	in := sample(t)
	out := runSteps(t, payload(t, in), model.Step{Name: "filter-1", Filter: `record.status == "paid"`})
	records, err := page.DecodeAll(out.Payload)
	if err != nil || len(records) != 1 || !page.EqualRecords(records[0], in) {
		t.Fatalf("got %v, %v", records, err)
	}
	var all model.Assignments
	for _, name := range in.Shape.Names {
		all = append(all, model.Assignment{Field: name, Expr: "record." + name})
	}
	out = runSteps(t, payload(t, in), model.Step{Name: "map-1", Map: all})
	records, err = page.DecodeAll(out.Payload)
	if err != nil || len(records) != 1 || !page.EqualRecords(records[0], in) {
		t.Fatalf("got %v, %v", records, err)
	}
}

func TestSetChangesAndAdds(t *testing.T) {
	shape := page.NewShape("a", "b")
	out := runSteps(t, payload(t, page.NewRecord(shape, page.Int(1), page.Int(2))),
		model.Step{Name: "set-1", Set: model.Assignments{{Field: "b", Expr: "record.a + record.b"}, {Field: "c", Expr: "record.b"}}})
	records, err := page.DecodeAll(out.Payload)
	if err != nil {
		t.Fatal(err)
	}
	want := page.NewRecord(page.NewShape("a", "b", "c"), page.Int(1), page.Int(3), page.Int(2))
	if !page.EqualRecords(records[0], want) {
		t.Errorf("got %s", records[0].AppendJSON(nil))
	}
}

func TestMixedShapesInOnePage(t *testing.T) {
	out := runSteps(t, payload(t,
		page.NewRecord(page.NewShape("a", "b"), page.Int(1), page.Int(2)),
		page.NewRecord(page.NewShape("b", "a"), page.Int(20), page.Int(10)),
		page.NewRecord(page.NewShape("b"), page.Int(7))),
		model.Step{Name: "map-1", Map: model.Assignments{{Field: "x", Expr: "record.a * 1"}, {Field: "y", Expr: "record.b"}}})
	if out.Records != 2 || len(out.Parked) != 1 || out.Parked[0].Index != 2 {
		t.Errorf("%d records, parked %+v", out.Records, out.Parked)
	}
}

func TestFilterMustSayYesOrNo(t *testing.T) {
	out := runSteps(t, payload(t, sample(t)), model.Step{Name: "f", Filter: "record.none"})
	if len(out.Parked) != 1 || out.Parked[0].Fault.Class != fault.Value {
		t.Errorf("got %+v", out.Parked)
	}
}

func TestRecordTooLargeIsParked(t *testing.T) {
	out := runSteps(t, payload(t, sample(t)), model.Step{Name: "map-1",
		Map: model.Assignments{{Field: "x", Expr: `repeat("a", 3900000)`}}})
	if len(out.Parked) != 1 || out.Parked[0].Fault.Class != fault.TooLarge || out.Counts[0].Open() != 0 {
		t.Errorf("got %+v %+v", out.Parked, out.Counts)
	}
}

func TestNoStepsHandThrough(t *testing.T) {
	in := payload(t, sample(t))
	out := runSteps(t, in)
	if string(out.Payload) != string(in) || out.Records != 1 {
		t.Error("the page changed")
	}
}

func TestEmptyPage(t *testing.T) {
	out := runSteps(t, payload(t), model.Step{Name: "f", Filter: "true"})
	if out.Records != 0 || out.Payload == nil {
		t.Errorf("got %+v", out)
	}
}

func TestContextEndsARun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, err := Compile([]model.Step{{Name: "f", Filter: "true"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(ctx, In{Header: header(), Payload: payload(t, sample(t))}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBrokenPayloadIsRefused(t *testing.T) {
	p, err := Compile([]model.Step{{Name: "f", Filter: "true"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(context.Background(), In{Header: header(), Payload: []byte("nonsense")}); err == nil {
		t.Error("accepted")
	}
}

func TestCheckNamesEveryBadExpression(t *testing.T) {
	f := &model.Flow{Steps: []model.Step{
		{Name: "filter-1", Filter: "nope"},
		{Name: "map-1", Map: model.Assignments{{Field: "ok", Expr: "1"}, {Field: "bad", Expr: "1 +"}, {Field: "worse", Expr: "f()"}}},
		{Name: "load", Import: &model.Import{}},
	}}
	var fields []string
	for _, err := range Check(f, nil) {
		fields = append(fields, fault.From(err).Field)
	}
	if diff := cmp.Diff([]string{"filter-1.filter", "map-1.map.bad", "map-1.map.worse"}, fields); diff != "" {
		t.Error(diff)
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"record.a + 1", "map(1..9, # * record.a)", "let x = 1; x", "a?.b[1:2]", `{"a": 1}["a"]`, "1.5 ** 2 ?? nil"} {
		f.Add(s)
	}
	in := payload(f, sample(f))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile([]model.Step{{Name: "s", Map: model.Assignments{{Field: "x", Expr: text}}}}, nil)
		if err != nil {
			return
		}
		first, err := p.Run(context.Background(), In{Header: header(), Payload: in})
		if err != nil {
			t.Fatal(err)
		}
		second, err := p.Run(context.Background(), In{Header: header(), Payload: in})
		if err != nil || string(first.Payload) != string(second.Payload) {
			t.Fatalf("not repeatable: %v", err)
		}
	})
}

// BenchmarkP2 runs filter + map of 10 columns: goal 60,000 rows/s a core.
func BenchmarkP2(b *testing.B) {
	shape := page.NewShape("id", "customer_id", "status", "total", "tax", "currency", "created_at", "updated_at", "note", "country")
	var records []page.Record
	for i := range 5000 {
		status := "paid"
		if i%10 == 0 {
			status = "open"
		}
		records = append(records, page.NewRecord(shape, page.Int(int64(i)), page.Int(int64(i*7)), page.String(status),
			page.Decimal(false, uint64(i)*101, -2), page.Decimal(false, uint64(i)*19, -2), page.String("EUR"),
			page.Timestamp(1700000000000000+int64(i), 0), page.Timestamp(1700000000000000+int64(i), 0),
			page.String("a note of forty characters, more or less"), page.String("de")))
	}
	in := payload(b, records...)
	p, err := Compile([]model.Step{
		{Name: "filter-1", Filter: `record.status == "paid"`},
		{Name: "map-1", Map: model.Assignments{{Field: "id", Expr: "record.id"}, {Field: "customer", Expr: "record.customer_id"},
			{Field: "status", Expr: "upper(record.status)"}, {Field: "total_cents", Expr: "int(record.total * 100)"},
			{Field: "gross", Expr: "record.total + record.tax"}, {Field: "currency", Expr: "record.currency"},
			{Field: "created_at", Expr: "record.created_at"}, {Field: "updated_at", Expr: "record.updated_at"},
			{Field: "note", Expr: "record.note"}, {Field: "country", Expr: "record.country"}}}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Run(context.Background(), In{Header: header(), Payload: in}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "rows/s")
}
