package odata

import (
	"encoding/json"
	"fmt"
	"strings"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

const (
	maxListed = 500  // values of one "in"
	maxFilter = 6000 // bytes: longer addresses are cut or refused on the way
)

var comparisons = map[string]string{"=": "eq", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}

// A filter builds the text of $filter for one entity set.
type filter struct {
	form
	of *structure
}

// where is the text of a query's conditions; "" = none. A free text stands in
// parentheses, so that it cannot reach what follows.
func (f filter) where(w connectors.Where) (string, error) {
	if w.SQL != "" {
		if err := balanced(w.SQL); err != nil {
			return "", badQuery(err.Error())
		}
		return "(" + w.SQL + ")", nil
	}
	parts := make([]string, 0, len(w.All))
	for _, c := range w.All {
		part, err := f.condition(c)
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " and "), nil
}

// balanced checks that a free text closes each parenthesis and text that it
// opens, and none that it does not.
func balanced(s string) error {
	depth, within := 0, false
	for _, r := range s {
		switch {
		case r == '\'':
			within = !within
		case within:
		case r == '(':
			depth++
		case r == ')':
			depth--
		}
		if depth < 0 {
			break
		}
	}
	if depth != 0 || within {
		return fmt.Errorf("where has a parenthesis or text that is not closed")
	}
	return nil
}

func (f filter) condition(c connectors.Condition) (string, error) {
	p, err := f.column(c.Column)
	if err != nil {
		return "", err
	}
	switch c.Op {
	case "is null":
		return p.name + " eq null", nil
	case "is not null":
		return p.name + " ne null", nil
	case "in":
		return f.list(p, c.Value)
	case "like":
		return f.like(p, c.Value)
	}
	literal, err := f.given(p, c.Value)
	if err != nil {
		return "", err
	}
	return p.name + " " + comparisons[c.Op] + " " + literal, nil
}

func (f filter) column(column string) (*property, error) {
	p := f.of.byName[column]
	if p == nil || p.navigation || p.prim == structured || p.collection {
		return nil, fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(column).
			WithCause(fmt.Sprintf("%s has no property %q that can be compared", f.of.name, column))
	}
	return p, nil
}

// excludesAll reports whether a condition compares with an empty list.
func excludesAll(w connectors.Where) bool {
	for _, c := range w.All {
		var items []json.RawMessage
		if c.Op == "in" && json.Unmarshal(c.Value, &items) == nil && len(items) == 0 {
			return true
		}
	}
	return false
}

func (f filter) list(p *property, raw json.RawMessage) (string, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || len(items) > maxListed {
		return "", badQuery(fmt.Sprintf("the list for %q cannot be read or has more than %d values", p.name, maxListed))
	}
	parts := make([]string, len(items))
	for i, item := range items {
		literal, err := f.given(p, item)
		if err != nil {
			return "", err
		}
		parts[i] = p.name + " eq " + literal
	}
	return "(" + strings.Join(parts, " or ") + ")", nil
}

// like turns the patterns that OData has functions for.
func (f filter) like(p *property, raw json.RawMessage) (string, error) {
	var pattern string
	if err := json.Unmarshal(raw, &pattern); err != nil || p.prim != text {
		return "", badQuery(fmt.Sprintf("like on %q needs a text and a pattern", p.name))
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(pattern, "%"), "%")
	if inner == "" || strings.ContainsAny(inner, "%_") {
		return "", badQuery(fmt.Sprintf("like on %q: OData knows only text%%, %%text and %%text%%", p.name))
	}
	start, end := strings.HasPrefix(pattern, "%"), strings.HasSuffix(pattern, "%")
	switch {
	case start && end && f.version == 4:
		return "contains(" + p.name + "," + quoted(inner) + ")", nil
	case start && end:
		return "substringof(" + quoted(inner) + "," + p.name + ")", nil
	case start:
		return "endswith(" + p.name + "," + quoted(inner) + ")", nil
	case end:
		return "startswith(" + p.name + "," + quoted(inner) + ")", nil
	}
	return p.name + " eq " + quoted(inner), nil
}

// given is a condition's value as a literal of the property's type.
func (f filter) given(p *property, raw json.RawMessage) (string, error) {
	var v page.Value
	s, ok := scalarText(raw)
	if !ok || string(raw) == "null" {
		return "", badQuery(fmt.Sprintf("the value for %q is not a text, a number or a boolean", p.name))
	}
	if v, ok = p.scalar(s); !ok {
		v = page.String(s)
	}
	literal, err := f.literal(v, p)
	if err != nil {
		return "", badQuery(fmt.Sprintf("the value for %q does not fit %s", p.name, p.typ))
	}
	return literal, nil
}

// beyond compares a key with a position in the order of the key: all operators
// but the last are op ("gt" or "lt"), the last is last ("gt", "ge", "le").
func (f filter) beyond(key []*property, at []page.Value, op, last string) (string, error) {
	literal, err := f.literal(at[0], key[0])
	if err != nil {
		return "", badPosition()
	}
	if len(key) == 1 {
		return key[0].name + " " + last + " " + literal, nil
	}
	rest, err := f.beyond(key[1:], at[1:], op, last)
	if err != nil {
		return "", err
	}
	return "(" + key[0].name + " " + op + " " + literal + " or " +
		key[0].name + " eq " + literal + " and (" + rest + "))", nil
}

func badPosition() error {
	return fault.Of("E_QUERY").WithSource(name).WithSentence("the position in the source cannot be used").
		WithFix("start the job again; the key of the export was changed while it ran")
}

func badQuery(cause string) error {
	return fault.Of("E_QUERY").WithSource(name).WithCause(cause)
}

// both joins two conditions.
func both(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + " and " + b
}
