package sqldb

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// A Conditions is a WHERE text and the values that it binds, in order: nil is
// never among them; texts, booleans and numbers (json.Number) are.
type Conditions struct {
	SQL    string
	Values []any
}

// maxListed bounds the values of one "in".
const maxListed = 10_000

// Marks is how conditions are written in a system's SQL.
type Marks struct {
	// Quote writes identifiers; nil = Quote.
	Quote func(name string) string
	// Value writes value n, counted from 1: a text, a boolean or a
	// json.Number.
	Value func(n int, v any) string
}

// Numbered marks values by placeholder and number, such as $1.
func Numbered(placeholder string) Marks {
	return Marks{Value: func(n int, _ any) string { return placeholder + strconv.Itoa(n) }}
}

// BuildWhere turns a query's conditions into text.
func BuildWhere(w connectors.Where, m Marks) (Conditions, error) {
	if w.SQL != "" {
		return Conditions{SQL: "(" + TrimStatement(w.SQL) + "\n)"}, nil
	}
	if m.Quote == nil {
		m.Quote = Quote
	}
	b := whereBuilder{marks: m}
	var parts []string
	for _, c := range w.All {
		part, err := b.condition(c)
		if err != nil {
			return Conditions{}, fault.Of("E_QUERY").WithCause(
				fmt.Sprintf("the condition on %q: %v", c.Column, err))
		}
		parts = append(parts, part)
	}
	return Conditions{SQL: strings.Join(parts, " AND "), Values: b.values}, nil
}

type whereBuilder struct {
	marks  Marks
	values []any
}

func (b *whereBuilder) condition(c connectors.Condition) (string, error) {
	column := "q." + b.marks.Quote(c.Column)
	switch c.Op {
	case "is null":
		return column + " IS NULL", nil
	case "is not null":
		return column + " IS NOT NULL", nil
	case "in":
		return b.list(c, column)
	}
	v, err := scalar(c.Value)
	if err != nil {
		return "", err
	}
	return column + " " + strings.ToUpper(c.Op) + " " + b.bind(v), nil
}

func (b *whereBuilder) list(c connectors.Condition, column string) (string, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(c.Value, &items); err != nil {
		return "", fmt.Errorf("its list cannot be read")
	}
	if len(items) > maxListed {
		return "", fmt.Errorf("its list has more than %d values", maxListed)
	}
	if len(items) == 0 {
		return "1 = 0", nil
	}
	marks := make([]string, len(items))
	for i, item := range items {
		v, err := scalar(item)
		if err != nil {
			return "", err
		}
		marks[i] = b.bind(v)
	}
	return column + " IN (" + strings.Join(marks, ", ") + ")", nil
}

func (b *whereBuilder) bind(v any) string {
	b.values = append(b.values, v)
	return b.marks.Value(len(b.values), v)
}

func scalar(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("its value cannot be read")
	}
	switch v.(type) {
	case string, bool, json.Number:
		return v, nil
	}
	return nil, fmt.Errorf("its value is not a text, a number or a boolean")
}
