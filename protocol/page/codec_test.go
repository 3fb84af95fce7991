package page_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// extremes holds values at the edges of every kind.
func extremes(t testing.TB) []page.Value {
	t.Helper()
	decimal := func(s string) page.Value {
		v, err := page.DecimalFromString(s)
		if err != nil {
			t.Fatalf("decimal %q: %v", s[:min(len(s), 40)], err)
		}
		return v
	}
	deep := page.Int(1)
	for range page.MaxDepth {
		deep = page.Array([]page.Value{deep})
	}
	inner := page.NewShape("a", "b")
	return []page.Value{
		page.Null(), page.Bool(false), page.Bool(true),
		page.Int(0), page.Int(-1), page.Int(math.MaxInt64), page.Int(math.MinInt64),
		page.Uint(0), page.Uint(math.MaxUint64),
		page.Float32(1.1), page.Float32(math.MaxFloat32), page.Float32(math.SmallestNonzeroFloat32),
		page.Float32(float32(math.NaN())), page.Float32(float32(math.Inf(-1))),
		page.Float(0.1), page.Float(math.Copysign(0, -1)), page.Float(math.MaxFloat64),
		page.Float(math.SmallestNonzeroFloat64), page.Float(math.NaN()), page.Float(math.Inf(1)),
		decimal("0"), decimal("-0"), decimal("0.00"), decimal("-0.00"), decimal("0E+5"), decimal("0E-9"),
		decimal("1"), decimal("1.50"), decimal("-1.5"), decimal("5E+3"), decimal("1E-7"),
		decimal("0.000001"), decimal("9223372036854775807"), decimal("9223372036854775808"),
		decimal("-9223372036854775808"), decimal("-9223372036854775809"),
		decimal("18446744073709551615"), decimal("18446744073709551616"),
		decimal("12345678901234567890123456789012345678"), decimal("-0.12345678901234567890123456789012345678"),
		decimal("1E+262144"), decimal("1E-262144"), decimal(strings.Repeat("9", 147_455)),
		decimal("NaN"), decimal("Infinity"), decimal("-Infinity"),
		page.String(""), page.String("x"), page.String("naïve 🚡 \x00\"\\\u2028"),
		page.String("\xff\xfe"), page.String(strings.Repeat("long", 10_000)),
		page.Bytes(nil), page.Bytes([]byte{0, 255}), page.Bytes(make([]byte, 200)),
		page.Date(0), page.Date(-719162), page.Date(2932896),
		page.Time(0), page.Time(86_400_000_000), page.Time(1),
		page.LocalTimestamp(-62135596800000000), page.LocalTimestamp(253402300799999999),
		page.Timestamp(0, 0), page.Timestamp(1, -18000), page.Timestamp(253402300799999999, 0),
		page.Timestamp(-62135596800000000, 86399), page.Timestamp(1719792000123456, 1172),
		page.Timestamp(-62135596800000000-86399_000000, 86399),
		page.Interval(0, 0, 0), page.Interval(math.MinInt32, math.MaxInt32, math.MinInt64),
		page.UUID([16]byte{}), page.UUID([16]byte{0xff, 1, 2, 3, 15: 0xee}),
		page.Array(nil), page.Array([]page.Value{page.Int(1), page.Null(), page.String("x")}),
		page.Object(page.NewShape(), nil), deep,
		page.Object(inner, []page.Value{page.Bool(true), page.Object(inner, nil)}),
		page.Object(page.NewShape("$type", "value"), []page.Value{page.String("int64"), page.Int(1)}),
		page.Object(page.NewShape("", "ü", "\"\\\n"), []page.Value{page.Int(1), page.Int(2), page.Int(3)}),
		page.JSON([]byte(` { "a" : 1.0, "a":2 } `)), page.JSON([]byte("\xff")), page.JSON(nil),
		page.Foreign("inet", "10.0.0.0/8"), page.Foreign("", ""), page.Foreign("odd", "\xc3"),
		page.Reference(page.Ref{ID: page.ID{1}, Of: page.KindBytes, Size: math.MaxUint64, Hash: page.Hash{9}}),
		page.Reference(page.Ref{Of: page.KindString}),
	}
}

func encodeOne(t testing.TB, v page.Value) []byte {
	t.Helper()
	e := page.NewEncoder()
	e.Begin(page.NewShape("v"))
	e.Value(v)
	if err := e.End(); err != nil {
		t.Fatalf("encode %s: %v", v.Kind(), err)
	}
	return bytes.Clone(e.Finish(nil))
}

func TestValueSurvivesCodecAndJSON(t *testing.T) {
	for i, v := range extremes(t) {
		t.Run(fmt.Sprintf("%d %s", i, v.Kind()), func(t *testing.T) {
			records, err := page.DecodeAll(encodeOne(t, v))
			if err != nil || len(records) != 1 {
				t.Fatalf("decode: %d records, %v", len(records), err)
			}
			got, _ := records[0].Field("v")
			if !page.Equal(v, got) {
				t.Errorf("codec: got %.80s, want %.80s", got, v)
			}
			text := v.AppendJSON(nil)
			read, err := page.ParseJSON(text)
			if err != nil || !page.Equal(v, read) {
				t.Errorf("json %.120s: got %.80s, %v", text, read, err)
			}
			record, err := page.ParseRecord(records[0].AppendJSON(nil))
			if err != nil || !page.EqualRecords(record, records[0]) {
				t.Errorf("record json: %v", err)
			}
			if !page.Equal(v, v.Clone()) {
				t.Error("clone differs")
			}
		})
	}
}

// values draws any value.
func values(depth int) *rapid.Generator[page.Value] {
	return rapid.Custom(func(t *rapid.T) page.Value {
		top := int(page.KindBlob)
		switch k := page.Kind(rapid.IntRange(0, top).Draw(t, "kind")); k {
		case page.KindArray, page.KindObject:
			if depth == 0 {
				return page.Null()
			}
			items := rapid.SliceOfN(values(depth-1), 0, 4).Draw(t, "items")
			if k == page.KindArray {
				return page.Array(items)
			}
			names := rapid.SliceOfNDistinct(rapid.String(), len(items), len(items), rapid.ID[string]).Draw(t, "names")
			return page.Object(page.NewShape(names...), items)
		default:
			return scalar(t, k)
		}
	})
}

func scalar(t *rapid.T, k page.Kind) page.Value {
	i64 := func(lo, hi int64) int64 { return rapid.Int64Range(lo, hi).Draw(t, "n") }
	raw := func() []byte { return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes") }
	switch k {
	case page.KindBool:
		return page.Bool(rapid.Bool().Draw(t, "b"))
	case page.KindInt64:
		return page.Int(rapid.Int64().Draw(t, "i"))
	case page.KindUint64:
		return page.Uint(rapid.Uint64().Draw(t, "u"))
	case page.KindFloat32:
		return page.Float32(math.Float32frombits(rapid.Uint32().Draw(t, "f")))
	case page.KindFloat64:
		return page.Float(math.Float64frombits(rapid.Uint64().Draw(t, "f")))
	case page.KindDecimal:
		v, err := page.DecimalFromString(rapid.StringMatching(
			`-?([0-9]{1,45}|[0-9]{1,25}\.[0-9]{1,25})(E[+-]?[0-9]{1,5})?`).Draw(t, "decimal"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	case page.KindString:
		return page.String(rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()),
			func(b []byte) string { return string(b) })).Draw(t, "s"))
	case page.KindBytes:
		return page.Bytes(raw())
	case page.KindDate:
		return page.Date(int32(i64(-719162, 2932896)))
	case page.KindTime:
		return page.Time(i64(0, 86_400_000_000))
	case page.KindLocalTimestamp:
		return page.LocalTimestamp(i64(-62135596800000000, 253402300799999999))
	case page.KindTimestamp:
		off := i64(-86399, 86399)
		return page.Timestamp(i64(-62135596800000000, 253402300799999999)-off*1e6, int32(off))
	case page.KindInterval:
		return page.Interval(rapid.Int32().Draw(t, "m"), rapid.Int32().Draw(t, "d"), rapid.Int64().Draw(t, "us"))
	case page.KindUUID:
		return page.UUID([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")))
	case page.KindJSON:
		return page.JSON(raw())
	case page.KindForeign:
		return page.Foreign(rapid.String().Draw(t, "type"), string(raw()))
	case page.KindBlob:
		return page.Reference(page.Ref{ID: page.ID{1, 2}, Of: page.KindJSON, Size: rapid.Uint64().Draw(t, "size")})
	}
	return page.Null()
}

type taken struct {
	record page.Record
	origin page.Origin
	key    string
}

func TestPayloadKeepsRecordsOriginsKeysAndCursor(t *testing.T) {
	e := page.NewEncoder()
	rapid.Check(t, func(t *rapid.T) {
		e.Reset()
		var want []taken
		for range rapid.IntRange(0, 12).Draw(t, "records") {
			items := rapid.SliceOfN(values(3), 0, 5).Draw(t, "values")
			names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "é"}),
				len(items), len(items), rapid.ID[string]).Draw(t, "names")
			w := taken{record: page.NewRecord(page.NewShape(names...), items...)}
			w.key = rapid.SampledFrom([]string{"", "", "k", strings.Repeat("k", 300)}).Draw(t, "key")
			w.origin = page.Origin{
				Root:  rapid.SampledFrom([]string{"", "", "", "r1", "r2"}).Draw(t, "root"),
				Index: rapid.OneOf(rapid.Uint32Range(0, 5), rapid.Uint32()).Draw(t, "index"),
			}
			e.Fields(w.record)
			if err := e.EndDerived(w.origin, w.key); err != nil {
				t.Fatal(err)
			}
			want = append(want, w)
		}
		cursor := rapid.SliceOf(rapid.Byte()).Draw(t, "cursor")
		payload := bytes.Clone(e.Finish(cursor))
		checkPayload(t, payload, want, cursor)
		copied := copyRaw(t, payload, cursor)
		checkPayload(t, copied, want, cursor)
	})
}

func checkPayload(t *rapid.T, payload []byte, want []taken, cursor []byte) {
	d, err := page.NewDecoder(payload)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if d.Records() != len(want) || !bytes.Equal(d.Cursor(), cursor) {
		t.Fatalf("%d records, cursor %x", d.Records(), d.Cursor())
	}
	for i, w := range want {
		if !d.Next() {
			t.Fatalf("record %d: %v", i, d.Err())
		}
		if w.origin.Root == "" {
			w.origin.Root = "self"
		}
		if !page.EqualRecords(d.Record(), w.record) || d.Origin("self") != w.origin || d.Key() != w.key {
			t.Fatalf("record %d: %v %q, want %v %q", i, d.Origin("self"), d.Key(), w.origin, w.key)
		}
	}
	if d.Next() || d.Err() != nil {
		t.Fatalf("at the end: %v", d.Err())
	}
}

// copyRaw copies a payload record by record into an encoder whose dictionary
// differs.
func copyRaw(t *rapid.T, payload, cursor []byte) []byte {
	e := page.NewEncoder()
	if err := e.Record(page.NewRecord(page.NewShape("z", "y"), page.Null(), page.Foreign("q", "r"))); err != nil {
		t.Fatal(err)
	}
	d, err := page.NewDecoder(payload)
	if err != nil {
		t.Fatal(err)
	}
	out := page.NewEncoder()
	out.Begin(page.NewShape("e", "d"))
	out.Foreign("dropped", "x")
	out.Drop()
	for d.Next() {
		if err := out.Raw(d); err != nil {
			t.Fatal(err)
		}
	}
	return out.Finish(cursor)
}

func TestIdentityOriginsCostOneByte(t *testing.T) {
	e := page.NewEncoder()
	s := page.NewShape("a")
	for i := range 100 {
		e.Begin(s)
		e.Int64(int64(i))
		if err := e.End(); err != nil {
			t.Fatal(err)
		}
	}
	own := len(e.Finish(nil))
	// version, length, records of 4 bytes (5 from the 64th on), count, one name,
	// one shape, no cursor, origins, keys
	want := 1 + 4 + 64*4 + 36*5 + 1 + 1 + 2 + 1 + 2 + 1 + 1 + 1
	if own != want {
		t.Errorf("payload of %d bytes, want %d", own, want)
	}
}

func TestEncoderRefuses(t *testing.T) {
	tooDeep := page.Int(1)
	for range page.MaxDepth + 1 {
		tooDeep = page.Array([]page.Value{tooDeep})
	}
	one := page.NewShape("a")
	tests := map[string]struct {
		write func(e *page.Encoder)
		class fault.Class
	}{
		"too few cells":      {func(e *page.Encoder) { e.Begin(one) }, fault.Internal},
		"too many cells":     {func(e *page.Encoder) { e.Begin(one); e.Null(); e.Null() }, fault.Internal},
		"no Begin":           {func(e *page.Encoder) {}, fault.Internal},
		"Begin twice":        {func(e *page.Encoder) { e.Begin(one); e.Begin(one); e.Null() }, fault.Internal},
		"name twice":         {func(e *page.Encoder) { e.Begin(&page.Shape{Names: []string{"a", "a"}}); e.Null(); e.Null() }, fault.Internal},
		"too deep":           {func(e *page.Encoder) { e.Begin(one); e.Value(tooDeep) }, fault.TooLarge},
		"record too large":   {func(e *page.Encoder) { e.Begin(one); e.Bytes(make([]byte, page.MaxRecord)) }, fault.TooLarge},
		"too many items":     {func(e *page.Encoder) { e.Begin(one); e.Value(page.Array(make([]page.Value, page.MaxItems+1))) }, fault.TooLarge},
		"date of year 0":     {func(e *page.Encoder) { e.Begin(one); e.Date(-719163) }, fault.Value},
		"date of year 10000": {func(e *page.Encoder) { e.Begin(one); e.Date(2932897) }, fault.Value},
		"negative time":      {func(e *page.Encoder) { e.Begin(one); e.Time(-1) }, fault.Value},
		"timestamp too late": {func(e *page.Encoder) { e.Begin(one); e.Timestamp(253402300799999999, 1) }, fault.Value},
		"offset of a day":    {func(e *page.Encoder) { e.Begin(one); e.Timestamp(0, 86400) }, fault.Value},
		"local too early":    {func(e *page.Encoder) { e.Begin(one); e.LocalTimestamp(math.MinInt64) }, fault.Value},
		"exponent":           {func(e *page.Encoder) { e.Begin(one); e.Decimal(false, 1, page.MaxExponent+1) }, fault.Value},
		"coefficient": {func(e *page.Encoder) {
			e.Begin(one)
			e.DecimalBig(false, bytes.Repeat([]byte{1}, page.MaxCoefficient+1), 0)
		}, fault.Value},
		"unknown special":     {func(e *page.Encoder) { e.Begin(one); e.DecimalSpecial(0) }, fault.Internal},
		"reference to an int": {func(e *page.Encoder) { e.Begin(one); e.Reference(page.Ref{Of: page.KindInt64}) }, fault.Internal},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := page.NewEncoder()
			good := func() {
				t.Helper()
				e.Begin(one)
				e.Int64(7)
				if err := e.End(); err != nil {
					t.Fatal(err)
				}
			}
			good()
			test.write(e)
			if err := e.End(); fault.ClassOf(err) != test.class {
				t.Fatalf("End: %v (%s), want class %s", err, fault.ClassOf(err), test.class)
			}
			if e.Finish(nil) != nil {
				t.Fatal("a payload without the refused record was given out")
			}
			e.Drop()
			good()
			records, err := page.DecodeAll(e.Finish([]byte("c")))
			if err != nil || len(records) != 2 {
				t.Fatalf("after Drop: %d records, %v", len(records), err)
			}
		})
	}
}

func TestEncoderStopsAtAFullPage(t *testing.T) {
	e := page.NewEncoder()
	s := page.NewShape("a")
	cell := make([]byte, 1<<20)
	for range 20 {
		e.Begin(s)
		e.Bytes(cell)
		if e.End() != nil {
			break
		}
	}
	if fault.ClassOf(e.Err()) != fault.TooLarge || e.Size() > page.MaxPayload {
		t.Fatalf("size %d: %v", e.Size(), e.Err())
	}
	e.Drop()
	if payload := e.Finish(make([]byte, page.MaxCursor)); len(payload) > page.MaxPayload {
		t.Fatalf("payload of %d bytes", len(payload))
	} else if _, err := page.DecodeAll(payload); err != nil {
		t.Fatal(err)
	}
}

func TestEncoderIsRepeatable(t *testing.T) {
	e := page.NewEncoder()
	var first []byte
	for range 3 {
		e.Reset()
		for _, v := range extremes(t) {
			if err := e.Record(page.NewRecord(page.NewShape("x", "y"), v, v)); err != nil {
				t.Fatal(err)
			}
		}
		payload := bytes.Clone(e.Finish([]byte("end")))
		if again := e.Finish([]byte("end")); !bytes.Equal(payload, again) {
			t.Fatal("Finish twice differs")
		}
		if first == nil {
			first = payload
		} else if !bytes.Equal(first, payload) {
			t.Fatal("a reused encoder writes other bytes")
		}
	}
}

func TestShapeKeepsEveryField(t *testing.T) {
	s := page.NewShape("a", "a", "a_2", "a", "b\xff")
	got := strings.Join(s.Names, "|")
	if got != "a|a_2|a_2_2|a_3|b\uFFFD" {
		t.Errorf("names %s", got)
	}
	if i, ok := s.Index("a_3"); !ok || i != 3 {
		t.Errorf("index %d, %v", i, ok)
	}
	if _, ok := page.NewRecord(s).Field("a"); ok {
		t.Error("a record without values has a field")
	}
}
