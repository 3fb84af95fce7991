package page

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/cockroachdb/apd/v3"
)

// A Value is one typed value; the zero Value is null. It is immutable and may
// be copied. A value from a decoder shares memory with the payload: see Clone.
type Value struct {
	kind Kind
	flag uint8  // decimals: see decimal.go
	aux  int32  // decimals: exponent; timestamps: offset in seconds
	num  uint64 // numbers, times, small coefficients
	str  string // strings, bytes, big coefficients, uuids, intervals, references
	more *extra // arrays, objects, foreign types
}

// extra holds what does not fit into a Value.
type extra struct {
	items []Value
	shape *Shape // objects
	depth int    // containers: 1 + the deepest item
	typ   string // foreign: the type's name
}

// Null is the value that says "nothing"; a field may be null or absent.
func Null() Value { return Value{} }

// Bool is a truth value.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// Int is a signed integer.
func Int(i int64) Value { return Value{kind: KindInt64, num: uint64(i)} }

// Uint is an unsigned integer.
func Uint(u uint64) Value { return Value{kind: KindUint64, num: u} }

// Float32 is a binary floating-point number; every NaN is the same NaN.
func Float32(f float32) Value { return Value{kind: KindFloat32, num: uint64(bits32(f))} }

// Float is a binary floating-point number; every NaN is the same NaN.
func Float(f float64) Value { return Value{kind: KindFloat64, num: bits64(f)} }

// String is text. It should be UTF-8 but need not be.
func String(s string) Value { return Value{kind: KindString, str: s} }

// Bytes is binary data. b must not change afterwards.
func Bytes(b []byte) Value { return Value{kind: KindBytes, str: alias(b)} }

// Date is a day of the calendar, counted from 1970-01-01. Days outside the
// years 1–9999 cannot be encoded.
func Date(days int32) Value { return Value{kind: KindDate, num: uint64(int64(days))} }

// DateOf is the day that t shows in its own zone.
func DateOf(t time.Time) Value {
	y, m, d := t.Date()
	return Date(int32(daysFromCivil(int64(y), int(m), d)))
}

// Time is a time of the day in microseconds, 0 to 24 h inclusive.
func Time(us int64) Value { return Value{kind: KindTime, num: uint64(us)} }

// LocalTimestamp is what calendar and clock on the wall show, in microseconds
// since 1970-01-01T00:00:00, without a zone; years 1–9999.
func LocalTimestamp(us int64) Value { return Value{kind: KindLocalTimestamp, num: uint64(us)} }

// LocalTimestampOf is what t shows in its own zone.
func LocalTimestampOf(t time.Time) Value {
	_, off := t.Zone()
	return LocalTimestamp(t.UnixMicro() + int64(off)*1e6)
}

// Timestamp is a point in time in microseconds since 1970-01-01T00:00:00Z and
// the offset in seconds east of UTC that it was written with (less than 24 h);
// shown with that offset it lies in the years 1–9999.
func Timestamp(us int64, offset int32) Value {
	return Value{kind: KindTimestamp, num: uint64(us), aux: offset}
}

// TimestampOf is t with the offset of its zone; nanoseconds are cut.
func TimestampOf(t time.Time) Value {
	_, off := t.Zone()
	return Timestamp(t.UnixMicro(), int32(off))
}

// Interval is a span of months, days and microseconds that are not convertible
// into each other.
func Interval(months, days int32, us int64) Value {
	b := appendInterval(make([]byte, 0, 16), months, days, us)
	return Value{kind: KindInterval, str: alias(b)}
}

// UUID is 128 bits as RFC 9562 shows them.
func UUID(u [16]byte) Value { return Value{kind: KindUUID, str: string(u[:])} }

// Array is an ordered list. items must not change afterwards.
func Array(items []Value) Value {
	return Value{kind: KindArray, more: &extra{items: items, depth: 1 + deepest(items)}}
}

// Object is a record inside a record. values has the length of s.Names and must
// not change afterwards; a shorter list is filled with nulls.
func Object(s *Shape, values []Value) Value {
	if s == nil {
		s = &Shape{}
	}
	if len(values) != len(s.Names) {
		fitted := make([]Value, len(s.Names))
		copy(fitted, values)
		values = fitted
	}
	return Value{kind: KindObject, more: &extra{items: values, shape: s, depth: 1 + deepest(values)}}
}

// JSON is JSON text that is kept exactly as it is. raw must not change
// afterwards and is not checked.
func JSON(raw []byte) Value { return Value{kind: KindJSON, str: alias(raw)} }

// Foreign is the text of a value whose type exists only at its system. Invalid
// UTF-8 in the name of the type becomes U+FFFD.
func Foreign(typeName, text string) Value {
	typ := strings.ToValidUTF8(typeName, "\uFFFD")
	return Value{kind: KindForeign, str: text, more: &extra{typ: typ}}
}

// Reference stands for a value in chunk pages.
func Reference(r Ref) Value { return Value{kind: KindBlob, str: alias(appendRef(nil, r))} }

// Kind is the value's type.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is null.
func (v Value) IsNull() bool { return v.kind == KindNull }

// Bool is the truth value; false for other kinds.
func (v Value) Bool() bool { return v.kind == KindBool && v.num != 0 }

// Int is the number of an int64; 0 for other kinds.
func (v Value) Int() int64 {
	if v.kind != KindInt64 {
		return 0
	}
	return int64(v.num)
}

// Uint is the number of a uint64; 0 for other kinds.
func (v Value) Uint() uint64 {
	if v.kind != KindUint64 {
		return 0
	}
	return v.num
}

// Float is the number of a float32 or float64; 0 for other kinds.
func (v Value) Float() float64 {
	switch v.kind {
	case KindFloat32:
		return float64(math.Float32frombits(uint32(v.num)))
	case KindFloat64:
		return math.Float64frombits(v.num)
	}
	return 0
}

// Text is the text of a string, verbatim JSON or foreign value; "" for other
// kinds.
func (v Value) Text() string {
	switch v.kind {
	case KindString, KindJSON, KindForeign:
		return v.str
	}
	return ""
}

// Bytes are the bytes of a bytes, string, JSON or foreign value; nil for other
// kinds. They must not be changed.
func (v Value) Bytes() []byte {
	switch v.kind {
	case KindBytes, KindString, KindJSON, KindForeign:
		return unsafe.Slice(unsafe.StringData(v.str), len(v.str))
	}
	return nil
}

// Days are the days of a date since 1970-01-01.
func (v Value) Days() int32 {
	if v.kind != KindDate {
		return 0
	}
	return int32(v.num)
}

// Micros are the microseconds of a time, local timestamp or timestamp.
func (v Value) Micros() int64 {
	switch v.kind {
	case KindTime, KindLocalTimestamp, KindTimestamp:
		return int64(v.num)
	}
	return 0
}

// Offset is a timestamp's offset in seconds east of UTC.
func (v Value) Offset() int32 {
	if v.kind != KindTimestamp {
		return 0
	}
	return v.aux
}

// GoTime is a date (midnight UTC), time (on 1970-01-01 UTC), local timestamp
// (as if UTC) or timestamp (in its offset); the zero time for other kinds.
func (v Value) GoTime() time.Time {
	switch v.kind {
	case KindDate:
		return time.Unix(int64(v.Days())*86400, 0).UTC()
	case KindTime, KindLocalTimestamp:
		return time.UnixMicro(int64(v.num)).UTC()
	case KindTimestamp:
		t := time.UnixMicro(int64(v.num)).UTC()
		if v.aux == 0 {
			return t
		}
		return t.In(time.FixedZone("", int(v.aux)))
	}
	return time.Time{}
}

// Interval are the parts of an interval.
func (v Value) Interval() (months, days int32, us int64) {
	if v.kind != KindInterval {
		return 0, 0, 0
	}
	b := []byte(v.str)
	return int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:])),
		int64(binary.BigEndian.Uint64(b[8:]))
}

// UUID are the 128 bits of a uuid.
func (v Value) UUID() (u [16]byte) {
	if v.kind == KindUUID {
		copy(u[:], v.str)
	}
	return u
}

// Items are the values of an array; nil for other kinds. They must not be
// changed.
func (v Value) Items() []Value {
	if v.kind != KindArray {
		return nil
	}
	return v.more.items
}

// Fields is an object as a record; empty for other kinds.
func (v Value) Fields() Record {
	if v.kind != KindObject {
		return Record{}
	}
	return Record{Shape: v.more.shape, Values: v.more.items}
}

// ForeignType is the type name of a foreign value.
func (v Value) ForeignType() string {
	if v.kind != KindForeign {
		return ""
	}
	return v.more.typ
}

// Ref is the reference of a blob; zero for other kinds.
func (v Value) Ref() Ref {
	if v.kind != KindBlob {
		return Ref{}
	}
	return parseRef(v.str)
}

// Depth is 0 for a scalar, and for arrays and objects one more than their
// deepest item.
func (v Value) Depth() int {
	if v.kind != KindArray && v.kind != KindObject {
		return 0
	}
	return v.more.depth
}

// Decimal is the number of a decimal, exactly; nil for other kinds.
func (v Value) Decimal() *apd.Decimal {
	if v.kind != KindDecimal {
		return nil
	}
	return v.apd()
}

func deepest(items []Value) int {
	depth := 0
	for i := range items {
		depth = max(depth, items[i].Depth())
	}
	return depth
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// nan64 and nan32 are the only NaNs of the format.
const (
	nan64 = 0x7FF8000000000000
	nan32 = 0x7FC00000
)

func bits64(f float64) uint64 {
	if f != f {
		return nan64
	}
	return math.Float64bits(f)
}

func bits32(f float32) uint32 {
	if f != f {
		return nan32
	}
	return math.Float32bits(f)
}

func appendInterval(b []byte, months, days int32, us int64) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(months))
	b = binary.BigEndian.AppendUint32(b, uint32(days))
	return binary.BigEndian.AppendUint64(b, uint64(us))
}

// refSize is id, kind, size and hash.
const refSize = 16 + 1 + 8 + 32

func appendRef(b []byte, r Ref) []byte {
	b = append(b, r.ID[:]...)
	b = append(b, byte(r.Of))
	b = binary.BigEndian.AppendUint64(b, r.Size)
	return append(b, r.Hash[:]...)
}

func parseRef(s string) Ref {
	var r Ref
	copy(r.ID[:], s[:16])
	r.Of = Kind(s[16])
	r.Size = binary.BigEndian.Uint64([]byte(s[17:25]))
	copy(r.Hash[:], s[25:refSize])
	return r
}
