package page

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
)

// tagged collects the members of a tagged value.
type tagged struct {
	typ, name, encoding string
	value               Value
	given               nameList
}

// taggedValue reads the rest of a tagged value, after the name "$type". The tag
// comes first and decides how "value" is read.
func (r *jsonReader) taggedValue() Value {
	var t tagged
	t.typ = r.member()
	for r.err == nil && r.accept(',') {
		name := r.name()
		if !t.given.add(name) {
			r.fail("the name " + quoted(name) + " is repeated")
		}
		switch {
		case name == "value":
			t.value = r.tagValue(t.typ)
		case name == "name" && t.typ == KindForeign.String():
			t.name = r.member()
		case name == "encoding":
			t.encoding = r.member()
		default:
			r.fail("a tagged value has no " + quoted(name))
		}
	}
	r.expect('}')
	if r.err != nil {
		return Value{}
	}
	v, ok := t.make()
	if !ok || !slices.Contains(t.given.all, "value") {
		r.fail("this is not the value of a " + quoted(t.typ))
		return Value{}
	}
	return v
}

func (r *jsonReader) member() string {
	if r.peek() != '"' {
		r.fail("expected a text")
		return ""
	}
	return r.text()
}

// tagValue reads the member "value". Only in an object can it hold values that
// are tagged themselves.
func (r *jsonReader) tagValue(typ string) Value {
	if typ == KindObject.String() {
		if r.peek() != '{' {
			r.fail("expected an object")
			return Value{}
		}
		return r.plainObject() // at the depth that its tag has counted
	}
	outer := r.tagged
	r.tagged = false
	v := r.value()
	r.tagged = outer
	return v
}

// make turns the members into the value, and refuses what does not fit.
func (t *tagged) make() (Value, bool) {
	if t.encoding != "" {
		return t.makeEncoded()
	}
	switch t.typ {
	case "object":
		return t.value, t.value.kind == KindObject
	case "interval":
		return makeInterval(t.value.Fields())
	case "blob":
		return makeRef(t.value.Fields())
	}
	switch t.value.kind {
	case KindInt64, KindDecimal:
		return parseTaggedNumber(t.typ, t.value.String())
	case KindString:
		return t.makeText(t.value.str)
	}
	return Value{}, false
}

func (t *tagged) makeText(text string) (Value, bool) {
	switch t.typ {
	case "string":
		return String(text), true
	case "json":
		return JSON([]byte(text)), true
	case "foreign":
		return Foreign(t.name, text), true
	}
	if v, ok := parseTaggedNumber(t.typ, text); ok {
		return v, true
	}
	return parseTagged(t.typ, text)
}

// makeEncoded reads the texts that are not UTF-8.
func (t *tagged) makeEncoded() (Value, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(t.value.Text())
	if err != nil || t.encoding != "base64" || t.value.kind != KindString {
		return Value{}, false
	}
	switch t.typ {
	case "string":
		return String(alias(b)), true
	case "json":
		return JSON(b), true
	case "foreign":
		return Foreign(t.name, alias(b)), true
	}
	return Value{}, false
}

// parseTaggedNumber reads the kinds whose value may be a JSON number or a text.
func parseTaggedNumber(typ, text string) (Value, bool) {
	switch typ {
	case "uint64":
		u, err := strconv.ParseUint(text, 10, 64)
		return Uint(u), err == nil
	case "int64":
		i, err := strconv.ParseInt(text, 10, 64)
		return Int(i), err == nil
	case "float32":
		f, ok := parseFloat(text, 32)
		return Float32(float32(f)), ok
	case "float64":
		f, ok := parseFloat(text, 64)
		return Float(f), ok
	case "decimal":
		v, err := DecimalFromString(text)
		return v, err == nil
	}
	return Value{}, false
}

// parseTagged reads the kinds whose value is a text.
func parseTagged(typ, text string) (Value, bool) {
	switch typ {
	case "bytes":
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		return Bytes(b), err == nil
	case "date":
		return parseDate(text)
	case "time":
		return parseTime(text)
	case "local_timestamp":
		return parseLocal(text)
	case "timestamp":
		return parseTimestamp(text)
	case "uuid":
		return parseUUID(text)
	}
	return Value{}, false
}

// parseFloat reads a number of JSON, "NaN", "+Inf" or "-Inf".
func parseFloat(text string, bits int) (float64, bool) {
	switch text {
	case "NaN":
		return math.NaN(), true
	case "+Inf":
		return math.Inf(1), true
	case "-Inf":
		return math.Inf(-1), true
	}
	if strings.ContainsAny(text, "xXpP_nN") {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, bits)
	return f, err == nil
}

func parseUUID(text string) (Value, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return Value{}, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return Value{}, false
	}
	return UUID([16]byte(b)), true
}

func makeInterval(r Record) (Value, bool) {
	months, ok1 := r.Field("months")
	days, ok2 := r.Field("days")
	us, ok3 := r.Field("us")
	ok := ok1 && ok2 && ok3 && len(r.Values) == 3 && us.kind == KindInt64 &&
		months.kind == KindInt64 && int64(int32(months.Int())) == months.Int() &&
		days.kind == KindInt64 && int64(int32(days.Int())) == days.Int()
	return Interval(int32(months.Int()), int32(days.Int()), us.Int()), ok
}

func makeRef(r Record) (Value, bool) {
	id, _ := r.Field("id")
	of, _ := r.Field("of")
	size, _ := r.Field("size")
	sum, _ := r.Field("sha256")
	var ref Ref
	var err1, err2, err3 error
	ref.ID, err1 = ParseID(id.Text())
	ref.Size, err2 = strconv.ParseUint(size.Text(), 10, 64)
	ref.Hash, err3 = ParseHash(sum.Text())
	for _, k := range [3]Kind{KindBytes, KindString, KindJSON} {
		if k.String() == of.Text() {
			ref.Of = k
		}
	}
	ok := err1 == nil && err2 == nil && err3 == nil && ref.Of != 0 && len(r.Values) == 4
	return Reference(ref), ok
}
