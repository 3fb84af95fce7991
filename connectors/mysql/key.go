package mysql

import (
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A keyKind says how a value of a key is kept in a cursor and written in a
// statement. The numbers are a lasting format within a job.
type keyKind uint32

const (
	keyNone      keyKind = 0 // no key: its order is not that of comparisons
	keyInteger   keyKind = 1
	keyUnsigned  keyKind = 2
	keyFloat     keyKind = 3
	keyDecimal   keyKind = 4
	keyText      keyKind = 5
	keyBytes     keyKind = 6
	keyDate      keyKind = 7
	keyTime      keyKind = 8
	keyTimestamp keyKind = 9
)

// maxSort is how many bytes of a value the server looks at when it sorts
// without an index; a character may become several bytes there. Longer keys
// would come in no order.
const (
	maxSort = 8 << 10
	maxKey  = 1 << 10
)

// appendKey appends the data of a key's value; ok is false for what has no
// place in the order.
func appendKey(dst []byte, kind keyKind, v driver.Value) (data []byte, err error) {
	switch kind {
	case keyInteger:
		i, ok := v.(int64)
		if !ok {
			return nil, badCell()
		}
		return binary.BigEndian.AppendUint64(dst, uint64(i)), nil
	case keyUnsigned:
		u, err := unsignedKey(v)
		return binary.BigEndian.AppendUint64(dst, u), err
	case keyFloat:
		switch f := v.(type) {
		case float32:
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(f))), nil
		case float64:
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(f)), nil
		}
		return nil, badCell()
	}
	b, ok := v.([]byte)
	if !ok {
		return nil, badCell()
	}
	if len(b) > maxKey {
		return nil, badKey("it has values longer than 1,024 bytes")
	}
	return append(dst, b...), nil
}

// unsignedKey is the number of a BIGINT UNSIGNED or BIT. Digits and bits come
// both as bytes: a BIT has no more than 8, large numbers have 19 digits or more.
func unsignedKey(v driver.Value) (uint64, error) {
	if b, ok := v.([]byte); ok && len(b) <= 8 {
		return bits(b), nil
	}
	return unsigned(v)
}

// keyLiteral writes a value of a cursor, which is checked like anything from
// outside.
func keyLiteral(v sqldb.CursorValue) (string, bool) {
	var n uint64
	if kind := keyKind(v.Type); kind == keyInteger || kind == keyUnsigned || kind == keyFloat {
		if len(v.Data) != 8 {
			return "", false
		}
		n = binary.BigEndian.Uint64(v.Data)
	}
	switch keyKind(v.Type) {
	case keyInteger:
		return strconv.FormatInt(int64(n), 10), true
	case keyUnsigned:
		return strconv.FormatUint(n, 10), true
	case keyFloat:
		f := math.Float64frombits(n)
		return string(appendDouble(nil, f)), !math.IsNaN(f) && !math.IsInf(f, 0)
	case keyDecimal:
		d, err := page.DecimalFromString(string(v.Data))
		if err != nil || d.Special() != 0 || len(v.Data) > 100 {
			return "", false
		}
		return string(sqldb.AppendDecimal(nil, &d)), true
	case keyText:
		return string(appendQuoted(nil, string(v.Data))), true
	case keyBytes:
		return "x'" + hex.EncodeToString(v.Data) + "'", true
	case keyDate:
		_, ok := parseDays(v.Data)
		return "DATE'" + string(v.Data) + "'", ok
	case keyTime:
		clock := v.Data
		if len(clock) > 0 && clock[0] == '-' {
			clock = clock[1:]
		}
		_, ok := parseClock(clock)
		return "TIME'" + string(v.Data) + "'", ok
	case keyTimestamp:
		_, ok := parseMoment(v.Data)
		return "TIMESTAMP'" + string(v.Data) + "'", ok
	}
	return "", false
}

func badKey(why string) *fault.Error {
	return fault.Of("E_QUERY").WithSource(name).
		WithSentence("the export cannot be read in the order of its key").WithCause(why).
		WithFix("choose other columns as `key`, or leave these rows out in the query")
}
