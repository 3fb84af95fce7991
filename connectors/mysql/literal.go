package mysql

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A cellWriter appends a non-null value as a literal of SQL. A value that the
// column cannot hold exactly is E_VALUE.
type cellWriter func(dst []byte, v *page.Value) ([]byte, error)

// badValue is a value that the target's type cannot hold. The caller adds the
// field.
func badValue(why string) *fault.Error {
	return fault.Of("E_VALUE").WithSource(name).WithCause("the value " + why)
}

func badKind(v *page.Value, typeName string) error {
	return badValue("is of kind " + v.Kind().String() + ", which has no place in a column of type " + typeName)
}

// writerOf returns the writer for a column.
func writerOf(c *column) cellWriter {
	switch c.typeName {
	case "tinyint":
		return integerWriter(c, 8)
	case "smallint":
		return integerWriter(c, 16)
	case "mediumint":
		return integerWriter(c, 24)
	case "int", "integer":
		return integerWriter(c, 32)
	case "bigint":
		return integerWriter(c, 64)
	case "year":
		return appendYear
	case "bit":
		return bitWriter(c.precision)
	case "float":
		return floatWriter(32)
	case "double", "real":
		return floatWriter(64)
	case "decimal", "numeric":
		return decimalWriter(c.precision, c.scale)
	case "json":
		return appendJSON
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
		"geometrycollection", "geomcollection":
		return appendGeometry
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return bytesWriter(c)
	}
	if w := temporalWriterOf(c); w != nil {
		return w
	}
	return textWriter(c)
}

// appendQuoted appends a text literal. Whether a backslash means something is a
// matter of the session's mode, so texts that have one go in hexadecimal.
func appendQuoted(dst []byte, text string) []byte {
	if strings.IndexByte(text, '\\') >= 0 {
		return append(hex.AppendEncode(append(dst, "_utf8mb4 x'"...), []byte(text)), '\'')
	}
	dst = append(dst, '\'')
	for {
		i := strings.IndexByte(text, '\'')
		if i < 0 {
			break
		}
		dst = append(append(dst, text[:i]...), "''"...)
		text = text[i+1:]
	}
	return append(append(dst, text...), '\'')
}

func appendBytes(dst, b []byte) []byte {
	return append(hex.AppendEncode(append(dst, "x'"...), b), '\'')
}

// appendDouble appends a floating-point literal: it has an exponent.
func appendDouble(dst []byte, f float64) []byte {
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

func integerWriter(c *column, size int) cellWriter {
	low, high := int64(-1)<<(size-1), int64(1)<<(size-1)-1
	if c.unsigned {
		if size == 64 {
			return appendUnsigned
		}
		low, high = 0, int64(1)<<size-1
	}
	return func(dst []byte, v *page.Value) ([]byte, error) {
		i, exact := v.Int(), v.Kind() == page.KindInt64
		if !exact {
			i, exact = sqldb.Integer(v)
		}
		if !exact {
			return dst, badValue("is not a whole number that fits 64 bits")
		}
		if i < low || i > high {
			return dst, badValue("is outside " + strconv.FormatInt(low, 10) + " to " + strconv.FormatInt(high, 10))
		}
		return strconv.AppendInt(dst, i, 10), nil
	}
}

func appendUnsigned(dst []byte, v *page.Value) ([]byte, error) {
	u, ok := toUnsigned(v)
	if !ok {
		return dst, badValue("is not a whole number from 0 to 18446744073709551615")
	}
	return strconv.AppendUint(dst, u, 10), nil
}

// toUnsigned is the whole number that v is.
func toUnsigned(v *page.Value) (uint64, bool) {
	if v.Kind() == page.KindUint64 {
		return v.Uint(), true
	}
	if i, exact := sqldb.Integer(v); exact {
		return uint64(i), i >= 0
	}
	d, err := sqldb.Decimal(v)
	if err != nil || d.Special() != 0 || d.Decimal().Exponent > 20 || d.Decimal().NumDigits() > 60 {
		return 0, false
	}
	text := d.Decimal().Text('f')
	if whole, fraction, found := strings.Cut(text, "."); found && strings.Trim(fraction, "0") == "" {
		text = whole
	}
	u, err := strconv.ParseUint(text, 10, 64)
	return u, err == nil
}

// appendYear takes the years that the type has: two digits would be guessed at.
func appendYear(dst []byte, v *page.Value) ([]byte, error) {
	i, exact := sqldb.Integer(v)
	if !exact || i != 0 && (i < 1901 || i > 2155) {
		return dst, badValue("is not a year from 1901 to 2155")
	}
	return strconv.AppendInt(dst, i, 10), nil
}

// bitWriter takes numbers, bytes, and bits in the notation of PostgreSQL.
func bitWriter(width int) cellWriter {
	return func(dst []byte, v *page.Value) ([]byte, error) {
		u, ok := uint64(0), false
		switch v.Kind() {
		case page.KindBytes:
			if ok = len(v.Bytes()) <= 8; ok {
				u = bits(v.Bytes())
			}
		case page.KindForeign:
			parsed, err := strconv.ParseUint(v.Text(), 2, 64)
			u, ok = parsed, err == nil && len(v.Text()) <= width
		default:
			u, ok = toUnsigned(v)
		}
		if !ok || width < 64 && u>>width != 0 {
			return dst, badValue("does not fit " + strconv.Itoa(width) + " bits")
		}
		return strconv.AppendUint(dst, u, 10), nil
	}
}

func floatWriter(size int) cellWriter {
	return func(dst []byte, v *page.Value) ([]byte, error) {
		f, err := sqldb.Float(v, size)
		switch {
		case err != nil:
			return dst, badValue(err.Error())
		case math.IsNaN(f) || math.IsInf(f, 0):
			return dst, badValue("is not finite, which no column of this system can hold")
		case size == 32:
			return appendDouble(dst, float64(float32(f))), nil
		}
		return appendDouble(dst, f), nil
	}
}

// decimalWriter refuses digits that the server would round away, and numbers
// that are too long for a literal.
func decimalWriter(precision, scale int) cellWriter {
	return func(dst []byte, v *page.Value) ([]byte, error) {
		if v.Kind() == page.KindInt64 {
			return strconv.AppendInt(dst, v.Int(), 10), nil
		}
		d, err := sqldb.Decimal(v)
		if err != nil {
			return dst, badValue(err.Error())
		}
		if neg, coef, exp, small := d.SmallDecimal(); small && d.Special() == 0 && exp <= 0 && int(-exp) <= scale {
			plain := page.Decimal(neg, coef, exp)
			return sqldb.AppendDecimal(dst, &plain), nil
		}
		if d.Special() != 0 {
			return dst, badValue("is not finite, which a decimal of this system cannot be")
		}
		x := new(apd.Decimal)
		x.Reduce(d.Decimal())
		if x.IsZero() {
			return append(dst, '0'), nil
		}
		if x.NumDigits()+int64(x.Exponent) > int64(precision-scale) {
			return dst, badValue("has too many digits before the point")
		}
		if -int64(x.Exponent) > int64(scale) {
			return dst, badValue("has more than " + strconv.Itoa(scale) + " digits after the point")
		}
		return append(dst, x.Text('f')...), nil
	}
}

// textWriter appends the text of any value. What is too long is found here,
// because the server cuts blanks off in silence.
func textWriter(c *column) cellWriter {
	limit, byCharacter := c.length, c.typeName == "char" || c.typeName == "varchar"
	if c.typeName == "enum" || c.typeName == "set" {
		limit = 0
	}
	return func(dst []byte, v *page.Value) ([]byte, error) {
		text := v.Text()
		if v.Kind() != page.KindString {
			b, ok := sqldb.AppendText(nil, v)
			if !ok {
				return dst, badKind(v, c.typeName)
			}
			text = string(b)
		}
		if !utf8.ValidString(text) {
			return dst, badValue("is not valid UTF-8")
		}
		if limit > 0 && len(text) > limit && (!byCharacter || utf8.RuneCountInString(text) > limit) {
			return dst, badValue("is longer than " + strconv.Itoa(limit))
		}
		return appendQuoted(dst, text), nil
	}
}

func bytesWriter(c *column) cellWriter {
	return func(dst []byte, v *page.Value) ([]byte, error) {
		b := v.Bytes()
		switch v.Kind() {
		case page.KindBytes:
		case page.KindUUID:
			u := v.UUID()
			b = u[:]
		case page.KindString:
			digits, ok := strings.CutPrefix(v.Text(), `\x`)
			parsed, err := hex.DecodeString(digits)
			if !ok || err != nil {
				return dst, badValue(`is a text that is not bytes written as \x…`)
			}
			b = parsed
		default:
			return dst, badKind(v, c.typeName)
		}
		if c.length > 0 && len(b) > c.length {
			return dst, badValue("is longer than " + strconv.Itoa(c.length) + " bytes")
		}
		return appendBytes(dst, b), nil
	}
}

// appendJSON appends verbatim JSON and JSON in a text as they are, any other
// value as plain JSON.
func appendJSON(dst []byte, v *page.Value) ([]byte, error) {
	switch v.Kind() {
	case page.KindBlob:
		return dst, badKind(v, "json")
	case page.KindString:
		if !json.Valid(v.Bytes()) {
			return dst, badValue("is a text that is not JSON")
		}
		return appendQuoted(dst, v.Text()), nil
	}
	return appendQuoted(dst, string(sqldb.AppendJSON(nil, v))), nil
}

func appendGeometry(dst []byte, v *page.Value) ([]byte, error) {
	text := v.Text()
	switch v.Kind() {
	case page.KindForeign, page.KindString:
	case page.KindBytes:
		text = hex.EncodeToString(v.Bytes())
	default:
		return dst, badKind(v, "geometry")
	}
	stored, err := parseGeometry(text)
	if err != nil {
		return dst, err
	}
	return appendBytes(dst, stored), nil
}

func parseUUID(text string) ([16]byte, error) {
	u, err := uuid.Parse(text)
	return u, err
}
