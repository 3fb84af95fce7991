package page_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ropeway/protocol/page"
)

func TestAccessorsOfOtherKindsAreZero(t *testing.T) {
	for _, v := range extremes(t) {
		k := v.Kind()
		got := map[page.Kind]bool{
			page.KindBool: v.Bool(), page.KindInt64: v.Int() != 0, page.KindUint64: v.Uint() != 0,
			page.KindDecimal: v.Decimal() != nil, page.KindDate: v.Days() != 0,
			page.KindUUID: v.UUID() != [16]byte{}, page.KindArray: v.Items() != nil,
			page.KindObject: v.Fields().Shape != nil, page.KindBlob: v.Ref() != page.Ref{},
			page.KindTimestamp: v.Offset() != 0, page.KindForeign: v.ForeignType() != "",
			page.KindNull: v.IsNull(),
		}
		for kind, set := range got {
			if set && kind != k {
				t.Errorf("%s has a %s", k, kind)
			}
		}
		if v.String() == "" && v.Text() == "" && k != page.KindString && k != page.KindJSON &&
			k != page.KindForeign && k != page.KindBytes {
			t.Errorf("%s shows nothing", k)
		}
	}
}

func TestAccessorsGiveBackWhatWasPut(t *testing.T) {
	ref := page.Ref{ID: page.NewID(), Of: page.KindString, Size: 7, Hash: page.Hash{1}}
	m, d, us := page.Interval(-3, 4, -5).Interval()
	tests := map[string][2]any{
		"bool":     {page.Bool(true).Bool(), true},
		"int":      {page.Int(-5).Int(), int64(-5)},
		"uint":     {page.Uint(5).Uint(), uint64(5)},
		"float32":  {page.Float32(1.5).Float(), 1.5},
		"float64":  {page.Float(0.1).Float(), 0.1},
		"text":     {page.String("x").Text(), "x"},
		"bytes":    {string(page.Bytes([]byte("x")).Bytes()), "x"},
		"days":     {page.Date(-3).Days(), int32(-3)},
		"micros":   {page.Timestamp(-3, 60).Micros(), int64(-3)},
		"offset":   {page.Timestamp(-3, 60).Offset(), int32(60)},
		"interval": {[]int64{int64(m), int64(d), us}, []int64{-3, 4, -5}},
		"uuid":     {page.UUID([16]byte{1, 15: 2}).UUID(), [16]byte{1, 15: 2}},
		"ref":      {page.Reference(ref).Ref(), ref},
		"items":    {page.Array([]page.Value{page.Int(1)}).Items()[0].Int(), int64(1)},
		"foreign":  {page.Foreign("inet", "::1").ForeignType(), "inet"},
		"typ utf8": {page.Foreign("a\xff", "").ForeignType(), "a\uFFFD"},
		"depth":    {page.Array([]page.Value{page.Array(nil)}).Depth(), 2},
		"hex":      {page.Bytes([]byte{1, 255}).String(), "01ff"},
		"show":     {page.Array([]page.Value{page.Int(1), page.Null()}).String(), "[1,null]"},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test[1], test[0]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDecimalsAreExact(t *testing.T) {
	for _, s := range []string{"0", "-0", "1.50", "12345678901234567890123456789012345678.90", "1E+5", "-7E-12", "NaN", "Infinity", "-Infinity"} {
		v, err := page.DecimalFromString(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		back := page.DecimalBig(v.Decimal())
		if v.String() != s || !page.Equal(v, back) {
			t.Errorf("%s is %s, through apd %s", s, v, back)
		}
		other, _, err := apd.NewFromString(s)
		if err != nil || !page.Equal(v, page.DecimalBig(other)) {
			t.Errorf("%s: apd reads %s, %v", s, other, err)
		}
	}
	if neg, coef, exp, ok := mustDecimal(t, "-1.50").SmallDecimal(); !ok || !neg || coef != 150 || exp != -2 {
		t.Error("the parts of -1.50 are wrong")
	}
	if _, _, _, ok := mustDecimal(t, "123456789012345678901").SmallDecimal(); ok {
		t.Error("a big decimal is small")
	}
	for _, s := range []string{"", "-", ".", "1.2.3", "1e", "e5", "--1", "1 ", "0x1", "1_0", "∞", "1e300000", "infinite", "nano"} {
		if v, err := page.DecimalFromString(s); err == nil {
			t.Errorf("%q was read as %s", s, v)
		}
	}
}

func mustDecimal(t *testing.T, s string) page.Value {
	t.Helper()
	v, err := page.DecimalFromString(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCalendarIsGos(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(t, "us")
		offset := rapid.Int32Range(-1439, 1439).Draw(t, "minutes") * 60
		v := page.Timestamp(us-int64(offset)*1e6, offset)
		want := v.GoTime()
		read, err := time.Parse(time.RFC3339Nano, v.String())
		if err != nil || !read.Equal(want) {
			t.Fatalf("%s: %s, %v", v, read, err)
		}
		if !page.Equal(page.TimestampOf(want), v) {
			t.Fatalf("%s comes back as %s", v, page.TimestampOf(want))
		}
		if got := page.DateOf(want).String(); got != want.Format(time.DateOnly) {
			t.Fatalf("date %s of %s", got, want)
		}
		if got := page.LocalTimestampOf(want); !page.Equal(got, page.LocalTimestamp(us)) {
			t.Fatalf("local %s of %s", got, want)
		}
	})
}

func TestCloneOutlivesThePayload(t *testing.T) {
	payload := encodeOne(t, page.Array([]page.Value{page.String("kept"), page.Foreign("t", "x")}))
	records, err := page.DecodeAll(payload)
	if err != nil {
		t.Fatal(err)
	}
	kept := records[0].Clone()
	clear(payload)
	v, _ := kept.Field("v")
	if got := v.String(); got != `["kept",{"$type":"foreign","name":"t","value":"x"}]` {
		t.Error(got)
	}
}
