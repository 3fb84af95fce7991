package postgres

import (
	"encoding/binary"
	"fmt"
	"math"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A cellReader writes one non-null value of the wire as one cell. The value
// comes from outside and is checked.
type cellReader func(e *page.Encoder, raw []byte) error

// A kind is a type that is not built in (or has no cell of its own): its name,
// as format_type writes it.
type kind struct{ name string }

// readerOf returns the reader of a built-in type's binary form; nil for types
// that are read as text.
func readerOf(oid uint32) cellReader {
	switch oid {
	case oidBool:
		return readBool
	case oidInt2:
		return readInt2
	case oidInt4:
		return readInt4
	case oidInt8:
		return readInt8
	case oidFloat4:
		return readFloat4
	case oidFloat8:
		return readFloat8
	case oidNumeric:
		return readNumeric
	case oidText, oidVarchar, oidBPChar, oidName:
		return readText
	case oidBytea:
		return readBytes
	case oidDate:
		return readDate
	case oidTime:
		return readTime
	case oidTimestamp:
		return readTimestamp
	case oidTimestamptz:
		return readTimestamptz
	case oidInterval:
		return readInterval
	case oidUUID:
		return readUUID
	case oidJSON:
		return readJSON
	case oidJSONB:
		return readJSONB
	}
	if element, ok := elements[oid]; ok {
		return func(e *page.Encoder, raw []byte) error {
			v, err := parseArray(raw, oid, element)
			if err == nil {
				e.Value(v)
			}
			return err
		}
	}
	return nil
}

// readForeign reads the text form of any other type.
func readForeign(typeName string) cellReader {
	return func(e *page.Encoder, raw []byte) error {
		e.Foreign(typeName, string(raw))
		return nil
	}
}

func readBool(e *page.Encoder, raw []byte) error {
	if len(raw) != 1 {
		return badWire("boolean", raw)
	}
	e.Bool(raw[0] != 0)
	return nil
}

func readInt2(e *page.Encoder, raw []byte) error {
	if len(raw) != 2 {
		return badWire("smallint", raw)
	}
	e.Int64(int64(int16(binary.BigEndian.Uint16(raw))))
	return nil
}

func readInt4(e *page.Encoder, raw []byte) error {
	if len(raw) != 4 {
		return badWire("integer", raw)
	}
	e.Int64(int64(int32(binary.BigEndian.Uint32(raw))))
	return nil
}

func readInt8(e *page.Encoder, raw []byte) error {
	if len(raw) != 8 {
		return badWire("bigint", raw)
	}
	e.Int64(int64(binary.BigEndian.Uint64(raw)))
	return nil
}

func readFloat4(e *page.Encoder, raw []byte) error {
	if len(raw) != 4 {
		return badWire("real", raw)
	}
	e.Float32(math.Float32frombits(binary.BigEndian.Uint32(raw)))
	return nil
}

func readFloat8(e *page.Encoder, raw []byte) error {
	if len(raw) != 8 {
		return badWire("double precision", raw)
	}
	e.Float64(math.Float64frombits(binary.BigEndian.Uint64(raw)))
	return nil
}

func readText(e *page.Encoder, raw []byte) error {
	e.StringBytes(raw)
	return nil
}

func readBytes(e *page.Encoder, raw []byte) error {
	e.Bytes(raw)
	return nil
}

func readTime(e *page.Encoder, raw []byte) error {
	if len(raw) != 8 {
		return badWire("time", raw)
	}
	us := int64(binary.BigEndian.Uint64(raw))
	if us < 0 || us > dayMicros {
		return badWire("time", raw)
	}
	e.Time(us)
	return nil
}

func readDate(e *page.Encoder, raw []byte) error {
	if len(raw) != 4 {
		return badWire("date", raw)
	}
	days := int32(binary.BigEndian.Uint32(raw))
	if days < firstDay || days > lastDay {
		e.Foreign(typeNames[oidDate], dateText(days))
		return nil
	}
	e.Date(days + epochDays)
	return nil
}

func readTimestamp(e *page.Encoder, raw []byte) error {
	if len(raw) != 8 {
		return badWire("timestamp", raw)
	}
	us := int64(binary.BigEndian.Uint64(raw))
	if us < firstMicro || us > lastMicro {
		e.Foreign(typeNames[oidTimestamp], timestampText(us, ""))
		return nil
	}
	e.LocalTimestamp(us + epochMicros)
	return nil
}

func readTimestamptz(e *page.Encoder, raw []byte) error {
	if len(raw) != 8 {
		return badWire("timestamptz", raw)
	}
	us := int64(binary.BigEndian.Uint64(raw))
	if us < firstMicro || us > lastMicro {
		e.Foreign(typeNames[oidTimestamptz], timestampText(us, "+00"))
		return nil
	}
	e.Timestamp(us+epochMicros, 0)
	return nil
}

func readInterval(e *page.Encoder, raw []byte) error {
	if len(raw) != 16 {
		return badWire("interval", raw)
	}
	us := int64(binary.BigEndian.Uint64(raw))
	days := int32(binary.BigEndian.Uint32(raw[8:]))
	months := int32(binary.BigEndian.Uint32(raw[12:]))
	// Both infinities (PostgreSQL 17) have all three at an extreme.
	switch {
	case us == math.MaxInt64 && days == math.MaxInt32 && months == math.MaxInt32:
		e.Foreign(typeNames[oidInterval], "infinity")
	case us == math.MinInt64 && days == math.MinInt32 && months == math.MinInt32:
		e.Foreign(typeNames[oidInterval], "-infinity")
	default:
		e.Interval(months, days, us)
	}
	return nil
}

func readUUID(e *page.Encoder, raw []byte) error {
	if len(raw) != 16 {
		return badWire("uuid", raw)
	}
	e.UUID([16]byte(raw))
	return nil
}

func readJSON(e *page.Encoder, raw []byte) error {
	e.JSON(raw)
	return nil
}

func readJSONB(e *page.Encoder, raw []byte) error {
	if len(raw) < 1 || raw[0] != 1 {
		return badWire("jsonb", raw)
	}
	e.JSON(raw[1:])
	return nil
}

func badWire(what string, raw []byte) error {
	return fault.Of("E_INTERNAL").WithSource(name).WithSentence("the server sent what is not a " + what).
		WithCause(fmt.Sprintf("%d bytes", len(raw)))
}
