package odata

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/page"
)

// A primitive is a type of OData as far as its values matter.
type primitive uint8

const (
	unknown primitive = iota // geography and other types without a kind here
	boolean
	byteInt
	sbyteInt
	int16Int
	int32Int
	int64Int
	decimal
	single
	double
	text
	guid
	bytesType
	dateTime       // version 2: no zone
	dateTimeOffset // both
	date           // version 4
	timeOfDay      // version 4
	timeV2         // version 2: a time of the day, written as a duration
	duration       // version 4
	stream
	enumeration
	structured // a complex type or an entity
)

var primitives = map[string]primitive{
	"Edm.Boolean": boolean, "Edm.Byte": byteInt, "Edm.SByte": sbyteInt, "Edm.Int16": int16Int,
	"Edm.Int32": int32Int, "Edm.Int64": int64Int, "Edm.Decimal": decimal, "Edm.Single": single,
	"Edm.Double": double, "Edm.String": text, "Edm.Guid": guid, "Edm.Binary": bytesType,
	"Edm.DateTime": dateTime, "Edm.DateTimeOffset": dateTimeOffset, "Edm.Date": date,
	"Edm.TimeOfDay": timeOfDay, "Edm.Time": timeV2, "Edm.Duration": duration, "Edm.Stream": stream,
}

const maxDepth = 32 // of objects and arrays in a value

// value reads a property from JSON. What does not fit the type that $metadata
// gives it comes as it is: a foreign value for a text or number, JSON for the
// rest. Nothing is ever rounded.
func (p *property) value(raw json.RawMessage) page.Value { return p.decode(raw, 0) }

func (p *property) decode(raw json.RawMessage, depth int) page.Value {
	if len(raw) == 0 || string(raw) == "null" {
		return page.Null()
	}
	if depth > maxDepth {
		return page.JSON(raw)
	}
	if p.collection {
		return p.items(raw, depth)
	}
	if p.prim == structured {
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) != nil {
			return page.JSON(raw)
		}
		return p.of.object(fields, depth+1)
	}
	literal, ok := scalarText(raw)
	if !ok {
		return page.JSON(raw)
	}
	if v, ok := p.scalar(literal); ok {
		return v
	}
	return page.Foreign(p.typ, literal)
}

// items reads a collection: an array, or version 2's {"results": […]}.
func (p *property) items(raw json.RawMessage, depth int) page.Value {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		var wrapped struct{ Results []json.RawMessage }
		if json.Unmarshal(raw, &wrapped) != nil || wrapped.Results == nil {
			return page.JSON(raw)
		}
		list = wrapped.Results
	}
	one := *p
	one.collection = false
	values := make([]page.Value, len(list))
	for i := range list {
		values[i] = one.decode(list[i], depth+1)
	}
	return page.Array(values)
}

func (s *structure) object(fields map[string]json.RawMessage, depth int) page.Value {
	list := s.fields()
	names, values := make([]string, len(list)), make([]page.Value, len(list))
	for i, p := range list {
		names[i], values[i] = p.name, p.decode(fields[p.name], depth)
	}
	return page.Object(page.NewShape(names...), values)
}

// scalarText is the text of a JSON string, number or truth value.
func scalarText(raw json.RawMessage) (string, bool) {
	switch raw[0] {
	case '"':
		var s string
		return s, json.Unmarshal(raw, &s) == nil
	case '{', '[':
		return "", false
	}
	return string(raw), true
}

// scalar reads the text of a value of a simple type.
func (p *property) scalar(s string) (page.Value, bool) {
	switch p.prim {
	case text, enumeration:
		return page.String(s), true
	case boolean:
		return page.Bool(s == "true"), s == "true" || s == "false"
	case byteInt, sbyteInt, int16Int, int32Int, int64Int:
		i, err := strconv.ParseInt(s, 10, 64)
		return page.Int(i), err == nil
	case decimal:
		v, err := page.DecimalFromString(s)
		return v, err == nil && v.Special() == 0
	case single, double:
		return float(s, p.prim)
	case guid:
		u, err := uuid.Parse(s)
		return page.UUID(u), err == nil && len(s) == 36
	case bytesType:
		return bytesOf(s)
	}
	return p.temporal(s)
}

func float(s string, prim primitive) (page.Value, bool) {
	var f float64
	switch s {
	case "INF":
		f = math.Inf(1)
	case "-INF":
		f = math.Inf(-1)
	case "NaN":
		f = math.NaN()
	default:
		bits := 64
		if prim == single {
			bits = 32
		}
		parsed, err := strconv.ParseFloat(s, bits)
		if err != nil || strings.ContainsAny(s, "xX_pPnN") {
			return page.Value{}, false
		}
		f = parsed
	}
	if prim == single {
		return page.Float32(float32(f)), true
	}
	return page.Float(f), true
}

// bytesOf reads base64 of either alphabet, padded or not.
func bytesOf(s string) (page.Value, bool) {
	plain := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/", "\r", "", "\n", "").Replace(s), "=")
	b, err := base64.RawStdEncoding.DecodeString(plain)
	return page.Bytes(b), err == nil
}

// temporal reads dates and times of both versions.
func (p *property) temporal(s string) (page.Value, bool) {
	switch p.prim {
	case date:
		days, ok := sqldb.ParseDate(s)
		return page.Date(int32(days)), ok
	case timeOfDay:
		us, ok := clock(s)
		return page.Time(us), ok
	case timeV2:
		us, ok := durationMicros(s)
		return page.Time(us), ok && us >= 0 && us < dayMicros
	case duration:
		return interval(s)
	case dateTime:
		return p.dateTime(s)
	case dateTimeOffset:
		return instant(s)
	}
	return page.Value{}, false
}
