package mysql

import (
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A cellReader writes a non-null value of the driver into a record.
type cellReader func(e *page.Encoder, v driver.Value) error

// readerOf returns the reader of a type as the driver names it, or of one of
// MariaDB's own, and whether values of it can be a key.
func readerOf(typeName string) (read cellReader, kind keyKind) {
	switch typeName {
	case "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "YEAR",
		"UNSIGNED TINYINT", "UNSIGNED SMALLINT", "UNSIGNED MEDIUMINT", "UNSIGNED INT":
		return readInteger, keyInteger
	case "UNSIGNED BIGINT":
		return readUnsigned, keyUnsigned
	case "BIT":
		return readBit, keyUnsigned
	case "FLOAT":
		return readFloat, keyFloat
	case "DOUBLE":
		return readDouble, keyFloat
	case "DECIMAL":
		return bytesReader(readDecimal), keyDecimal
	case "DATE":
		return bytesReader(readDate), keyDate
	case "DATETIME":
		return bytesReader(readDateTime), keyTimestamp
	case "TIMESTAMP":
		return bytesReader(readTimestamp), keyTimestamp
	case "TIME":
		return bytesReader(readTime), keyTime
	case "CHAR", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT":
		return bytesReader(readText), keyText
	case "ENUM", "SET":
		return bytesReader(readText), keyNone // sorted by number, compared by text
	case "BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB":
		return bytesReader(readBytes), keyBytes
	case "JSON":
		return bytesReader(readJSON), keyNone
	case "GEOMETRY":
		return bytesReader(readGeometry), keyNone
	case "uuid":
		return bytesReader(readUUID), keyText
	case "inet4", "inet6":
		return foreignReader(typeName), keyText
	}
	return foreignReader(strings.ToLower(typeName)), keyNone
}

func bytesReader(read func(*page.Encoder, []byte) error) cellReader {
	return func(e *page.Encoder, v driver.Value) error {
		b, ok := v.([]byte)
		if !ok {
			return badCell()
		}
		return read(e, b)
	}
}

func badCell() error {
	return fault.Of("E_INTERNAL").WithSource(name).WithCause("the driver gave a value of another type")
}

func readInteger(e *page.Encoder, v driver.Value) error {
	i, ok := v.(int64)
	if !ok {
		return badCell()
	}
	e.Int64(i)
	return nil
}

func readUnsigned(e *page.Encoder, v driver.Value) error {
	u, err := unsigned(v)
	if err != nil {
		return err
	}
	e.Uint64(u)
	return nil
}

// unsigned is a number that the driver gives as digits when it has 64 bits.
func unsigned(v driver.Value) (uint64, error) {
	switch v := v.(type) {
	case int64:
		return uint64(v), nil
	case []byte:
		u, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return 0, badCell()
		}
		return u, nil
	}
	return 0, badCell()
}

func readBit(e *page.Encoder, v driver.Value) error {
	b, ok := v.([]byte)
	if !ok || len(b) > 8 {
		return badCell()
	}
	e.Uint64(bits(b))
	return nil
}

func bits(b []byte) uint64 {
	var eight [8]byte
	copy(eight[8-len(b):], b)
	return binary.BigEndian.Uint64(eight[:])
}

func readFloat(e *page.Encoder, v driver.Value) error {
	f, ok := v.(float32)
	if !ok {
		return badCell()
	}
	e.Float32(f)
	return nil
}

func readDouble(e *page.Encoder, v driver.Value) error {
	f, ok := v.(float64)
	if !ok {
		return badCell()
	}
	e.Float64(f)
	return nil
}

// readDecimal reads [-]digits[.digits].
func readDecimal(e *page.Encoder, b []byte) error {
	digits, negative := b, false
	if len(digits) > 0 && digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	var coef uint64
	scale, point := 0, false
	for _, c := range digits {
		switch {
		case c == '.' && !point:
			point = true
			continue
		case c < '0' || c > '9':
			return badCell()
		}
		if coef > (1<<64-10)/10 {
			return readLongDecimal(e, digits, negative)
		}
		coef = coef*10 + uint64(c-'0')
		if point {
			scale++
		}
	}
	e.Decimal(negative, coef, int32(-scale))
	return nil
}

func readLongDecimal(e *page.Encoder, digits []byte, negative bool) error {
	whole, fraction, _ := strings.Cut(string(digits), ".")
	coef, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok || len(digits) > 100 {
		return badCell()
	}
	e.DecimalBig(negative, coef.Bytes(), int32(-len(fraction)))
	return nil
}

func readText(e *page.Encoder, b []byte) error {
	if !utf8.Valid(b) {
		return fault.Of("E_QUERY").WithSource(name).WithCause("a text is not in the character set of its column")
	}
	e.StringBytes(b)
	return nil
}

func readBytes(e *page.Encoder, b []byte) error {
	e.Bytes(b)
	return nil
}

func readJSON(e *page.Encoder, b []byte) error {
	e.JSON(b)
	return nil
}

func readUUID(e *page.Encoder, b []byte) error {
	v, err := parseUUID(string(b))
	if err != nil {
		return badCell()
	}
	e.UUID(v)
	return nil
}

func foreignReader(typeName string) cellReader {
	return bytesReader(func(e *page.Encoder, b []byte) error {
		text := string(b)
		if !utf8.Valid(b) {
			text = hex.EncodeToString(b)
		}
		e.Foreign(typeName, text)
		return nil
	})
}

func readDate(e *page.Encoder, b []byte) error {
	days, ok := parseDays(b)
	if !ok {
		e.Foreign("date", string(b))
		return nil
	}
	e.Date(int32(days))
	return nil
}

func readDateTime(e *page.Encoder, b []byte) error {
	us, ok := parseMoment(b)
	if !ok {
		e.Foreign("datetime", string(b))
		return nil
	}
	e.LocalTimestamp(us)
	return nil
}

func readTimestamp(e *page.Encoder, b []byte) error {
	us, ok := parseMoment(b)
	if !ok {
		e.Foreign("timestamp", string(b))
		return nil
	}
	e.Timestamp(us, 0) // the session's zone is UTC
	return nil
}

// dayMicros is a day in microseconds.
const dayMicros = 86_400_000_000

func readTime(e *page.Encoder, b []byte) error {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	us, ok := parseClock(b)
	switch {
	case !ok:
		return badCell()
	case negative && us > 0:
		e.Interval(0, 0, -us)
	case us >= dayMicros:
		e.Interval(0, 0, us)
	default:
		e.Time(us)
	}
	return nil
}

// parseDays reads YYYY-MM-DD as days since 1970-01-01. ok is false for days that
// are in no calendar, such as 2024-00-00, and for the year 0.
func parseDays(b []byte) (days int64, ok bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	year, ok1 := number(b[:4])
	month, ok2 := number(b[5:7])
	day, ok3 := number(b[8:])
	if !ok1 || !ok2 || !ok3 || year < 1 || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return t.Unix() / 86400, t.Day() == day // midnights divide without a rest
}

// parseMoment reads YYYY-MM-DD hh:mm:ss[.ffffff] as microseconds since
// 1970-01-01.
func parseMoment(b []byte) (us int64, ok bool) {
	if len(b) < 19 || b[10] != ' ' {
		return 0, false
	}
	days, ok1 := parseDays(b[:10])
	clock, ok2 := parseClock(b[11:])
	return days*dayMicros + clock, ok1 && ok2 && clock < dayMicros
}

// parseClock reads h…h:mm:ss[.ffffff] as microseconds.
func parseClock(b []byte) (us int64, ok bool) {
	n := 0
	for n < len(b) && b[n] != ':' {
		n++
	}
	if n < 2 || n > 4 || len(b) < n+6 || b[n+3] != ':' {
		return 0, false
	}
	hours, ok1 := number(b[:n])
	minutes, ok2 := number(b[n+1 : n+3])
	seconds, ok3 := number(b[n+4 : n+6])
	if !ok1 || !ok2 || !ok3 || minutes > 59 || seconds > 59 {
		return 0, false
	}
	us = int64(hours)*3_600_000_000 + int64(minutes)*60_000_000 + int64(seconds)*1_000_000
	rest := b[n+6:]
	if len(rest) == 0 {
		return us, true
	}
	if rest[0] != '.' || len(rest) < 2 || len(rest) > 7 {
		return 0, false
	}
	fraction, ok := number(rest[1:])
	for range 7 - len(rest) {
		fraction *= 10
	}
	return us + int64(fraction), ok
}

// number reads a few decimal digits.
func number(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}
