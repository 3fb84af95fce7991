package page_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// rawPayload builds a payload by hand: one name "a", one shape of it, no cursor,
// own origins, no keys.
func rawPayload(records int, body ...byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{1}, uint32(len(body)))
	b = append(b, body...)
	b = binary.AppendUvarint(b, uint64(records))
	return append(b, 1, 1, 'a', 1, 1, 0, 0, 0, 0)
}

// cell builds a payload of one record with one field.
func cell(b ...byte) []byte {
	body := binary.AppendUvarint([]byte{0}, uint64(len(b)))
	return rawPayload(1, append(body, b...)...)
}

func uvarint(u uint64) []byte { return binary.AppendUvarint(nil, u) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestHostile_3_CellsAreRefused(t *testing.T) {
	max64 := bytes.Repeat([]byte{0xff}, 8)
	tests := map[string][]byte{
		"no cell":                   cell(),
		"unknown kind":              cell(20),
		"last kind":                 cell(31),
		"null with a flag":          cell(0x20),
		"bool 2":                    cell(0x41),
		"int without number":        cell(2),
		"int cut":                   cell(2, 0x80),
		"int of 11 bytes":           cell(join([]byte{2}, bytes.Repeat([]byte{0xff}, 10), []byte{1})...),
		"int beyond 64 bits":        cell(join([]byte{2}, bytes.Repeat([]byte{0xff}, 9), []byte{2})...),
		"int not shortest":          cell(2, 0x81, 0),
		"int with a flag":           cell(0x22, 0),
		"float32 cut":               cell(4, 0, 0, 0),
		"float32 other NaN":         cell(4, 0x7f, 0xc0, 0, 1),
		"float64 cut":               cell(5, 0, 0, 0, 0, 0, 0, 0),
		"float64 negative NaN":      cell(5, 0xff, 0xf8, 0, 0, 0, 0, 0, 0),
		"decimal special 0":         cell(0x86),
		"decimal cut":               cell(6, 0),
		"decimal exponent":          cell(join([]byte{6}, uvarint(1<<20), []byte{1})...),
		"decimal big but small":     cell(0x46, 0, 8, 1, 1, 1, 1, 1, 1, 1, 1),
		"decimal big with zero":     cell(0x46, 0, 9, 0, 1, 1, 1, 1, 1, 1, 1, 1),
		"decimal big too long":      cell(join([]byte{0x46, 0}, uvarint(1<<40))...),
		"decimal big beyond limit":  cell(join([]byte{0x46, 0}, uvarint(page.MaxCoefficient+1), bytes.Repeat([]byte{1}, page.MaxCoefficient+1))...),
		"string too long":           cell(7, 1),
		"string of 2^31-1":          cell(join([]byte{7}, uvarint(1<<31-1))...),
		"string of 2^63":            cell(join([]byte{7}, uvarint(1<<63))...),
		"string of -1":              cell(join([]byte{7}, uvarint(1<<64-1))...),
		"date too early":            cell(join([]byte{9}, uvarint(2*719163-1))...),
		"date too late":             cell(join([]byte{9}, uvarint(2*2932897))...),
		"time beyond 24 h":          cell(join([]byte{10}, uvarint(86_400_000_001))...),
		"local timestamp":           cell(join([]byte{11}, max64[:7], []byte{0})...)[:5],
		"local timestamp too late":  cell(join([]byte{11}, []byte{0x7f}, max64[1:])...),
		"timestamp too late":        cell(join([]byte{12}, []byte{0x7f}, max64[1:])...),
		"timestamp offset 0":        cell(0x2c, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"timestamp offset a day":    cell(join([]byte{0x2c, 0, 0, 0, 0, 0, 0, 0, 0}, uvarint(2*86400))...),
		"timestamp offset 2^33":     cell(join([]byte{0x2c, 0, 0, 0, 0, 0, 0, 0, 0}, uvarint(1<<33))...),
		"timestamp flag 2":          cell(0x4c, 0, 0, 0, 0, 0, 0, 0, 0, 1),
		"interval cut":              cell(make15(13)...),
		"uuid cut":                  cell(make15(14)...),
		"array too long":            cell(15, 2, 0),
		"array of 2^62":             cell(join([]byte{15}, uvarint(1<<62))...),
		"object of unknown shape":   cell(16, 1, 0),
		"object cut":                cell(16, 0),
		"foreign of unknown name":   cell(18, 1, 0),
		"foreign cut":               cell(18, 0, 1),
		"blob cut":                  cell(join([]byte{19}, make([]byte, 56))...),
		"blob of a date":            cell(join([]byte{19}, make([]byte, 16), []byte{9}, make([]byte, 40))...),
		"two cells for one field":   cell(0, 0),
		"65 arrays":                 cell(append(bytes.Repeat([]byte{15, 1}, 65), 0)...),
		"arrays without end":        cell(bytes.Repeat([]byte{15, 1}, 10_000)...),
		"record length cut":         rawPayload(1, 0, 0x80),
		"record longer than body":   rawPayload(1, 0, 2, 0),
		"record of unknown shape":   rawPayload(1, 1, 1, 0),
		"more records than said":    rawPayload(1, 0, 1, 0, 0, 1, 0),
		"fewer records than said":   rawPayload(2, 0, 2, 15, 0),
		"record not shortest":       rawPayload(1, 0x80, 0, 1, 0),
		"nested memory":             cell(join([]byte{15}, uvarint(page.MaxItems+1), make([]byte, page.MaxItems+1))...),
		"records beyond their size": rawPayload(1<<20, 0, 1, 0),
	}
	for name, payload := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := page.DecodeAll(payload)
			if code := fault.CodeOf(err); code != "E_PAGE_FORMAT" {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, payload := range map[string][]byte{
		"null": cell(0), "64 arrays": cell(append(bytes.Repeat([]byte{15, 1}, 64), 0)...),
	} {
		if _, err := page.DecodeAll(payload); err != nil {
			t.Errorf("%s, which is sound: %v", name, err)
		}
	}
}

func make15(kind byte) []byte { return append([]byte{kind}, make([]byte, 15)...) }

func TestHostile_3_OutlinesAreRefused(t *testing.T) {
	outline := func(trailer ...byte) []byte { return append([]byte{1, 0, 0, 0, 3, 0, 1, 0}, trailer...) }
	tests := map[string]struct {
		b    []byte
		code string
	}{
		"empty":                  {nil, ""},
		"unknown version":        {[]byte{2, 0, 0, 0, 0}, "E_FORMAT_VERSION"},
		"records of 2^32-1":      {[]byte{1, 0xff, 0xff, 0xff, 0xff, 0}, ""},
		"no trailer":             {outline(), ""},
		"2^20 records":           {outline(join(uvarint(1<<20), []byte{1, 1, 'a', 1, 1, 0, 0, 0, 0})...), ""},
		"too many names":         {outline(join([]byte{1}, uvarint(1<<40))...), ""},
		"name too long":          {outline(1, 1, 200), ""},
		"name twice":             {outline(1, 2, 1, 'a', 1, 'a', 1, 1, 0, 0, 0, 0), ""},
		"name not UTF-8":         {outline(1, 1, 1, 0xff, 1, 1, 0, 0, 0, 0), ""},
		"too many shapes":        {outline(join([]byte{1, 1, 1, 'a'}, uvarint(1<<62))...), ""},
		"too many fields":        {outline(join([]byte{1, 1, 1, 'a', 1}, uvarint(1<<62))...), ""},
		"unknown name":           {outline(1, 1, 1, 'a', 1, 1, 1, 0, 0, 0), ""},
		"field twice":            {outline(1, 1, 1, 'a', 1, 2, 0, 0, 0, 0, 0), ""},
		"cursor too long":        {outline(1, 1, 1, 'a', 1, 1, 0, 9, 0, 0), ""},
		"unknown origins":        {outline(1, 1, 1, 'a', 1, 1, 0, 0, 2, 0), ""},
		"unknown keys":           {outline(1, 1, 1, 'a', 1, 1, 0, 0, 0, 2), ""},
		"run of nothing":         {outline(1, 1, 1, 'a', 1, 1, 0, 0, 1, 0, 0, 0, 0), ""},
		"run too long":           {outline(1, 1, 1, 'a', 1, 1, 0, 0, 1, 0, 4, 0, 0), ""},
		"run of unknown root":    {outline(1, 1, 1, 'a', 1, 1, 0, 0, 1, 0, 3, 1, 0, 0), ""},
		"index below 0":          {outline(1, 1, 1, 'a', 1, 1, 0, 0, 1, 0, 2, 1, 0), ""},
		"index beyond 32 bits":   {outline(join([]byte{1, 1, 1, 'a', 1, 1, 0, 0, 1, 0, 2}, uvarint(1<<33), []byte{0})...), ""},
		"index far out":          {outline(join([]byte{1, 1, 1, 'a', 1, 1, 0, 0, 1, 0, 2}, uvarint(1<<64-2), []byte{0})...), ""},
		"roots without end":      {outline(join([]byte{1, 1, 1, 'a', 1, 1, 0, 0, 1}, uvarint(1<<50))...), ""},
		"key cut":                {outline(1, 1, 1, 'a', 1, 1, 0, 0, 0, 1, 1), ""},
		"key too long":           {outline(join([]byte{1, 1, 1, 'a', 1, 1, 0, 0, 0, 1}, uvarint(page.MaxKey+1), make([]byte, page.MaxKey+1))...), ""},
		"trailing byte":          {append(cell(0), 0), ""},
		"beyond the page's size": {make([]byte, page.MaxPayload+1), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.code == "" {
				test.code = "E_PAGE_FORMAT"
			}
			if _, err := page.DecodeAll(test.b); fault.CodeOf(err) != test.code {
				t.Errorf("got %v, want %s", err, test.code)
			}
		})
	}
}

// goldenPayload holds every kind, two shapes, keys, foreign origins, a cursor.
func goldenPayload(t testing.TB) []byte {
	e := page.NewEncoder()
	for i, v := range extremes(t) {
		if len(v.AppendJSON(nil)) > 2000 {
			continue // keeps the file small; the kind is there in short, too
		}
		e.Begin(page.NewShape("n", "value"))
		e.Int64(int64(i))
		e.Value(v)
		o := page.Origin{Index: uint32(i)}
		if i%10 == 9 {
			o.Root = "other"
		}
		if err := e.EndDerived(o, fmt.Sprintf("key %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Clone(e.Finish([]byte("end cursor")))
}

func TestHostile_3_PayloadCutAtEveryByte(t *testing.T) {
	whole := goldenPayload(t)
	for n := range whole {
		if _, err := page.DecodeAll(whole[:n:n]); err == nil {
			t.Fatalf("the first %d bytes pass for a payload", n)
		}
	}
}

func TestHostile_3_PayloadWithEveryByteChanged(t *testing.T) {
	whole := goldenPayload(t)
	for i := range whole {
		for _, bit := range []byte{1, 0x20, 0x80} {
			b := bytes.Clone(whole)
			b[i] ^= bit
			readAll(b) // must not panic; what it reads may be sound
		}
	}
}

// readAll uses everything that a payload offers.
func readAll(b []byte) {
	d, err := page.NewDecoder(b)
	if err != nil {
		return
	}
	e := page.NewEncoder()
	for d.Next() {
		_ = d.Record().AppendJSON(nil)
		_, _ = d.Origin("self"), d.Key()
		_ = e.Raw(d)
	}
	e.Drop()
	e.Finish(d.Cursor())
}

func TestHostile_3_JSONIsRefused(t *testing.T) {
	tests := map[string]string{
		"empty": "", "space": " ", "half": `{"a":`, "no value": `{"a"}`, "comma": `[1,]`, "leading comma": `[,1]`,
		"two values": `1 2`, "bom": "\ufeff1", "utf-16": "1\x00", "bare word": "nil", "upper": "True", "single quotes": `'a'`,
		"leading zero": "01", "plus": "+1", "point": ".5", "no fraction": "1.", "no exponent": "1e", "minus": "-",
		"hex": "0x1", "nan": "NaN", "infinity": "-Infinity", "exponent": "1e999999999", "exponent beyond 32 bits": "1e99999999999",
		"digits": strings.Repeat("9", 200_000), "control": "\"\n\"", "no end": `"abc`, "escape at end": `"\`, "escape": `"\x"`,
		"unicode cut": `"\u12"`, "unicode bad": `"\u12g4"`, "unicode signed": `"\u+123"`, "lone high": `"\ud800"`, "lone low": `"\udc00"`,
		"two high": `"\ud800\ud800"`, "utf-8": "\"\xff\"", "utf-8 surrogate": "\"\xed\xa0\x80\"", "utf-8 escaped": "\"\\n\xff\"",
		"repeated name": `{"a":1,"a":2}`, "repeated after escape": `{"a":1,"\u0061":2}`,
		"repeated in wide": `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"a":1}`,
		"depth 100k":       strings.Repeat("[", 100_000), "depth 65": strings.Repeat("[", 65) + strings.Repeat("]", 65),
		"objects 100k": strings.Repeat(`{"a":`, 100_000), "tags 100k": strings.Repeat(`{"$type":"object","value":`, 100_000),
		"tag unknown": `{"$type":"money","value":"1"}`, "tag without value": `{"$type":"uint64"}`, "tag number": `{"$type":1,"value":1}`,
		"tag extra": `{"$type":"uint64","value":"1","x":1}`, "tag twice": `{"$type":"uint64","$type":"uint64","value":"1"}`,
		"value twice": `{"$type":"uint64","value":"1","value":"1"}`, "uint64 negative": `{"$type":"uint64","value":-1}`,
		"uint64 fraction": `{"$type":"uint64","value":1.5}`, "uint64 null": `{"$type":"uint64","value":null}`,
		"float32 range": `{"$type":"float32","value":1e39}`, "float64 range": `{"$type":"float64","value":1e309}`,
		"float64 hex": `{"$type":"float64","value":"0x1p3"}`, "float64 word": `{"$type":"float64","value":"infinity"}`,
		"bytes": `{"$type":"bytes","value":"%%"}`, "bytes loose": `{"$type":"bytes","value":"AB=="}`, "bytes number": `{"$type":"bytes","value":1234}`,
		"date 0": `{"$type":"date","value":"0000-01-01"}`, "date 31 Feb": `{"$type":"date","value":"2025-02-31"}`,
		"date zero month": `{"$type":"date","value":"2025-00-01"}`, "date zero": `{"$type":"date","value":"0000-00-00"}`,
		"date 5 digits": `{"$type":"date","value":"10000-01-01"}`, "date not leap": `{"$type":"date","value":"2100-02-29"}`,
		"time 25": `{"$type":"time","value":"25:00:00"}`, "time beyond 24": `{"$type":"time","value":"24:00:00.000001"}`,
		"time leap second": `{"$type":"time","value":"23:59:60"}`, "time nanos": `{"$type":"time","value":"00:00:00.1234567"}`,
		"local with zone": `{"$type":"local_timestamp","value":"2025-01-01T00:00:00Z"}`, "local at 24": `{"$type":"local_timestamp","value":"2025-01-01T24:00:00"}`,
		"timestamp without zone": `{"$type":"timestamp","value":"2025-01-01T00:00:00"}`, "timestamp +24": `{"$type":"timestamp","value":"2025-01-01T00:00:00+24:00"}`,
		"timestamp junk": `{"$type":"timestamp","value":"2025-01-01T00:00:00Zx"}`,
		"interval":       `{"$type":"interval","value":{"months":1,"days":2}}`, "interval range": `{"$type":"interval","value":{"months":2147483648,"days":2,"us":1}}`,
		"uuid": `{"$type":"uuid","value":"00000000-0000-0000-0000-00000000000"}`, "uuid dashes": `{"$type":"uuid","value":"0000000-00000-0000-0000-000000000000"}`,
		"blob": `{"$type":"blob","value":{}}`, "object": `{"$type":"object","value":[]}`, "array tag": `{"$type":"array","value":[]}`,
		"json number": `{"$type":"json","value":1}`, "name of others": `{"$type":"uint64","name":"x","value":"1"}`,
		"encoding": `{"$type":"string","encoding":"hex","value":"ff"}`, "encoding of others": `{"$type":"date","encoding":"base64","value":"ff"}`,
		"many values": "[" + strings.Repeat("1,", page.MaxItems) + "1]",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := page.ParseJSON([]byte(text))
			if f := fault.From(err); f == nil || f.Code != "E_PARSE" || len(f.Error()) > 600 {
				t.Errorf("got %.40s, %v", v, err)
			}
		})
	}
	for name, text := range map[string]string{
		"null": "null", "array": "[]", "text": `"a"`, "empty": "", "tagged": `{"$type":"uint64","value":"1"}`,
	} {
		if _, err := page.ParseRecord([]byte(text)); fault.CodeOf(err) != "E_PARSE" {
			t.Errorf("record %s: %v", name, err)
		}
	}
}

func TestJSONForms(t *testing.T) {
	decimal, err := page.DecimalFromString("12.50")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		text string
		want page.Value
		back string // "" if it is text
	}{
		{`9223372036854775807`, page.Int(1<<63 - 1), ""},
		{`12.50`, decimal, ""},
		{` [ ] `, page.Array(nil), "[]"},
		{`"\ud83d\ude00\/\b\f\u0041"`, page.String("😀/\b\fA"), `"😀/\u0008\u000cA"`},
		{`{"$type":"uint64","value":5}`, page.Uint(5), `{"$type":"uint64","value":"5"}`},
		{`{"value":5,"$type":"uint64"}`, page.Object(page.NewShape("value", "$type"), []page.Value{page.Int(5), page.String("uint64")}),
			`{"$type":"object","value":{"value":5,"$type":"uint64"}}`},
		{`{"$type":"float64","value":"NaN"}`, page.Float(nan()), ""},
		{`{"$type":"time","value":"24:00:00"}`, page.Time(86_400_000_000), ""},
		{`{"$type":"timestamp","value":"2024-02-29T12:00:00.5+05:30"}`, page.Timestamp(1709188200500000, 19800),
			`{"$type":"timestamp","value":"2024-02-29T12:00:00.500000+05:30"}`},
		{`{"$type":"foreign","name":"inet","value":"::1"}`, page.Foreign("inet", "::1"), ""},
		{`{"$type":"interval","value":{"months":-1,"days":2,"us":3}}`, page.Interval(-1, 2, 3), ""},
	}
	for _, test := range tests {
		v, err := page.ParseJSON([]byte(test.text))
		if err != nil || !page.Equal(v, test.want) {
			t.Errorf("%s: %s, %v", test.text, v, err)
		}
		if test.back == "" {
			test.back = test.text
		}
		if got := string(v.AppendJSON(nil)); got != test.back {
			t.Errorf("%s is written %s", test.text, got)
		}
	}
	plain, err := page.ParsePlain([]byte(`{"$type":"uint64","value":"5"}`))
	if err != nil || plain.Kind() != page.KindObject {
		t.Errorf("plain: %s, %v", plain, err)
	}
}

func nan() float64 { var zero float64; return zero / zero }
