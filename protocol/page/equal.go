package page

import "strings"

// Equal reports whether two values are the same: same kind and same
// representation. 1.5 and 1.50 differ, as do an int64 and a decimal of the same
// number, and the same instant with two offsets; a NaN equals a NaN. Objects
// are equal when their fields are, in the same order.
func Equal(a, b Value) bool {
	if a.kind != b.kind || a.flag != b.flag || a.aux != b.aux || a.num != b.num || a.str != b.str {
		return false
	}
	switch a.kind {
	case KindForeign:
		return a.more.typ == b.more.typ
	case KindArray:
		return equalAll(a.more.items, b.more.items)
	case KindObject:
		return a.more.shape.same(b.more.shape) && equalAll(a.more.items, b.more.items)
	}
	return true
}

func equalAll(a, b []Value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Clone copies the value and everything in it but the shapes, so that it
// outlives the decoder and the payload that it came from. (Shapes never share
// memory with a payload.)
func (v Value) Clone() Value {
	v.str = strings.Clone(v.str)
	if v.more == nil {
		return v
	}
	m := *v.more
	m.typ = strings.Clone(m.typ)
	m.items = make([]Value, len(v.more.items))
	for i, item := range v.more.items {
		m.items[i] = item.Clone()
	}
	v.more = &m
	return v
}
