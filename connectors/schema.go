package connectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

// A FieldType says what values a setting takes.
type FieldType string

// The types of settings. Int is a whole number, Duration a text such as
// "30s", PEM a text of certificates.
const (
	String   FieldType = "string"
	Int      FieldType = "int"
	Bool     FieldType = "bool"
	Duration FieldType = "duration"
	PEM      FieldType = "pem"
)

// A Field is one setting of a connector, or one field of its credential.
type Field struct {
	Name     string
	Type     FieldType
	Doc      string // one sentence
	Required bool
	Default  any      // string, int64 or bool, as Type; nil = none
	Enum     []string // of a String; none = any text
	Min, Max int64    // of an Int; both 0 = any
	Secret   bool     // never shown, never logged
}

// A Schema is the list of fields that an object may have. It drives the
// validation, the JSON Schema and the reference pages.
type Schema struct{ Fields []Field }

const maxText = 64 << 10 // bytes of one setting

// Decode reads a JSON object of settings and validates it.
func (s Schema) Decode(raw []byte) (Settings, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, badSettings("the settings are not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badSettings("something follows the settings")
	}
	return s.Validate(m)
}

// Validate checks given settings, converts them to string, int64 and bool
// and fills in defaults. Unknown names are refused with the nearest known
// one. Values are never part of the error: they might be secrets put in the
// wrong place.
func (s Schema) Validate(given map[string]any) (Settings, error) {
	out := make(Settings, len(s.Fields))
	for name := range given {
		if _, known := s.Field(name); !known {
			return nil, badSettings(s.unknown(name)).WithField(name)
		}
	}
	for _, f := range s.Fields {
		v, present := given[f.Name]
		if !present || v == nil {
			if f.Required {
				return nil, badSettings(fmt.Sprintf("%q is missing", f.Name)).WithField(f.Name)
			}
			if f.Default != nil {
				out[f.Name] = f.Default
			}
			continue
		}
		converted, err := f.convert(v)
		if err != nil {
			return nil, badSettings(fmt.Sprintf("%q %v", f.Name, err)).WithField(f.Name)
		}
		out[f.Name] = converted
	}
	return out, nil
}

// Field finds a field by name.
func (s Schema) Field(name string) (Field, bool) {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return s.Fields[i], true
}

func (s Schema) unknown(name string) string {
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	names := make([]string, len(s.Fields))
	best, distance := "", math.MaxInt
	for i, f := range s.Fields {
		names[i] = f.Name
		if d := editDistance(strings.ToLower(name), strings.ToLower(f.Name)); d < distance {
			best, distance = f.Name, d
		}
	}
	if distance <= 3 && distance < len(name) {
		return fmt.Sprintf("unknown setting %q; did you mean %q?", name, best)
	}
	return fmt.Sprintf("unknown setting %q; known are %s", name, strings.Join(names, ", "))
}

func (f Field) convert(v any) (any, error) {
	switch f.Type {
	case Int:
		return f.convertInt(v)
	case Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, errors.New("must be true or false")
	}
	text, ok := v.(string)
	switch {
	case !ok:
		return nil, errors.New("must be a text")
	case len(text) > maxText:
		return nil, fmt.Errorf("is longer than %d bytes", maxText)
	case strings.ContainsRune(text, 0):
		return nil, errors.New("contains a NUL character")
	case f.Required && text == "":
		return nil, errors.New("is empty")
	case f.Type != PEM && !f.Secret && strings.ContainsAny(text, "\r\n"):
		return nil, errors.New("contains a line break")
	case len(f.Enum) > 0 && !slices.Contains(f.Enum, text):
		return nil, errors.New("must be one of " + strings.Join(f.Enum, ", "))
	}
	if f.Type == Duration {
		if d, err := time.ParseDuration(text); err != nil || d < 0 {
			return nil, errors.New(`must be a duration such as "30s"`)
		}
	}
	return text, nil
}

func (f Field) convertInt(v any) (any, error) {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case uint64:
		if v > math.MaxInt64 {
			return nil, errors.New("is too large")
		}
		n = int64(v)
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
			return nil, errors.New("must be a whole number")
		}
		n = int64(v)
	case json.Number:
		parsed, err := v.Int64()
		if err != nil {
			return nil, errors.New("must be a whole number")
		}
		n = parsed
	default:
		return nil, errors.New("must be a whole number")
	}
	if (f.Min != 0 || f.Max != 0) && (n < f.Min || n > f.Max) {
		return nil, fmt.Errorf("must be from %d to %d", f.Min, f.Max)
	}
	return n, nil
}

// JSONSchema describes the schema as a JSON Schema object (2020-12).
func (s Schema) JSONSchema() map[string]any {
	properties := make(map[string]any, len(s.Fields))
	required := []string{}
	for _, f := range s.Fields {
		properties[f.Name] = f.jsonSchema()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	return map[string]any{
		"type": "object", "properties": properties, "required": required,
		"additionalProperties": false,
	}
}

func (f Field) jsonSchema() map[string]any {
	p := map[string]any{"description": f.Doc}
	switch f.Type {
	case Int:
		p["type"] = "integer"
		if f.Min != 0 || f.Max != 0 {
			p["minimum"], p["maximum"] = f.Min, f.Max
		}
	case Bool:
		p["type"] = "boolean"
	default:
		p["type"] = "string"
	}
	if len(f.Enum) > 0 {
		p["enum"] = f.Enum
	}
	if f.Default != nil {
		p["default"] = f.Default
	}
	if f.Secret {
		p["writeOnly"] = true
	}
	return p
}

// editDistance is the Levenshtein distance of two short texts.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func badSettings(cause string) *fault.Error {
	return fault.Of("E_SETTINGS").WithCause(cause)
}
