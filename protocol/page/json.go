package page

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
	"unicode/utf8"
)

// The JSON form holds every value without loss. Null, bool, string, int64,
// arrays and objects are what JSON has. A decimal is a JSON number unless it
// would read as an int64. All else, and objects with a field "$type", are
// written as {"$type":KIND,"value":…}; docs/protocol.md lists the values.
const (
	typeField = "$type"
	hexDigits = "0123456789abcdef"
)

// AppendJSON appends the record's JSON form.
func (r Record) AppendJSON(dst []byte) []byte {
	return appendObject(dst, r)
}

// MarshalJSON is the JSON form.
func (r Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// UnmarshalJSON reads the JSON form.
func (r *Record) UnmarshalJSON(b []byte) error {
	read, err := ParseRecord(b)
	if err != nil {
		return err
	}
	*r = read
	return nil
}

// AppendJSON appends the value's JSON form.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case KindNull:
		return append(dst, "null"...)
	case KindBool:
		return strconv.AppendBool(dst, v.num != 0)
	case KindInt64:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case KindArray:
		dst = append(dst, '[')
		for i, item := range v.more.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.AppendJSON(dst)
		}
		return append(dst, ']')
	case KindObject:
		return appendObject(dst, v.Fields())
	case KindString:
		if utf8.ValidString(v.str) {
			return appendQuoted(dst, v.str)
		}
	case KindDecimal:
		if !v.readsAsInt() && v.Special() == 0 {
			return appendDecimal(dst, v)
		}
	}
	return v.appendTaggedJSON(dst)
}

// MarshalJSON is the JSON form.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON reads the JSON form.
func (v *Value) UnmarshalJSON(b []byte) error {
	read, err := ParseJSON(b)
	if err != nil {
		return err
	}
	*v = read
	return nil
}

// readsAsInt reports whether the text of a decimal is that of an int64.
func (v Value) readsAsInt() bool {
	if v.flag&^decimalNeg != 0 || v.aux != 0 {
		return false
	}
	if v.flag == decimalNeg {
		return v.num > 0 && v.num <= 1<<63
	}
	return v.num <= math.MaxInt64
}

// appendTaggedJSON writes {"$type":KIND,…,"value":…}.
func (v Value) appendTaggedJSON(dst []byte) []byte {
	dst = append(dst, `{"$type":"`...)
	dst = append(append(dst, v.kind.String()...), '"')
	if v.kind == KindForeign {
		dst = append(dst, `,"name":`...)
		dst = appendQuoted(dst, v.more.typ)
	}
	if v.textual() && !utf8.ValidString(v.str) {
		dst = append(dst, `,"encoding":"base64"`...)
	}
	dst = append(dst, `,"value":`...)
	dst = v.appendTaggedValue(dst)
	return append(dst, '}')
}

func (v Value) textual() bool {
	return v.kind == KindString || v.kind == KindJSON || v.kind == KindForeign
}

func (v Value) appendTaggedValue(dst []byte) []byte {
	switch v.kind {
	case KindFloat32, KindFloat64:
		return appendFloatJSON(dst, v)
	case KindInterval:
		months, days, us := v.Interval()
		dst = strconv.AppendInt(append(dst, `{"months":`...), int64(months), 10)
		dst = strconv.AppendInt(append(dst, `,"days":`...), int64(days), 10)
		dst = strconv.AppendInt(append(dst, `,"us":`...), us, 10)
		return append(dst, '}')
	case KindBlob:
		return appendRefJSON(dst, v.Ref())
	case KindString, KindJSON, KindForeign:
		if utf8.ValidString(v.str) {
			return appendQuoted(dst, v.str)
		}
	}
	dst = append(dst, '"')
	dst = v.appendText(dst)
	return append(dst, '"')
}

// appendText writes the text of a kind whose text needs no escapes in JSON.
func (v Value) appendText(dst []byte) []byte {
	switch v.kind {
	case KindUint64:
		return strconv.AppendUint(dst, v.num, 10)
	case KindDecimal:
		return appendDecimal(dst, v)
	case KindDate:
		return appendDate(dst, int64(v.num))
	case KindTime:
		return appendClock(dst, int64(v.num))
	case KindLocalTimestamp:
		return appendLocal(dst, int64(v.num))
	case KindTimestamp:
		return appendTimestamp(dst, int64(v.num), v.aux)
	case KindUUID:
		return appendUUID(dst, v.str)
	}
	return base64.StdEncoding.AppendEncode(dst, []byte(v.str))
}

func appendFloatJSON(dst []byte, v Value) []byte {
	f := v.Float()
	if f != f || math.IsInf(f, 0) {
		return strconv.AppendQuote(dst, strconv.FormatFloat(f, 'g', -1, 64))
	}
	if v.kind == KindFloat32 {
		return strconv.AppendFloat(dst, f, 'g', -1, 32)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func appendRefJSON(dst []byte, r Ref) []byte {
	dst = append(append(append(dst, `{"id":"`...), r.ID.String()...), `","of":"`...)
	dst = append(append(dst, r.Of.String()...), `","size":"`...)
	dst = strconv.AppendUint(dst, r.Size, 10)
	dst = append(append(dst, `","sha256":"`...), r.Hash.String()...)
	return append(dst, `"}`...)
}

func appendUUID(dst []byte, u string) []byte {
	b := []byte(u)
	for i, end := range [5]int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		start := [5]int{0, 4, 6, 8, 10}[i]
		dst = hex.AppendEncode(dst, b[start:end])
	}
	return dst
}

// appendObject writes an object, tagged if it has a field named like the tag.
func appendObject(dst []byte, r Record) []byte {
	tagged := false
	if r.Shape != nil {
		_, tagged = r.Shape.Index(typeField)
	}
	if tagged {
		dst = append(dst, `{"$type":"object","value":`...)
	}
	dst = append(dst, '{')
	for i := range min(r.Shape.Len(), len(r.Values)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, r.Shape.Names[i]), ':')
		dst = r.Values[i].AppendJSON(dst)
	}
	dst = append(dst, '}')
	if tagged {
		dst = append(dst, '}')
	}
	return dst
}

// appendQuoted writes valid UTF-8 as a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// String shows the value to people: text as it is, bytes as hexadecimal digits,
// arrays and objects as JSON. Use AppendJSON for programs.
func (v Value) String() string {
	switch v.kind {
	case KindString, KindJSON, KindForeign:
		return v.str
	case KindBytes:
		return hex.EncodeToString([]byte(v.str))
	case KindFloat32:
		return strconv.FormatFloat(v.Float(), 'g', -1, 32)
	case KindFloat64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case KindUint64, KindDecimal, KindDate, KindTime, KindLocalTimestamp, KindTimestamp, KindUUID:
		return string(v.appendText(nil))
	case KindInterval, KindBlob:
		return string(v.appendTaggedValue(nil))
	}
	return string(v.AppendJSON(nil))
}
