package transform

import (
	"bytes"
	"cmp"
	"fmt"

	"ropeway/protocol/page"
)

// equal compares two values of an expression: numbers by number whatever their
// kind, times by time, a uuid also with its text, null only with null.
func equal(a, b any) bool {
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		if y, ok := b.(string); ok {
			return x == y
		}
	case int:
		if y, ok := b.(int); ok {
			return x == y
		}
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equal(x[i], y[i]) {
				return false
			}
		}
		return true
	}
	if c, ok := order(a, b); ok {
		return c == 0
	}
	x, errX := toValue(a)
	y, errY := toValue(b)
	return errX == nil && errY == nil && page.Equal(x, y)
}

// compare orders two values; an error when they have no order.
func compare(a, b any) (int, error) {
	c, ok := order(a, b)
	if !ok {
		return 0, fmt.Errorf("%s and %s have no order", kindOf(a), kindOf(b))
	}
	return c, nil
}

func order(a, b any) (int, bool) {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			return cmp.Compare(x, y), true
		}
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y), true
		}
	}
	if x, ok := decimal(a); ok {
		if y, ok := decimal(b); ok {
			return orderDecimals(x, y)
		}
		return 0, false
	}
	return orderValues(a, b)
}

func orderDecimals(x, y page.Value) (int, bool) {
	xn, xc, xe, okX := x.SmallDecimal()
	yn, yc, ye, okY := y.SmallDecimal()
	if okX && okY && xn == yn {
		if xc, yc, _, ok := align(xc, xe, yc, ye); ok {
			if xn {
				return cmp.Compare(yc, xc), true
			}
			return cmp.Compare(xc, yc), true
		}
	}
	if x.Special() == page.NaN || y.Special() == page.NaN {
		return 0, false
	}
	return x.Decimal().Cmp(y.Decimal()), true
}

// orderValues orders times, uuids and bytes. A text beside one of them is read
// as one.
func orderValues(a, b any) (int, bool) {
	x, isX := a.(page.Value)
	y, isY := b.(page.Value)
	if text, ok := a.(string); ok && isY {
		c, ok := orderText(y, text)
		return -c, ok
	}
	if text, ok := b.(string); ok && isX {
		return orderText(x, text)
	}
	if !isX || !isY || x.Kind() != y.Kind() {
		return 0, false
	}
	switch x.Kind() {
	case page.KindDate:
		return cmp.Compare(x.Days(), y.Days()), true
	case page.KindTime, page.KindLocalTimestamp, page.KindTimestamp:
		return cmp.Compare(x.Micros(), y.Micros()), true
	case page.KindUUID:
		u, w := x.UUID(), y.UUID()
		return bytes.Compare(u[:], w[:]), true
	case page.KindBytes:
		return bytes.Compare(x.Bytes(), y.Bytes()), true
	}
	return 0, false
}

func orderText(v page.Value, text string) (int, bool) {
	switch v.Kind() {
	case page.KindDate, page.KindTime, page.KindLocalTimestamp, page.KindTimestamp, page.KindUUID:
		other, err := parseAs(v.Kind(), text)
		if err != nil {
			return 0, false
		}
		return orderValues(v, other)
	case page.KindForeign, page.KindJSON:
		return cmp.Compare(v.Text(), text), true
	}
	return 0, false
}
