package transform

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sort"

	"ropeway/protocol/page"
)

func (m *machine) lists(table map[string]function) {
	table["$sort"] = func(a ...any) (any, error) { return m.sort(a) }
	table["$uniq"] = func(a ...any) (any, error) { return m.uniq(a[0]) }
	table["$keys"] = func(a ...any) (any, error) {
		names, _, err := pairs(a[0])
		return names, err
	}
	table["$values"] = func(a ...any) (any, error) {
		_, values, err := pairs(a[0])
		return values, err
	}
}

// list returns the items of a list; a list of one kind becomes a general one.
func list(x any) ([]any, error) {
	switch v := x.(type) {
	case []any:
		return v, nil
	case []int:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out, nil
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out, nil
	case page.Value:
		if inner, ok := opened(v).([]any); ok {
			return inner, nil
		}
	}
	return nil, fmt.Errorf("a list is needed, not %s", kindOf(x))
}

// opened reads the verbatim JSON of a field; other kinds are returned as they are.
func opened(v page.Value) any {
	if v.Kind() != page.KindJSON {
		return v
	}
	inner, err := page.ParseJSON([]byte(v.Text()))
	if err != nil {
		return v
	}
	return fromValue(inner)
}

// member returns a field of an object or an item of a list. A missing one is an
// error, or null when it is optional.
func (m *machine) member(base, key any, optional bool) (any, error) {
	if err := m.spend(1); err != nil {
		return nil, err
	}
	if v, ok := base.(page.Value); ok {
		if v.Kind() == page.KindJSON {
			if err := m.charge(len(v.Text())); err != nil {
				return nil, err
			}
		}
		base = opened(v)
	}
	found, ok, err := find(base, key)
	switch {
	case err == nil && ok:
		return found, nil
	case optional:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("there is no field %v", key)
}

func find(base, key any) (any, bool, error) {
	switch v := base.(type) {
	case page.Value:
		if name, ok := key.(string); ok && v.Kind() == page.KindObject {
			field, ok := v.Fields().Field(name)
			return fromValue(field), ok, nil
		}
	case map[string]any:
		if name, ok := key.(string); ok {
			field, ok := v[name]
			return field, ok, nil
		}
	case []any, []int, []string:
		items, err := list(v)
		if err != nil {
			return nil, false, err
		}
		i, err := wholeIndex(key, len(items))
		if err != nil {
			return nil, false, err
		}
		return items[i], true, nil
	}
	return nil, false, fmt.Errorf("%s has no field %v", kindOf(base), key)
}

// in reports whether a list has an item, or an object a field.
func (m *machine) in(x, where any) (any, error) {
	if v, ok := where.(page.Value); ok {
		where = opened(v)
	}
	switch w := where.(type) {
	case page.Value, map[string]any:
		if name, ok := x.(string); ok {
			_, ok, err := find(w, name)
			return ok, err
		}
	}
	items, err := list(where)
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		if equal(x, item) {
			return true, m.spend(1 + i)
		}
	}
	return false, m.spend(1 + len(items))
}

// made charges a text or list that the language itself made.
func (m *machine) made(x any) (any, error) {
	switch v := x.(type) {
	case string:
		return m.text(v)
	case []any:
		return v, m.charge(16 * len(v))
	case []string:
		return v, m.charge(16 * len(v))
	}
	return x, m.spend(1)
}

func (m *machine) sort(a []any) (any, error) {
	items, err := list(a[0])
	if err != nil {
		return nil, err
	}
	down := len(a) == 2 && a[1] == "desc"
	if len(a) == 2 && !down && a[1] != "asc" {
		return nil, fmt.Errorf("sort goes \"asc\" or \"desc\"")
	}
	out := append([]any(nil), items...)
	sort.SliceStable(out, func(i, j int) bool {
		c, e := compare(out[i], out[j])
		if e != nil {
			err = e
		}
		return c < 0 && !down || c > 0 && down
	})
	if err != nil {
		return nil, err
	}
	return out, m.charge(64 * len(out))
}

func (m *machine) uniq(x any) (any, error) {
	items, err := list(x)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, item := range items {
		found, err := m.in(item, out)
		if err != nil {
			return nil, err
		}
		if found == false {
			out = append(out, item)
		}
	}
	return out, m.charge(16 * len(out))
}

// pairs returns the names and values of an object: of a record's object in its
// order, of one made in the expression by name.
func pairs(x any) (names, values []any, err error) {
	if v, ok := x.(page.Value); ok {
		x = opened(v)
	}
	switch v := x.(type) {
	case page.Value:
		if r := v.Fields(); v.Kind() == page.KindObject {
			for i, name := range r.Shape.Names {
				names, values = append(names, name), append(values, fromValue(r.Values[i]))
			}
			return names, values, nil
		}
	case map[string]any:
		for name := range v {
			names = append(names, name)
		}
		sort.Slice(names, func(i, j int) bool { return names[i].(string) < names[j].(string) })
		for _, name := range names {
			values = append(values, v[name.(string)])
		}
		return names, values, nil
	}
	return nil, nil, fmt.Errorf("an object is needed, not %s", kindOf(x))
}

// seeds are the functions that look like chance and time: they follow from the
// page's name and the record's place in it, so that a second run agrees.
func (m *machine) seeds(table map[string]function) {
	table["$now"] = func(...any) (any, error) { return m.now, nil }
	table["$random"] = func(...any) (any, error) { return m.source().Float64(), nil }
	table["$uuid"] = func(...any) (any, error) {
		source := m.source()
		var u [16]byte
		binary.BigEndian.PutUint64(u[:8], source.Uint64())
		binary.BigEndian.PutUint64(u[8:], source.Uint64())
		u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // RFC 9562 version 8: made our own way
		return page.UUID(u), nil
	}
}

// source returns the generator of this record and step, made on first use.
func (m *machine) source() *rand.Rand {
	if m.rand == nil {
		m.rand = rand.New(rand.NewChaCha8(m.seed()))
	}
	return m.rand
}
