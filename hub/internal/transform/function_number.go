package transform

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"ropeway/protocol/page"
)

func (m *machine) numbers(table map[string]function) {
	table["$int"] = func(a ...any) (any, error) { return toInt(a[0]) }
	table["$float"] = func(a ...any) (any, error) { return toFloat(a[0]) }
	table["$decimal"] = func(a ...any) (any, error) { return toDecimal(a[0]) }
	table["$abs"] = func(a ...any) (any, error) {
		if c, err := compare(a[0], 0); err != nil || c >= 0 {
			return a[0], err
		}
		return negate(a[0])
	}
	for name, mode := range map[string]apd.Rounder{"$ceil": apd.RoundCeiling, "$floor": apd.RoundFloor} {
		table[name] = func(a ...any) (any, error) { return round(a[0], 0, mode) }
	}
	for name, mode := range map[string]apd.Rounder{"$round": apd.RoundHalfUp, "$trunc": apd.RoundDown} {
		table[name] = func(a ...any) (any, error) {
			places := 0
			if len(a) == 2 {
				p, ok := a[1].(int)
				if !ok || p < 0 || p > 1000 {
					return nil, fmt.Errorf("the places are a whole number from 0 to 1000")
				}
				places = p
			}
			return round(a[0], places, mode)
		}
	}
	table["$min"] = func(a ...any) (any, error) { return m.extreme(a, -1) }
	table["$max"] = func(a ...any) (any, error) { return m.extreme(a, 1) }
	table["$sum"] = func(a ...any) (any, error) { return m.sum(a[0]) }
}

// toInt cuts a number to a whole one, or reads a text; out of range is an error.
func toInt(x any) (any, error) {
	if i, ok := x.(int); ok {
		return i, nil
	}
	if s, ok := x.(string); ok {
		i, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number of 64 bits", clip(s))
		}
		return int(i), nil
	}
	d, ok := decimal(x)
	if !ok {
		return nil, fmt.Errorf("int cannot be applied to %s", kindOf(x))
	}
	cut, err := round(d, 0, apd.RoundDown)
	if err != nil {
		return nil, err
	}
	v := cut.(page.Value)
	if v.Special() == 0 {
		if i, err := v.Decimal().Int64(); err == nil {
			return int(i), nil
		}
	}
	return nil, fmt.Errorf("%s does not fit into 64 bits", clip(valueText(d)))
}

func toFloat(x any) (any, error) {
	switch v := x.(type) {
	case float64:
		return v, nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", clip(v))
		}
		return f, nil
	case page.Value:
		if v.Kind() == page.KindFloat32 {
			return v.Float(), nil
		}
	}
	d, ok := decimal(x)
	if !ok {
		return nil, fmt.Errorf("float cannot be applied to %s", kindOf(x))
	}
	return nearestFloat(d)
}

func toDecimal(x any) (any, error) {
	if s, ok := x.(string); ok {
		d, err := page.DecimalFromString(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", clip(s))
		}
		return d, nil
	}
	d, ok := decimal(x)
	if !ok {
		return nil, fmt.Errorf("decimal cannot be applied to %s", kindOf(x))
	}
	return d, nil
}

// round rounds to places after the point. Whole numbers stay whole, floats
// floats, everything else is a decimal.
func round(x any, places int, mode apd.Rounder) (any, error) {
	if _, ok := x.(int); ok {
		return x, nil
	}
	d, ok := decimal(x)
	if !ok {
		return nil, fmt.Errorf("%s cannot be rounded", kindOf(x))
	}
	rounded, err := roundDecimal(d, places, mode)
	if err != nil || !isFloat(x) {
		return rounded, err
	}
	return nearestFloat(rounded)
}

func roundDecimal(d page.Value, places int, mode apd.Rounder) (page.Value, error) {
	if neg, coef, exp, ok := d.SmallDecimal(); ok && mode == apd.RoundDown && exp < 0 && places == 0 {
		for ; exp < 0 && coef > 0; exp++ {
			coef /= 10
		}
		return page.Decimal(neg && coef != 0, coef, 0), nil
	}
	in := d.Decimal()
	if in.Form != apd.Finite || int64(in.Exponent) >= -int64(places) {
		return d, nil
	}
	ctx := apd.BaseContext
	ctx.Traps, ctx.Rounding, ctx.Precision = 0, mode, uint32(max(in.NumDigits(), 1)+1)
	out := new(apd.Decimal)
	if _, err := ctx.Quantize(out, in, -int32(places)); err != nil || out.Form != apd.Finite {
		return page.Value{}, fmt.Errorf("%s cannot be rounded to %d places", clip(valueText(d)), places)
	}
	if out.IsZero() {
		out.Negative = false
	}
	return page.DecimalBig(out), nil
}

// extreme returns the least (-1) or greatest (1) of the arguments or of one list.
func (m *machine) extreme(args []any, sign int) (any, error) {
	if len(args) == 1 {
		items, err := list(args[0])
		if err != nil {
			return nil, err
		}
		args = items
	}
	if len(args) == 0 {
		return nil, nil
	}
	best := args[0]
	for _, x := range args[1:] {
		c, err := compare(x, best)
		if err != nil {
			return nil, err
		}
		if c*sign > 0 {
			best = x
		}
	}
	return best, m.spend(len(args))
}

func (m *machine) sum(x any) (any, error) {
	items, err := list(x)
	if err != nil {
		return nil, err
	}
	var total any = 0
	for _, item := range items {
		if total, err = arithmetic("+", total, item); err != nil {
			return nil, err
		}
	}
	return total, m.spend(len(items))
}

// wholeIndex reads a list index.
func wholeIndex(x any, length int) (int, error) {
	i, ok := x.(int)
	if !ok {
		return 0, fmt.Errorf("a list is indexed by a whole number, not %s", kindOf(x))
	}
	if i < 0 && i >= -length {
		i += length
	}
	if i < 0 || i >= length || length > math.MaxInt32 {
		return 0, fmt.Errorf("the list has %d items, there is no item %d", length, i)
	}
	return i, nil
}
