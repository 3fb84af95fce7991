package transform

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// dec is an exact decimal.
func dec(t testing.TB, text string) page.Value {
	t.Helper()
	v, err := page.DecimalFromString(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sample(t testing.TB) page.Record {
	shape := page.NewShape("id", "status", "total", "price", "big", "small32", "at", "day", "tags", "customer",
		"none", "uid", "doc", "max", "yes")
	uid, err := parseAs(page.KindUUID, "0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	return page.NewRecord(shape, page.Int(7), page.String("paid"), dec(t, "0.29"), page.Float(0.29),
		page.Uint(18446744073709551615), page.Float32(0.1), page.Timestamp(1700000000123456, 3600), page.Date(19000),
		page.Array([]page.Value{page.String("a"), dec(t, "1.50"), page.Int(3)}),
		page.Object(page.NewShape("name", "age"), []page.Value{page.String("Ann"), page.Int(30)}),
		page.Null(), uid, page.JSON([]byte(`{"a": {"b": 5}}`)), page.Int(9223372036854775807), page.Bool(true))
}

func header() *page.Header {
	return &page.Header{Version: 1, Chain: page.Chain{Job: page.ID{1}, Step: "export"}, Epoch: page.Epoch{2}, Seq: 3,
		Created: time.UnixMicro(1800000000000001).UTC()}
}

func payload(t testing.TB, records ...page.Record) []byte {
	t.Helper()
	e := page.NewEncoder()
	for _, r := range records {
		if err := e.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	b := e.Finish(nil)
	if b == nil {
		t.Fatal("no payload")
	}
	return b
}

// evaluate runs one expression over the sample as the field x of a map step.
func evaluate(t testing.TB, expr string) (page.Value, *fault.Error) {
	t.Helper()
	p, err := Compile([]model.Step{{Name: "map-1", Map: model.Assignments{{Field: "x", Expr: expr}}}},
		map[string]any{"factor": 3, "region": "eu"})
	if err != nil {
		return page.Value{}, fault.From(err)
	}
	out, err := p.Run(context.Background(), In{Header: header(), Payload: payload(t, sample(t))})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Parked) == 1 {
		return page.Value{}, out.Parked[0].Fault
	}
	records, err := page.DecodeAll(out.Payload)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	return records[0].Values[0], nil
}

func TestExpressions(t *testing.T) {
	tests := []struct {
		expr string
		want page.Value
	}{
		{"int(record.total * 100)", page.Int(29)},
		{"record.total * 100", dec(t, "29.00")},
		{"record.price * 100", page.Float(29)},
		{"int(record.price * 100)", page.Int(29)},
		{"0.1 + 0.2 == 0.3", page.Bool(true)},
		{"0.1 + 0.2", dec(t, "0.3")},
		{"1 / 4", dec(t, "0.25")},
		{"6 / 2", dec(t, "3")},
		{"200 / 2", dec(t, "100")},
		{"1 / 3", dec(t, "0."+strings.Repeat("3", 38))},
		{"7 % 3", page.Int(1)},
		{"-7 % 3", page.Int(-1)},
		{"2 ** 10", page.Int(1024)},
		{"record.id + 1", page.Int(8)},
		{"-record.id", page.Int(-7)},
		{"record.big", page.Uint(18446744073709551615)},
		{"record.big + 1", dec(t, "18446744073709551616")},
		{"record.big > record.max", page.Bool(true)},
		{"record.total < record.id", page.Bool(true)},
		{"record.total == 0.29", page.Bool(true)},
		{"record.total == 0.290", page.Bool(true)},
		{"1.10 * 1.10 == 1.21", page.Bool(true)},
		{`record.total * decimal("1e-30") > 0`, page.Bool(true)},
		{`decimal("12345678901234567890.123456789") + decimal("0.000000001")`, dec(t, "12345678901234567890.123456790")},
		{"round(2.5)", dec(t, "3")},
		{"round(record.total, 1)", dec(t, "0.3")},
		{"floor(-0.5)", dec(t, "-1")},
		{"ceil(record.total)", dec(t, "1")},
		{"abs(-3)", page.Int(3)},
		{"min(3, record.total, 5)", dec(t, "0.29")},
		{"max([1, 2, 3])", page.Int(3)},
		{"sum([0.1, 0.2, record.total])", dec(t, "0.59")},
		{"sum(record.tags, # == \"a\" ? 0 : #)", dec(t, "4.50")},
		{"sum(filter(record.tags, type(#) != \"string\"))", dec(t, "4.50")},
		{"int(\"12\") + int(3.99)", page.Int(15)},
		{"string(record.total) + \"/\" + string(record.id)", page.String("0.29/7")},
		{"string(record.uid)", page.String("01234567-89ab-cdef-0123-456789abcdef")},
		{`record.uid == "01234567-89ab-cdef-0123-456789abcdef"`, page.Bool(true)},
		{"record.status == \"paid\" and record.id > 3", page.Bool(true)},
		{"record.status in [\"paid\", \"open\"]", page.Bool(true)},
		{"record.total in [0.29, 1]", page.Bool(true)},
		{"record.id in 1..10", page.Bool(true)},
		{"\"name\" in record.customer", page.Bool(true)},
		{"not (\"nothing\" in record)", page.Bool(true)},
		{"record.customer.name", page.String("Ann")},
		{"upper(record.customer.name)", page.String("ANN")},
		{"record[\"status\"]", page.String("paid")},
		{"record.doc.a.b", page.Int(5)},
		{"record.doc.a.b + 1", page.Int(6)},
		{"record.tags[1]", dec(t, "1.50")},
		{"record.tags[-1]", page.Int(3)},
		{"len(record.tags)", page.Int(3)},
		{"record.none ?? 5", page.Int(5)},
		{"record?.nothing", page.Null()},
		{"record.nothing ?? \"x\"", page.String("x")},
		{"record.none?.deep.er ?? 1", page.Int(1)},
		{"record.yes ? record.at : nil", page.Timestamp(1700000000123456, 3600)},
		{"record.yes ? record.total : nil", dec(t, "0.29")},
		{"record.yes ? record.small32 : nil", page.Float32(0.1)},
		{"record.small32 * 10", page.Float(1)},
		{"record.at > \"2023-01-01T00:00:00Z\"", page.Bool(true)},
		{"date(record.at)", page.Date(19675)},
		{"record.day < date(\"2022-12-31\")", page.Bool(true)},
		{"now()", page.Timestamp(1800000000000001, 0)},
		{"vars.factor * 2", page.Int(6)},
		{"vars.region", page.String("eu")},
		{"let x = record.id; x * x", page.Int(49)},
		{"reduce(record.tags, type(#) == \"string\" ? #acc : #acc + #, 0)", dec(t, "4.50")},
		{"{b: 1, a: record.total}", page.Object(page.NewShape("a", "b"), []page.Value{dec(t, "0.29"), page.Int(1)})},
		{"map(1..3, # * 2)", page.Array([]page.Value{page.Int(2), page.Int(4), page.Int(6)})},
		{"sort([3, 1.5, 2])", page.Array([]page.Value{dec(t, "1.5"), page.Int(2), page.Int(3)})},
		{"join(sort(keys({b: 1, a: 2})), \",\")", page.String("a,b")},
		{"record.status matches \"^p.*d$\"", page.Bool(true)},
		{"record.status contains \"ai\"", page.Bool(true)},
		{"replace(record.status, \"p\", \"P\")", page.String("Paid")},
		{"split(\"a,b\", \",\")", page.Array([]page.Value{page.String("a"), page.String("b")})},
		{"fromJSON(\"{\\\"a\\\": 1}\").a", page.Int(1)},
		{"nil", page.Null()},
		{"true", page.Bool(true)},
		{"record.tags | len()", page.Int(3)},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			got, f := evaluate(t, tt.expr)
			if f != nil {
				t.Fatal(f)
			}
			if !page.Equal(got, tt.want) {
				t.Errorf("got %s %s, want %s %s", got.Kind(), got.AppendJSON(nil), tt.want.Kind(), tt.want.AppendJSON(nil))
			}
		})
	}
}

// TestBadExpressions: refused when compiled (E_EXPRESSION), or parking the
// record when it runs (E_EVALUATE); never a crash, never a wrong number.
func TestBadExpressions(t *testing.T) {
	tests := []struct{ expr, code, cause string }{
		{"record.", "E_EXPRESSION", "unexpected"},
		{"paid", "E_EXPRESSION", "text needs quotes"},
		{"recrod.id", "E_EXPRESSION", "did you mean record"},
		{"vars.nope", "E_EXPRESSION", "vars.nope"},
		{"vars", "E_EXPRESSION", "vars.NAME"},
		{"$env", "E_EXPRESSION", "unknown name"},
		{"$add(1, 2)", "E_EXPRESSION", "unknown function"},
		{"env(\"HOME\")", "E_EXPRESSION", "unknown function env"},
		{"roud(1)", "E_EXPRESSION", "did you mean round"},
		{"round()", "E_EXPRESSION", "takes 1 to 2"},
		{"record.at.String()", "E_EXPRESSION", "no methods"},
		{"median([1])", "E_EXPRESSION", "not available"},
		{"groupBy([1], #)", "E_EXPRESSION", "not available"},
		{"duration(\"1h\")", "E_EXPRESSION", "not available"},
		{"record.status matches \"(\"", "E_EXPRESSION", "pattern"},
		{"9223372036854775808", "E_EXPRESSION", ""},
		{strings.Repeat("1+", 1100) + "1", "E_EXPRESSION", ""},
		{strings.Repeat("(", 5000) + "1", "E_EXPRESSION", ""},
		{"record.max + 1", "E_EVALUATE", "64 bits"},
		{"record.max * 2", "E_EVALUATE", "64 bits"},
		{"-record.max - 2", "E_EVALUATE", "64 bits"},
		{"2 ** 64", "E_EVALUATE", "64 bits"},
		{"int(record.big)", "E_EVALUATE", "64 bits"},
		{"int(1e30)", "E_EVALUATE", "64 bits"},
		{"record.id / 0", "E_EVALUATE", "division by zero"},
		{"record.id % 0", "E_EVALUATE", "division by zero"},
		{"record.total / 0", "E_EVALUATE", "division by zero"},
		{"record.nothing", "E_EVALUATE", `no field "nothing"`},
		{"record.nothing + 1", "E_EVALUATE", `no field "nothing"`},
		{"record.none.deep", "E_EVALUATE", "null has no field"},
		{"record.none + 1", "E_EVALUATE", "null"},
		{"record.status * 2", "E_EVALUATE", "string"},
		{"record.status + 1", "E_EVALUATE", "string"},
		{"record.status > 1", "E_EVALUATE", "no order"},
		{"record.tags[9]", "E_EVALUATE", "no item 9"},
		{"not record.id", "E_EVALUATE", "true or false"},
		{"record.id and true", "E_EVALUATE", "true or false"},
		{"record.id ? 1 : 2", "E_EVALUATE", ""},
		{"int(\"x\")", "E_EVALUATE", "not a whole number"},
		{"date(\"2023-02-30\")", "E_EVALUATE", "not a date"},
		{"date(\"0000-00-00\")", "E_EVALUATE", "not a date"},
		{"repeat(\"abcdefgh\", 1073741824)", "E_EVALUATE", "longer"},
		{"replace(repeat(\"a\", 100000), \"a\", repeat(\"b\", 100000))", "E_EVALUATE", "longer"},
		{"map(1..100, repeat(\"a\", 1000000))", "E_EVALUATE", "memory"},
		{"map(1..1000000, #)", "E_EVALUATE", "memory"},
		{"all(1..300, all(1..300, all(1..300, all(1..300, # > 0))))", "E_EVALUATE", "memory"},
		{"all(record.tags, all(1..90000, # > 0)) and all(1..90000, all(record.tags, all(record.tags, all(record.tags, # != 7))))", "E_EVALUATE", ""},
		{"10.5 ** 99999", "E_EVALUATE", ""},
		{"decimal(\"1e100000\") + 1", "E_EVALUATE", "digits"},
		{"upper(record.id)", "E_EVALUATE", ""},
	}
	for _, tt := range tests {
		name := tt.expr
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			v, f := evaluate(t, tt.expr)
			if f == nil {
				t.Fatalf("gave %s %s", v.Kind(), v.AppendJSON(nil))
			}
			if f.Code != tt.code || !strings.Contains(f.Cause, tt.cause) {
				t.Errorf("got %s %q, want %s with %q", f.Code, f.Cause, tt.code, tt.cause)
			}
			if f.Code == "E_EVALUATE" && (f.Class != fault.Value || f.Field != "x") {
				t.Errorf("class %s, field %q", f.Class, f.Field)
			}
			if strings.Contains(f.Cause, "$") && !strings.Contains(tt.expr, "$") || strings.Contains(f.Cause, "\n") {
				t.Errorf("the inside shows: %q", f.Cause)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// TestDelivery_3_3_PureStepsAreRepeatable runs every step twice, on two
// machines, and compares bytes.
func TestDelivery_3_3_PureStepsAreRepeatable(t *testing.T) {
	steps := []model.Step{
		{Name: "filter-1", Filter: "random() < 0.9"},
		{Name: "set-1", Set: model.Assignments{{Field: "token", Expr: "uuid()"}, {Field: "other", Expr: "uuid()"}, {Field: "at", Expr: "now()"},
			{Field: "obj", Expr: "{z: random(), a: keys({q: 1, b: 2}), m: {y: 1, x: 2}}"}}},
		{Name: "map-1", Map: model.Assignments{{Field: "id", Expr: "record.id"}, {Field: "token", Expr: "record.token"}, {Field: "fresh", Expr: "uuid()"},
			{Field: "obj", Expr: "record.obj"}, {Field: "fails", Expr: "10 / (record.id % 5)"}}},
	}
	shape := page.NewShape("id", "name")
	var records []page.Record
	for i := range 500 {
		records = append(records, page.NewRecord(shape, page.Int(int64(i)), page.String("n")))
	}
	in := payload(t, records...)
	run := func() Out {
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
	first, second := run(), run()
	if !bytes.Equal(first.Payload, second.Payload) {
		t.Error("the payloads differ")
	}
	if diff := cmp.Diff(first.Parked, second.Parked, cmp.Comparer(func(a, b *fault.Error) bool { return a.Error() == b.Error() })); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first.Counts, second.Counts); diff != "" {
		t.Error(diff)
	}
	if first.Counts[0].Filtered == 0 || len(first.Parked) == 0 || first.Records == 0 {
		t.Errorf("the test does not exercise everything: %+v", first.Counts)
	}
	seen := map[string]bool{}
	out, err := page.DecodeAll(first.Payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out {
		for _, field := range []string{"token", "fresh"} {
			v, _ := r.Field(field)
			if text := valueText(v); seen[text] {
				t.Fatalf("uuid %s was drawn twice", text)
			} else {
				seen[text] = true
			}
		}
	}
}
