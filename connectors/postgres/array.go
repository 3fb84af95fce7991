package postgres

import (
	"encoding/binary"
	"math"
	"strconv"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/page"
)

// The wire form of an array: int32 dimensions, int32 has nulls, uint32 type of
// the elements, per dimension int32 length and int32 lower bound, then the
// elements, each with an int32 length (-1 = null).
const (
	maxDimensions = 6
	arrayHead     = 12
)

type dimension struct{ length, lower int }

// parseArray turns an array into a value: nested for more dimensions. Arrays
// that do not count from 1 keep that in their text.
func parseArray(raw []byte, oid, element uint32) (page.Value, error) {
	dims, body, ok := parseArrayHead(raw, element)
	if !ok {
		return page.Value{}, badWire(typeNames[oid], raw)
	}
	if len(dims) == 0 {
		return page.Array(nil), nil
	}
	count := 1
	for _, d := range dims {
		count *= d.length // bounded by parseArrayHead
	}
	items := make([]page.Value, count)
	for i := range items {
		if len(body) < 4 {
			return page.Value{}, badWire(typeNames[oid], raw)
		}
		n := int32(binary.BigEndian.Uint32(body))
		body = body[4:]
		if n == -1 {
			continue
		}
		if n < 0 || int(n) > len(body) {
			return page.Value{}, badWire(typeNames[oid], raw)
		}
		v, err := elementValue(element, body[:n])
		if err != nil {
			return page.Value{}, err
		}
		items[i], body = v, body[n:]
	}
	if len(body) != 0 {
		return page.Value{}, badWire(typeNames[oid], raw)
	}
	for _, d := range dims {
		if d.lower != 1 {
			return page.Foreign(typeNames[oid], arrayText(dims, items)), nil
		}
	}
	return nest(dims, items), nil
}

func parseArrayHead(raw []byte, element uint32) ([]dimension, []byte, bool) {
	if len(raw) < arrayHead {
		return nil, nil, false
	}
	count := binary.BigEndian.Uint32(raw)
	if count > maxDimensions || binary.BigEndian.Uint32(raw[8:]) != element {
		return nil, nil, false
	}
	body := raw[arrayHead:]
	if len(body) < 8*int(count) {
		return nil, nil, false
	}
	dims := make([]dimension, count)
	items := 1
	for i := range dims {
		dims[i].length = int(int32(binary.BigEndian.Uint32(body[8*i:])))
		dims[i].lower = int(int32(binary.BigEndian.Uint32(body[8*i+4:])))
		if dims[i].length < 1 || dims[i].length > len(raw)/4 {
			return nil, nil, false
		}
		if items *= dims[i].length; items > len(raw)/4 {
			return nil, nil, false
		}
	}
	return dims, body[8*count:], true
}

func nest(dims []dimension, items []page.Value) page.Value {
	if len(dims) == 1 {
		return page.Array(items)
	}
	size := len(items) / dims[0].length
	outer := make([]page.Value, dims[0].length)
	for i := range outer {
		outer[i] = nest(dims[1:], items[i*size:(i+1)*size])
	}
	return page.Array(outer)
}

// elementValue is the value of one element; raw is copied.
func elementValue(oid uint32, raw []byte) (page.Value, error) {
	switch oid {
	case oidText, oidVarchar, oidBPChar, oidName:
		return page.String(string(raw)), nil
	case oidBytea:
		return page.Bytes(append([]byte(nil), raw...)), nil
	case oidNumeric:
		return numericValue(raw)
	case oidJSON:
		return page.JSON(append([]byte(nil), raw...)), nil
	case oidJSONB:
		if len(raw) < 1 || raw[0] != 1 {
			return page.Value{}, badWire("jsonb", raw)
		}
		return page.JSON(append([]byte(nil), raw[1:]...)), nil
	}
	return fixedValue(oid, raw)
}

// fixedValue is the value of an element of fixed size.
func fixedValue(oid uint32, raw []byte) (page.Value, error) {
	var wide uint64
	switch len(raw) {
	case 1:
		wide = uint64(raw[0])
	case 2:
		wide = uint64(binary.BigEndian.Uint16(raw))
	case 4:
		wide = uint64(binary.BigEndian.Uint32(raw))
	case 8, 16:
		wide = binary.BigEndian.Uint64(raw)
	}
	sizes := map[uint32]int{oidBool: 1, oidInt2: 2, oidInt4: 4, oidFloat4: 4, oidDate: 4,
		oidInt8: 8, oidFloat8: 8, oidTime: 8, oidTimestamp: 8, oidTimestamptz: 8,
		oidInterval: 16, oidUUID: 16}
	if len(raw) != sizes[oid] {
		return page.Value{}, badWire("array element", raw)
	}
	switch oid {
	case oidBool:
		return page.Bool(wide != 0), nil
	case oidInt2:
		return page.Int(int64(int16(wide))), nil
	case oidInt4:
		return page.Int(int64(int32(wide))), nil
	case oidInt8:
		return page.Int(int64(wide)), nil
	case oidFloat4:
		return page.Float32(math.Float32frombits(uint32(wide))), nil
	case oidFloat8:
		return page.Float(math.Float64frombits(wide)), nil
	case oidUUID:
		return page.UUID([16]byte(raw)), nil
	case oidInterval:
		return page.Interval(int32(binary.BigEndian.Uint32(raw[12:])),
			int32(binary.BigEndian.Uint32(raw[8:])), int64(wide)), nil
	}
	return temporalValue(oid, int64(wide))
}

func temporalValue(oid uint32, wide int64) (page.Value, error) {
	switch oid {
	case oidDate:
		days := int32(wide)
		if days < firstDay || days > lastDay {
			return page.Foreign(typeNames[oid], dateText(days)), nil
		}
		return page.Date(days + epochDays), nil
	case oidTime:
		if wide < 0 || wide > dayMicros {
			return page.Value{}, badWire("time", nil)
		}
		return page.Time(wide), nil
	}
	zone := ""
	if oid == oidTimestamptz {
		zone = "+00"
	}
	switch {
	case wide < firstMicro || wide > lastMicro:
		return page.Foreign(typeNames[oid], timestampText(wide, zone)), nil
	case oid == oidTimestamptz:
		return page.Timestamp(wide+epochMicros, 0), nil
	}
	return page.LocalTimestamp(wide + epochMicros), nil
}

// arrayText writes an array as the server reads it: its bounds, then nested
// braces with every element quoted.
func arrayText(dims []dimension, items []page.Value) string {
	var b []byte
	for _, d := range dims {
		b = append(strconv.AppendInt(append(b, '['), int64(d.lower), 10), ':')
		b = append(strconv.AppendInt(b, int64(d.lower)+int64(d.length)-1, 10), ']')
	}
	return string(appendBraces(append(b, '='), dims, items))
}

func appendBraces(b []byte, dims []dimension, items []page.Value) []byte {
	size := len(items) / dims[0].length
	b = append(b, '{')
	for i := range dims[0].length {
		if i > 0 {
			b = append(b, ',')
		}
		part := items[i*size : (i+1)*size]
		if len(dims) > 1 {
			b = appendBraces(b, dims[1:], part)
		} else {
			b = appendElement(b, &part[0])
		}
	}
	return append(b, '}')
}

func appendElement(b []byte, v *page.Value) []byte {
	text, ok := sqldb.AppendText(nil, v)
	if !ok {
		return append(b, "NULL"...)
	}
	b = append(b, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}
