package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A cellWriter appends a non-null cell in the binary form of its column's type,
// length first. A value that the type cannot hold exactly is E_VALUE; a value
// that only the server can read (as text) is errAsText.
type cellWriter func(dst []byte, v *page.Value) ([]byte, error)

// errAsText asks for the column to be sent as text and cast by the server.
var errAsText = errors.New("the server must read this value as text")

// badValue is a value that the target's type cannot hold. The caller adds the
// field.
func badValue(why string) *fault.Error {
	return fault.Of("E_VALUE").WithSource(name).WithCause("the value " + why)
}

func badKind(v *page.Value, typeName string) error {
	return badValue("is of kind " + v.Kind().String() + ", which has no place in a column of type " + typeName)
}

// writerOf returns the writer for a column; nil when values go as text.
func writerOf(c *column) cellWriter {
	if c.element != 0 {
		if !native(c.element) {
			return nil
		}
		element := writerOf(&column{oid: c.element, typmod: c.typmod, typeName: c.typeName})
		oid := c.element
		return func(dst []byte, v *page.Value) ([]byte, error) {
			return appendArray(dst, v, oid, element)
		}
	}
	switch c.oid {
	case oidBool:
		return appendBool
	case oidInt2:
		return integerWriter(2, math.MinInt16, math.MaxInt16)
	case oidInt4:
		return integerWriter(4, math.MinInt32, math.MaxInt32)
	case oidInt8:
		return integerWriter(8, math.MinInt64, math.MaxInt64)
	case oidFloat4:
		return appendFloat4
	case oidFloat8:
		return appendFloat8
	case oidNumeric:
		scale := c.scale()
		return func(dst []byte, v *page.Value) ([]byte, error) { return appendNumeric(dst, v, scale) }
	case oidText, oidVarchar, oidBPChar, oidName:
		return appendTextCell
	case oidBytea:
		return appendBytea
	case oidUUID:
		return appendUUID
	case oidJSON:
		return func(dst []byte, v *page.Value) ([]byte, error) { return appendJSONCell(dst, v, false) }
	case oidJSONB:
		return func(dst []byte, v *page.Value) ([]byte, error) { return appendJSONCell(dst, v, true) }
	}
	return temporalWriterOf(c.oid)
}

// measured appends what f appends behind its length.
func measured(dst []byte, f func([]byte) []byte) []byte {
	at := len(dst)
	dst = f(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

func appendBool(dst []byte, v *page.Value) ([]byte, error) {
	truth := false
	switch v.Kind() {
	case page.KindBool:
		truth = v.Bool()
	case page.KindString:
		parsed, err := strconv.ParseBool(strings.ToLower(v.Text()))
		if err != nil {
			return dst, badValue("is not a boolean")
		}
		truth = parsed
	default:
		i, err := toInteger(v, 0, 1)
		if err != nil {
			return dst, badKind(v, "boolean")
		}
		truth = i == 1
	}
	if truth {
		return append(dst, 0, 0, 0, 1, 1), nil
	}
	return append(dst, 0, 0, 0, 1, 0), nil
}

func integerWriter(size int, low, high int64) cellWriter {
	return func(dst []byte, v *page.Value) ([]byte, error) {
		i := v.Int()
		if v.Kind() != page.KindInt64 || i < low || i > high {
			var err error
			if i, err = toInteger(v, low, high); err != nil {
				return dst, err
			}
		}
		switch size {
		case 2:
			return binary.BigEndian.AppendUint16(append(dst, 0, 0, 0, 2), uint16(i)), nil
		case 4:
			return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), uint32(i)), nil
		}
		return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(i)), nil
	}
}

// toInteger is the whole number that v is, if it lies between low and high.
func toInteger(v *page.Value, low, high int64) (int64, error) {
	i, exact := sqldb.Integer(v)
	if !exact {
		if v.Kind() == page.KindForeign {
			return 0, errAsText
		}
		return 0, badValue("is not a whole number that fits 64 bits")
	}
	if i < low || i > high {
		return 0, badValue("is outside " + strconv.FormatInt(low, 10) + " to " + strconv.FormatInt(high, 10))
	}
	return i, nil
}

func appendFloat4(dst []byte, v *page.Value) ([]byte, error) {
	f, err := toFloat(v, 32)
	if err != nil {
		return dst, err
	}
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), math.Float32bits(float32(f))), nil
}

func appendFloat8(dst []byte, v *page.Value) ([]byte, error) {
	f, err := toFloat(v, 64)
	if err != nil {
		return dst, err
	}
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), math.Float64bits(f)), nil
}

func toFloat(v *page.Value, bits int) (float64, error) {
	if v.Kind() == page.KindForeign {
		return 0, errAsText
	}
	f, err := sqldb.Float(v, bits)
	if err != nil {
		return 0, badValue(err.Error())
	}
	return f, nil
}

func appendNumeric(dst []byte, v *page.Value, scale int) ([]byte, error) {
	switch v.Kind() {
	case page.KindDecimal:
		return appendNumericValue(dst, v, scale)
	case page.KindInt64:
		i := v.Int()
		if i < 0 {
			return appendNumericInt(dst, true, -uint64(i)), nil
		}
		return appendNumericInt(dst, false, uint64(i)), nil
	case page.KindUint64:
		return appendNumericInt(dst, false, v.Uint()), nil
	case page.KindForeign:
		return dst, errAsText
	}
	d, err := sqldb.Decimal(v)
	if err != nil {
		return dst, badValue(err.Error())
	}
	return appendNumericValue(dst, &d, scale)
}

// appendTextCell appends the text of any value. The server refuses NUL
// characters and text that is not UTF-8; they are found here, before they cost
// a round of bisecting.
func appendTextCell(dst []byte, v *page.Value) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	if v.Kind() == page.KindString {
		dst = append(dst, v.Text()...)
	} else {
		text, ok := sqldb.AppendText(dst, v)
		if !ok {
			return dst, badKind(v, "text")
		}
		dst = text
	}
	text := dst[at+4:]
	if bytes.IndexByte(text, 0) >= 0 {
		return dst, badValue("contains a NUL character")
	}
	if !utf8.Valid(text) {
		return dst, badValue("is not valid UTF-8")
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(text)))
	return dst, nil
}

// appendCastCell appends a value as text that the server casts: arrays in its
// own notation, anything else as text.
func appendCastCell(dst []byte, v *page.Value) ([]byte, error) {
	if v.Kind() != page.KindArray {
		return appendTextCell(dst, v)
	}
	text := page.String(string(appendArrayText(nil, v)))
	return appendTextCell(dst, &text)
}

func appendArrayText(b []byte, v *page.Value) []byte {
	b = append(b, '{')
	items := v.Items()
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		if items[i].Kind() == page.KindArray {
			b = appendArrayText(b, &items[i])
		} else {
			b = appendElement(b, &items[i])
		}
	}
	return append(b, '}')
}

func appendBytea(dst []byte, v *page.Value) ([]byte, error) {
	switch v.Kind() {
	case page.KindBytes:
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Bytes())))
		return append(dst, v.Bytes()...), nil
	case page.KindUUID:
		u := v.UUID()
		return append(append(dst, 0, 0, 0, 16), u[:]...), nil
	case page.KindString:
		if digits, ok := strings.CutPrefix(v.Text(), `\x`); ok {
			if b, err := hex.DecodeString(digits); err == nil {
				return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...), nil
			}
		}
		return dst, badValue(`is a text that is not bytes written as \x…`)
	}
	return dst, badKind(v, "bytea")
}

func appendUUID(dst []byte, v *page.Value) ([]byte, error) {
	var u uuid.UUID
	switch {
	case v.Kind() == page.KindUUID:
		u = v.UUID()
	case v.Kind() == page.KindString:
		parsed, err := uuid.Parse(v.Text())
		if err != nil {
			return dst, badValue("is not a uuid")
		}
		u = parsed
	case v.Kind() == page.KindBytes && len(v.Bytes()) == 16:
		copy(u[:], v.Bytes())
	default:
		return dst, badKind(v, "uuid")
	}
	return append(append(dst, 0, 0, 0, 16), u[:]...), nil
}

// appendJSONCell appends verbatim JSON and JSON in a text as they are, any
// other value as plain JSON.
func appendJSONCell(dst []byte, v *page.Value, binaryForm bool) ([]byte, error) {
	if v.Kind() == page.KindBlob {
		return dst, badKind(v, "json")
	}
	if v.Kind() == page.KindString && !json.Valid(v.Bytes()) {
		return dst, badValue("is a text that is not JSON")
	}
	return measured(dst, func(b []byte) []byte {
		if binaryForm {
			b = append(b, 1)
		}
		if v.Kind() == page.KindString {
			return append(b, v.Text()...)
		}
		return sqldb.AppendJSON(b, v)
	}), nil
}

// appendArray appends nested arrays as an array of that many dimensions.
func appendArray(dst []byte, v *page.Value, oid uint32, element cellWriter) ([]byte, error) {
	switch v.Kind() {
	case page.KindArray:
	case page.KindForeign, page.KindString:
		return dst, errAsText
	default:
		return dst, badKind(v, "an array")
	}
	dims, err := shapeOf(v)
	if err != nil {
		return dst, err
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(dims)))
	dst = binary.BigEndian.AppendUint32(dst, 1) // there may be nulls
	dst = binary.BigEndian.AppendUint32(dst, oid)
	for _, n := range dims {
		dst = binary.BigEndian.AppendUint32(dst, uint32(n))
		dst = binary.BigEndian.AppendUint32(dst, 1)
	}
	if len(dims) > 0 {
		if dst, err = appendItems(dst, v, dims, element); err != nil {
			return dst, err
		}
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst, nil
}

// shapeOf is the length of each dimension, by the first item of each.
func shapeOf(v *page.Value) ([]int, error) {
	var dims []int
	for v.Kind() == page.KindArray {
		items := v.Items()
		if len(items) == 0 {
			if len(dims) > 0 {
				return nil, badValue("has an empty array inside an array")
			}
			return nil, nil
		}
		if dims = append(dims, len(items)); len(dims) > maxDimensions {
			return nil, badValue("has more than 6 dimensions")
		}
		v = &items[0]
	}
	return dims, nil
}

func appendItems(dst []byte, v *page.Value, dims []int, element cellWriter) ([]byte, error) {
	items := v.Items()
	if len(items) != dims[0] {
		return dst, badValue("has arrays of different lengths inside an array")
	}
	for i := range items {
		item := &items[i]
		var err error
		switch {
		case len(dims) > 1:
			if item.Kind() != page.KindArray {
				return dst, badValue("mixes arrays and single values inside an array")
			}
			dst, err = appendItems(dst, item, dims[1:], element)
		case item.IsNull():
			dst = append(dst, 0xFF, 0xFF, 0xFF, 0xFF)
		case item.Kind() == page.KindArray:
			return dst, badValue("mixes arrays and single values inside an array")
		default:
			dst, err = element(dst, item)
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}
