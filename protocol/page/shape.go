package page

import (
	"strconv"
	"strings"
	"sync"
)

// A Shape is an ordered list of field names, shared by many records. Make it
// with NewShape, which alone sees to it that the names are valid UTF-8 and no
// two are equal. It does not change afterwards and may be used by many
// goroutines.
type Shape struct {
	Names []string

	once  sync.Once
	index map[string]int // built on the first look-up in a wide shape
}

// linear is the width up to which comparing names one by one is fastest.
const linear = 8

// NewShape makes a shape of the names. A name that occurs again gets the first
// free suffix _2, _3, …, and invalid UTF-8 becomes U+FFFD, so that no field is
// ever lost; callers who must refuse such names check before.
func NewShape(names ...string) *Shape {
	own := make([]string, len(names))
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		name = strings.ToValidUTF8(name, "\uFFFD")
		unique := name
		for n := 2; seen[unique]; n++ {
			unique = name + "_" + strconv.Itoa(n)
		}
		seen[unique] = true
		own[i] = unique
	}
	return &Shape{Names: own}
}

// Index is the position of the field called name.
func (s *Shape) Index(name string) (int, bool) {
	if len(s.Names) <= linear {
		for i, n := range s.Names {
			if n == name {
				return i, true
			}
		}
		return 0, false
	}
	s.once.Do(func() {
		s.index = make(map[string]int, len(s.Names))
		for i, n := range s.Names {
			s.index[n] = i
		}
	})
	i, ok := s.index[name]
	return i, ok
}

// Len is the number of fields; 0 for a nil shape.
func (s *Shape) Len() int {
	if s == nil {
		return 0
	}
	return len(s.Names)
}

// same reports whether two shapes have the same names in the same order.
func (s *Shape) same(o *Shape) bool {
	if s == o {
		return true
	}
	if s.Len() != o.Len() {
		return false
	}
	for i := range s.Len() {
		if s.Names[i] != o.Names[i] {
			return false
		}
	}
	return true
}

// A Record is one document: names and their values, in order. A field that is
// absent is not in the shape; a field that is null is there with a null value.
type Record struct {
	Shape  *Shape
	Values []Value
}

// NewRecord makes a record; shape and values have the same length.
func NewRecord(s *Shape, values ...Value) Record { return Record{Shape: s, Values: values} }

// Field is the value called name, and whether the record has that field.
func (r Record) Field(name string) (Value, bool) {
	if r.Shape == nil {
		return Value{}, false
	}
	i, ok := r.Shape.Index(name)
	if !ok || i >= len(r.Values) {
		return Value{}, false
	}
	return r.Values[i], true
}

// Value is the record as an object value; it shares the record's values.
func (r Record) Value() Value { return Object(r.Shape, r.Values) }

// Clone copies the record and everything in it, so that it outlives the
// decoder and the payload that it came from.
func (r Record) Clone() Record { return r.Value().Clone().Fields() }

// EqualRecords reports whether two records have the same fields in the same
// order with equal values.
func EqualRecords(a, b Record) bool { return Equal(a.Value(), b.Value()) }
