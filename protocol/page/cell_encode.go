package page

import (
	"encoding/binary"
	"fmt"
	"math"

	"ropeway/protocol/fault"
)

// A cell is a tag and the value's bytes. The tag holds the kind in its lower
// five bits and a flag of that kind in the upper three.
const (
	kindBits = 5
	kindMask = 1<<kindBits - 1

	flagTrue   = 1 // bool
	flagOffset = 1 // timestamp: the offset is not 0 and follows
)

func tag(k Kind, flag uint8) byte { return byte(k) | flag<<kindBits }

// Null writes a null.
func (e *Encoder) Null() {
	e.left--
	e.buf = append(e.buf, byte(KindNull))
}

// Bool writes a truth value.
func (e *Encoder) Bool(b bool) {
	e.left--
	if b {
		e.buf = append(e.buf, tag(KindBool, flagTrue))
		return
	}
	e.buf = append(e.buf, byte(KindBool))
}

// Int64 writes a signed integer.
func (e *Encoder) Int64(i int64) {
	e.left--
	e.buf = appendTagged(e.buf, byte(KindInt64), zigzag(i))
}

// Uint64 writes an unsigned integer.
func (e *Encoder) Uint64(u uint64) {
	e.left--
	e.buf = appendTagged(e.buf, byte(KindUint64), u)
}

// Float32 writes a floating-point number; every NaN becomes the same NaN.
func (e *Encoder) Float32(f float32) {
	e.left--
	e.buf = append(e.buf, byte(KindFloat32))
	e.buf = binary.BigEndian.AppendUint32(e.buf, bits32(f))
}

// Float64 writes a floating-point number; every NaN becomes the same NaN.
func (e *Encoder) Float64(f float64) {
	e.left--
	e.buf = append(e.buf, byte(KindFloat64))
	e.buf = binary.BigEndian.AppendUint64(e.buf, bits64(f))
}

// Decimal writes (-1)^neg · coef · 10^exp exactly.
func (e *Encoder) Decimal(neg bool, coef uint64, exp int32) {
	e.left--
	e.decimal(Decimal(neg, coef, exp))
}

// DecimalBig writes a decimal with a big-endian coefficient of any length up to
// MaxCoefficient.
func (e *Encoder) DecimalBig(neg bool, coef []byte, exp int32) {
	e.left--
	e.decimal(decimalOf(neg, coef, exp))
}

// DecimalSpecial writes NaN or an infinity.
func (e *Encoder) DecimalSpecial(s Special) {
	e.left--
	e.decimal(DecimalSpecial(s))
}

func (e *Encoder) decimal(v Value) {
	e.buf = append(e.buf, tag(KindDecimal, v.flag))
	if v.flag >= decimalSpecial {
		if v.Special() < NaN || v.Special() > NegInfinity {
			e.fail(misuse("unknown special decimal"))
		}
		return
	}
	if v.aux > MaxExponent || v.aux < -MaxExponent || len(v.str) > MaxCoefficient {
		e.fail(fault.Of("E_VALUE").WithSentence("the decimal is beyond the limits").
			WithCause(fmt.Sprintf("exponent %d, %d bytes of digits", v.aux, len(v.str))))
		return
	}
	e.buf = binary.AppendUvarint(e.buf, zigzag(int64(v.aux)))
	if v.flag&decimalBig != 0 {
		e.buf = appendText(e.buf, v.str)
		return
	}
	e.buf = binary.AppendUvarint(e.buf, v.num)
}

// String writes text.
func (e *Encoder) String(s string) {
	e.left--
	e.buf = append(appendTagged(e.buf, byte(KindString), uint64(len(s))), s...)
}

// StringBytes writes text that is at hand as bytes.
func (e *Encoder) StringBytes(b []byte) {
	e.left--
	e.buf = append(appendTagged(e.buf, byte(KindString), uint64(len(b))), b...)
}

// Bytes writes binary data.
func (e *Encoder) Bytes(b []byte) {
	e.left--
	e.buf = append(appendTagged(e.buf, byte(KindBytes), uint64(len(b))), b...)
}

// JSON writes verbatim JSON text.
func (e *Encoder) JSON(b []byte) {
	e.left--
	e.buf = append(appendTagged(e.buf, byte(KindJSON), uint64(len(b))), b...)
}

// Foreign writes the text of a value of a type that has no kind here.
func (e *Encoder) Foreign(typeName, text string) {
	e.left--
	e.foreign(typeName, text)
}

func (e *Encoder) foreign(typeName, text string) {
	e.buf = appendTagged(e.buf, byte(KindForeign), uint64(e.dict.name(typeName)))
	e.buf = appendText(e.buf, text)
}

// Date writes a day, counted from 1970-01-01, of the years 1–9999.
func (e *Encoder) Date(days int32) {
	e.left--
	if !validDate(int64(days)) {
		e.outside("date", int64(days))
	}
	e.buf = appendTagged(e.buf, byte(KindDate), zigzag(int64(days)))
}

// Time writes a time of the day in microseconds, 0 to 24 h inclusive.
func (e *Encoder) Time(us int64) {
	e.left--
	if !validTime(us) {
		e.outside("time", us)
	}
	e.buf = appendTagged(e.buf, byte(KindTime), uint64(us))
}

// LocalTimestamp writes microseconds since 1970-01-01T00:00:00 without a zone.
func (e *Encoder) LocalTimestamp(us int64) {
	e.left--
	if !validLocal(us) {
		e.outside("local timestamp", us)
	}
	e.buf = append(e.buf, byte(KindLocalTimestamp))
	e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(us))
}

// Timestamp writes microseconds since 1970-01-01T00:00:00Z and the offset in
// seconds east of UTC.
func (e *Encoder) Timestamp(us int64, offset int32) {
	e.left--
	if !validTimestamp(us, offset) {
		e.outside("timestamp", us)
	}
	if offset == 0 {
		e.buf = append(e.buf, byte(KindTimestamp))
		e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(us))
		return
	}
	e.buf = append(e.buf, tag(KindTimestamp, flagOffset))
	e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(us))
	e.buf = binary.AppendUvarint(e.buf, zigzag(int64(offset)))
}

func (e *Encoder) outside(what string, n int64) {
	e.fail(fault.Of("E_VALUE").WithSentence("the " + what + " is outside the years 1 to 9999").
		WithCause(fmt.Sprint(n)))
}

// Interval writes months, days and microseconds.
func (e *Encoder) Interval(months, days int32, us int64) {
	e.left--
	e.buf = appendInterval(append(e.buf, byte(KindInterval)), months, days, us)
}

// UUID writes 128 bits.
func (e *Encoder) UUID(u [16]byte) {
	e.left--
	e.buf = append(e.buf, byte(KindUUID))
	e.buf = append(e.buf, u[:]...)
}

// Reference writes a reference to a value in chunk pages.
func (e *Encoder) Reference(r Ref) {
	e.left--
	if !validRefKind(r.Of) {
		e.fail(misuse("a reference to a value of kind " + r.Of.String()))
	}
	e.buf = appendRef(append(e.buf, byte(KindBlob)), r)
}

func validRefKind(k Kind) bool { return k == KindBytes || k == KindString || k == KindJSON }

// Value writes any value.
func (e *Encoder) Value(v Value) {
	switch v.kind {
	case KindArray, KindObject:
		e.left--
		e.container(v)
	case KindNull:
		e.Null()
	case KindBool:
		e.Bool(v.num != 0)
	case KindInt64:
		e.Int64(int64(v.num))
	case KindUint64:
		e.Uint64(v.num)
	case KindFloat32:
		e.Float32(math.Float32frombits(uint32(v.num)))
	case KindFloat64:
		e.Float64(math.Float64frombits(v.num))
	case KindDecimal:
		e.left--
		e.decimal(v)
	case KindString:
		e.String(v.str)
	case KindBytes, KindJSON:
		e.left--
		e.buf = append(appendTagged(e.buf, byte(v.kind), uint64(len(v.str))), v.str...)
	case KindDate:
		e.Date(int32(v.num))
	case KindTime:
		e.Time(int64(v.num))
	case KindLocalTimestamp:
		e.LocalTimestamp(int64(v.num))
	case KindTimestamp:
		e.Timestamp(int64(v.num), v.aux)
	case KindInterval, KindUUID:
		e.left--
		e.buf = append(append(e.buf, byte(v.kind)), v.str...)
	case KindForeign:
		e.Foreign(v.more.typ, v.str)
	case KindBlob:
		e.Reference(parseRef(v.str))
	}
}

// container writes an array or object and what is in it.
func (e *Encoder) container(v Value) {
	e.items += len(v.more.items)
	if v.more.depth > MaxDepth || e.items > MaxItems {
		e.fail(fault.Of("E_TOO_LARGE").WithCause(fmt.Sprintf(
			"arrays and objects nest %d deep (at most %d) and hold %d values (at most %d)",
			v.more.depth, MaxDepth, e.items, MaxItems)))
		return
	}
	n := len(v.more.items)
	if v.kind == KindArray {
		e.buf = appendTagged(e.buf, byte(KindArray), uint64(n))
	} else {
		e.buf = appendTagged(e.buf, byte(KindObject), e.shape(v.more.shape))
	}
	left := e.left
	for i := range v.more.items {
		e.Value(v.more.items[i])
	}
	e.left = left
}

// appendTagged writes a tag and a number.
func appendTagged(b []byte, tag byte, u uint64) []byte {
	if u < 0x80 {
		return append(b, tag, byte(u))
	}
	return binary.AppendUvarint(append(b, tag), u)
}
