package transform

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"github.com/expr-lang/expr/vm"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// machine runs a program over one page at a time; several of them run several
// pages at once. Its functions know the record being worked on.
type machine struct {
	budget
	vm    vm.VM
	table map[string]function
	steps []*step
	now   page.Value // created of the page

	name  string // of the page
	index uint32 // of the record in it
	step  int
	rand  *rand.Rand // nil until the record asks for chance
}

// step is one compiled step.
type step struct {
	name   string
	filter *expression
	fields []string
	values []*expression
	set    bool // changes fields instead of replacing the record

	shape  *page.Shape // of a map; of a set: the result for the shape from
	from   *page.Shape
	places []int // of a set: where each value goes
}

func newMachine(steps []model.Step, vars map[string]any) (*machine, error) {
	m := &machine{}
	m.vm.MemoryBudget = vmMemory
	m.table = m.functions()
	for _, s := range steps {
		compiled, err := m.compileStep(s, vars)
		if err != nil {
			return nil, err
		}
		m.steps = append(m.steps, compiled)
	}
	return m, nil
}

func (m *machine) compileStep(s model.Step, vars map[string]any) (*step, error) {
	out := &step{name: s.Name, set: s.Set != nil}
	if s.Filter != "" {
		x, err := m.compile(s.Filter, vars)
		if err != nil {
			return nil, expressionFault(s.Name+".filter", err)
		}
		out.filter = x
		return out, nil
	}
	list := s.Map
	if out.set {
		list = s.Set
	}
	for _, a := range list {
		x, err := m.compile(a.Expr, vars)
		if err != nil {
			return nil, expressionFault(s.Name+"."+s.Kind()+"."+a.Field, err)
		}
		out.fields = append(out.fields, a.Field)
		out.values = append(out.values, x)
	}
	if !out.set {
		out.shape = page.NewShape(out.fields...)
	}
	return out, nil
}

// seed mixes what names the record and the step, so that no two draw the same.
func (m *machine) seed() [32]byte {
	var place [8]byte
	binary.BigEndian.PutUint32(place[:4], m.index)
	binary.BigEndian.PutUint32(place[4:], uint32(m.step))
	return sha256.Sum256(append([]byte(m.name+"\x00"), place[:]...))
}

// aim points the machine at a record.
func (m *machine) aim(index uint32) { m.index, m.rand = index, nil }

// apply makes the record that a map or set step makes of r. The error names the
// field.
func (m *machine) apply(s *step, r page.Record) (page.Record, string, error) {
	if s.set {
		return m.change(s, r)
	}
	out := page.Record{Shape: s.shape, Values: make([]page.Value, len(s.values))}
	for i, x := range s.values {
		v, err := x.value(m, r)
		if err != nil {
			return r, s.fields[i], err
		}
		out.Values[i] = v
	}
	return out, "", nil
}

// change sets fields of a copy of r; every expression sees the record before.
func (m *machine) change(s *step, r page.Record) (page.Record, string, error) {
	if s.from != r.Shape {
		s.widen(r.Shape)
	}
	out := page.Record{Shape: s.shape, Values: make([]page.Value, len(s.shape.Names))}
	copy(out.Values, r.Values)
	for i, x := range s.values {
		v, err := x.value(m, r)
		if err != nil {
			return r, s.fields[i], err
		}
		out.Values[s.places[i]] = v
	}
	return out, "", nil
}

// widen finds the place of each field of a set; new fields come last.
func (s *step) widen(from *page.Shape) {
	names := append([]string(nil), from.Names...)
	s.from, s.places = from, make([]int, len(s.fields))
	for i, field := range s.fields {
		at, ok := from.Index(field)
		if !ok {
			at = len(names)
			names = append(names, field)
		}
		s.places[i] = at
	}
	s.shape = page.NewShape(names...)
}
