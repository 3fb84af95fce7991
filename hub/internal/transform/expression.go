package transform

import (
	"errors"
	"fmt"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"ropeway/protocol/page"
)

// maxNodes bounds the parts of one expression.
const maxNodes = 2000

// expression is one compiled expression of one machine. A plain field and a
// constant need no program.
type expression struct {
	path    []string // record.a.b, copied as it is
	program *vm.Program
	fields  []fieldRef
	whole   bool
	env     map[string]any

	shape *page.Shape // of the last record; at is valid for it
	at    []int       // place of each field, -1 = absent
}

// parse reads the text and makes it safe and exact.
func parse(text string, vars map[string]any) (*parser.Tree, *rewriter, error) {
	config := conf.CreateNew()
	config.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		return nil, nil, plainError(err)
	}
	r := &rewriter{vars: vars, index: map[string]int{}, lets: map[string]bool{}}
	if err := r.tree(tree); err != nil {
		return nil, nil, err
	}
	return tree, r, nil
}

// compile compiles one expression for one machine.
func (m *machine) compile(text string, vars map[string]any) (x *expression, err error) {
	defer func() { // the language's compiler reports some faults by panic
		if r := recover(); r != nil {
			x, err = nil, fmt.Errorf("the expression cannot be compiled: %v", r)
		}
	}()
	if plain, ok := plainPath(text); ok {
		return &expression{path: plain, at: make([]int, 1)}, nil
	}
	tree, r, err := parse(text, vars)
	if err != nil {
		return nil, err
	}
	config := conf.CreateNew()
	config.Optimize = false
	env := types.Map{wholeRecord: types.Any}
	for _, f := range r.fields {
		env[f.variable] = types.Any
	}
	config.WithEnv(env)
	for name, f := range m.table {
		config.Functions[name] = &builtin.Function{Name: name, Func: f}
	}
	if _, err := checker.Check(tree, config); err != nil {
		return nil, plainError(err)
	}
	program, err := compiler.Compile(tree, config)
	if err != nil {
		return nil, plainError(err)
	}
	return &expression{program: program, fields: r.fields, whole: r.whole,
		env: map[string]any{}, at: make([]int, len(r.fields))}, nil
}

// plainPath reports whether the text is nothing but record.a or record.a.b.
func plainPath(text string) ([]string, bool) {
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, false
	}
	n := tree.Node
	if c, ok := n.(*ast.ChainNode); ok {
		n = c.Node
	}
	return path(n)
}

// plainError cuts the drawing of the source out of an error of the language.
func plainError(err error) error {
	var f *file.Error
	if !errors.As(err, &f) {
		return err
	}
	if inner := f.Unwrap(); inner != nil && !errors.Is(inner, f) {
		return inner
	}
	if f.Line > 0 {
		return fmt.Errorf("%s (line %d, character %d)", f.Message, f.Line, f.Column+1)
	}
	return errors.New(f.Message)
}

// value evaluates the expression over a record, to a value of a record.
func (x *expression) value(m *machine, r page.Record) (page.Value, error) {
	if x.path != nil {
		return x.copied(r)
	}
	result, err := x.result(m, r)
	if err != nil {
		return page.Value{}, err
	}
	return toValue(result)
}

// copied returns the field of a plain path, its kind and bytes unchanged.
func (x *expression) copied(r page.Record) (page.Value, error) {
	if r.Shape != x.shape {
		x.shape, x.at[0] = r.Shape, -1
		if i, ok := r.Shape.Index(x.path[0]); ok {
			x.at[0] = i
		}
	}
	if x.at[0] < 0 {
		return page.Value{}, absent(x.path[0])
	}
	v := r.Values[x.at[0]]
	for _, name := range x.path[1:] {
		if v.Kind() == page.KindJSON {
			inner, err := page.ParseJSON([]byte(v.Text()))
			if err != nil {
				return page.Value{}, fmt.Errorf("the field holds no valid JSON: %w", err)
			}
			v = inner
		}
		if v.Kind() != page.KindObject {
			return page.Value{}, fmt.Errorf("%s has no field %s", v.Kind(), name)
		}
		inner, ok := v.Fields().Field(name)
		if !ok {
			return page.Value{}, absent(name)
		}
		v = inner
	}
	return v, nil
}

func absent(name string) error {
	return fmt.Errorf("the record has no field %q; record?.NAME reads a missing field as null", clip(name))
}

// result evaluates the program over a record.
func (x *expression) result(m *machine, r page.Record) (any, error) {
	if x.path != nil {
		v, err := x.copied(r)
		return fromValue(v), err
	}
	if err := x.load(r); err != nil {
		return nil, err
	}
	m.reset()
	result, err := m.vm.Run(x.program, x.env)
	if err != nil {
		return nil, plainError(err)
	}
	return result, nil
}

// load fills in the fields that the expression uses, and no others.
func (x *expression) load(r page.Record) error {
	if r.Shape != x.shape {
		x.shape = r.Shape
		for i, f := range x.fields {
			x.at[i] = -1
			if at, ok := r.Shape.Index(f.name); ok {
				x.at[i] = at
			}
		}
	}
	for i := range x.fields {
		f := &x.fields[i]
		switch at := x.at[i]; {
		case at >= 0:
			x.env[f.variable] = fromValue(r.Values[at])
		case f.optional:
			x.env[f.variable] = nil
		default:
			return absent(f.name)
		}
	}
	if x.whole {
		x.env[wholeRecord] = r.Value()
	}
	return nil
}
