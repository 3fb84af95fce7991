package model

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Assignments is an ordered list of fields and expressions. As JSON it is an
// object whose keys keep their order, as in the manifest.
type Assignments []Assignment

// MarshalJSON writes the assignments as one object in their order.
func (a Assignments) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, as := range a {
		if i > 0 {
			out.WriteByte(',')
		}
		for j, text := range []string{as.Field, as.Expr} {
			b, err := json.Marshal(text)
			if err != nil {
				return nil, fmt.Errorf("encode assignment %s: %w", as.Field, err)
			}
			if j == 1 {
				out.WriteByte(':')
			}
			out.Write(b)
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// UnmarshalJSON reads an object and keeps the order of its keys. A key given
// twice is refused.
func (a *Assignments) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if tok, err := dec.Token(); err != nil {
		return fmt.Errorf("decode assignments: %w", err)
	} else if tok == nil {
		return nil
	} else if tok != json.Delim('{') {
		return fmt.Errorf("decode assignments: want an object, got %v", tok)
	}
	seen := map[string]bool{}
	*a = (*a)[:0]
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fmt.Errorf("decode assignments: %w", err)
		}
		field := key.(string)
		if seen[field] {
			return fmt.Errorf("decode assignments: field %q is given twice", field)
		}
		seen[field] = true
		var expr string
		if err := dec.Decode(&expr); err != nil {
			return fmt.Errorf("decode assignment %s: %w", field, err)
		}
		*a = append(*a, Assignment{Field: field, Expr: expr})
	}
	return nil
}
