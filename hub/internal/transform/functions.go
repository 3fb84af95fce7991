package transform

import (
	"fmt"
	"sort"
)

// function is one function of the language; its arguments are counted when the
// expression is compiled.
type function func(args ...any) (any, error)

// arity lists the functions people may call that are ours, with the least and
// most arguments they take.
func arity() map[string][2]int {
	return map[string][2]int{
		"int": {1, 1}, "float": {1, 1}, "decimal": {1, 1}, "string": {1, 1}, "type": {1, 1},
		"abs": {1, 1}, "ceil": {1, 1}, "floor": {1, 1}, "round": {1, 2}, "trunc": {1, 2},
		"min": {1, 100}, "max": {1, 100}, "sum": {1, 1},
		"replace": {3, 4}, "repeat": {2, 2}, "join": {1, 2}, "sort": {1, 2}, "uniq": {1, 1},
		"keys": {1, 1}, "values": {1, 1}, "toJSON": {1, 1}, "fromJSON": {1, 1},
		"now": {0, 0}, "uuid": {0, 0}, "random": {0, 0},
		"date": {1, 1}, "time": {1, 1}, "timestamp": {1, 1}, "localTimestamp": {1, 1},
	}
}

func functionNames() []string {
	var names []string
	for name := range arity() {
		names = append(names, name)
	}
	for name := range natives() {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// functions returns everything compiled expressions call, bound to one machine.
func (m *machine) functions() map[string]function {
	table := map[string]function{
		"$tick":   func(a ...any) (any, error) { return a[0], m.spend(1) },
		"$list":   func(a ...any) (any, error) { return list(a[0]) },
		"$charge": func(a ...any) (any, error) { return m.made(a[0]) },
		"$get":    func(a ...any) (any, error) { return m.member(a[0], a[1], false) },
		"$find":   func(a ...any) (any, error) { return m.member(a[0], a[1], true) },
		"$not":    func(a ...any) (any, error) { b, err := truth(a[0]); return !b, err },
		"$truth":  func(a ...any) (any, error) { b, err := truth(a[0]); return b, err },
		"$neg":    func(a ...any) (any, error) { return negate(a[0]) },
		"$plus":   func(a ...any) (any, error) { return arithmetic("+", 0, a[0]) },
		"$add":    func(a ...any) (any, error) { return m.add(a[0], a[1]) },
		"$eq":     func(a ...any) (any, error) { return equal(a[0], a[1]), nil },
		"$ne":     func(a ...any) (any, error) { return !equal(a[0], a[1]), nil },
		"$in":     func(a ...any) (any, error) { return m.in(a[0], a[1]) },
	}
	for name, op := range map[string]string{"$sub": "-", "$mul": "*", "$div": "/", "$mod": "%", "$pow": "**"} {
		table[name] = func(a ...any) (any, error) { return arithmetic(op, a[0], a[1]) }
	}
	for name, holds := range map[string]func(int) bool{
		"$lt": func(c int) bool { return c < 0 }, "$le": func(c int) bool { return c <= 0 },
		"$gt": func(c int) bool { return c > 0 }, "$ge": func(c int) bool { return c >= 0 },
	} {
		table[name] = func(a ...any) (any, error) {
			c, err := compare(a[0], a[1])
			return err == nil && holds(c), err
		}
	}
	m.numbers(table)
	m.texts(table)
	m.lists(table)
	m.seeds(table)
	return table
}

func truth(x any) (bool, error) {
	b, ok := x.(bool)
	if !ok {
		return false, fmt.Errorf("true or false is needed, not %s", kindOf(x))
	}
	return b, nil
}

func negate(x any) (any, error) {
	if f, ok := x.(float64); ok {
		return -f, nil
	}
	return arithmetic("-", 0, x)
}

// add adds numbers and joins texts.
func (m *machine) add(a, b any) (any, error) {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			if len(x)+len(y) > maxText {
				return nil, errTextTooLong
			}
			return m.text(x + y)
		}
	}
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			return whole("+", x, y)
		}
	}
	return arithmetic("+", a, b)
}
