package transform

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"github.com/cockroachdb/apd/v3"

	"ropeway/protocol/page"
)

// Numbers in expressions (documented in docs as part of the flow reference):
//   - whole numbers are 64 bits; leaving that range is an error, never a wrap;
//   - decimals are exact for + - *; / gives 38 significant digits at most;
//   - a floating-point number takes part as its shortest decimal text, so
//     0.29 * 100 is 29; the result of float with float or whole is a float again,
//     with a decimal it is a decimal;
//   - whole / whole is a decimal: 1 / 4 is 0.25.

// maxDigits bounds the digits of a decimal that an expression makes.
const maxDigits = 20_000

// divisionDigits is the precision of a quotient that does not end.
const divisionDigits = 38

// isFloat reports whether x is a floating-point number of either size.
func isFloat(x any) bool {
	switch v := x.(type) {
	case float64:
		return true
	case page.Value:
		return v.Kind() == page.KindFloat32
	}
	return false
}

// decimal returns any number as a decimal value.
func decimal(x any) (page.Value, bool) {
	switch v := x.(type) {
	case int:
		return intDecimal(int64(v)), true
	case float64:
		d, err := page.DecimalFromString(strconv.FormatFloat(v, 'g', -1, 64))
		return d, err == nil
	case page.Value:
		switch v.Kind() {
		case page.KindDecimal:
			return v, true
		case page.KindUint64:
			return page.Decimal(false, v.Uint(), 0), true
		case page.KindFloat32:
			d, err := page.DecimalFromString(strconv.FormatFloat(v.Float(), 'g', -1, 32))
			return d, err == nil
		}
	}
	return page.Value{}, false
}

func intDecimal(i int64) page.Value {
	if i < 0 {
		return page.Decimal(true, uint64(-(i+1))+1, 0)
	}
	return page.Decimal(false, uint64(i), 0)
}

// arithmetic applies an operator to two numbers.
func arithmetic(op string, a, b any) (any, error) {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok && op != "/" {
			return whole(op, x, y)
		}
	}
	x, okA := decimal(a)
	y, okB := decimal(b)
	if !okA || !okB {
		return nil, fmt.Errorf("%s cannot be applied to %s and %s", op, kindOf(a), kindOf(b))
	}
	d, err := exact(op, x, y)
	if err != nil {
		return nil, err
	}
	if isFloat(a) && !isDecimal(b) || isFloat(b) && !isDecimal(a) {
		return nearestFloat(d)
	}
	return d, nil
}

func isDecimal(x any) bool {
	v, ok := x.(page.Value)
	return ok && v.Kind() == page.KindDecimal
}

func nearestFloat(d page.Value) (any, error) {
	f, err := strconv.ParseFloat(valueText(d), 64)
	if err != nil && !math.IsInf(f, 0) {
		return nil, fmt.Errorf("the result is not a number: %w", err)
	}
	return f, nil
}

func overflow(op string, x, y int) error {
	return fmt.Errorf("%d %s %d does not fit into 64 bits", x, op, y)
}

// whole computes with 64-bit numbers and refuses to leave their range.
func whole(op string, x, y int) (any, error) {
	switch op {
	case "+":
		if s := x + y; (s > x) == (y > 0) {
			return s, nil
		}
	case "-":
		if s := x - y; (s < x) == (y > 0) {
			return s, nil
		}
	case "*":
		if x == 0 || y == 0 {
			return 0, nil
		}
		if p := x * y; p/y == x && !(x == -1 && y == math.MinInt) && !(y == -1 && x == math.MinInt) {
			return p, nil
		}
	case "%":
		if y == 0 {
			return nil, fmt.Errorf("%d %% 0: division by zero", x)
		}
		if y == -1 {
			return 0, nil
		}
		return x % y, nil
	case "**":
		return power(x, y)
	}
	return nil, overflow(op, x, y)
}

func power(x, y int) (any, error) {
	if y < 0 {
		return exact("**", intDecimal(int64(x)), intDecimal(int64(y)))
	}
	switch {
	case y == 0 || x == 1:
		return 1, nil
	case x == 0:
		return 0, nil
	case x == -1:
		return 1 - 2*(y%2), nil
	case y > 63:
		return nil, overflow("**", x, y)
	}
	result := 1
	for range y {
		next, err := whole("*", result, x)
		if err != nil {
			return nil, overflow("**", x, y)
		}
		result = next.(int)
	}
	return result, nil
}

// exact computes with decimals, in registers where both are small.
func exact(op string, x, y page.Value) (page.Value, error) {
	if d, ok := small(op, x, y); ok {
		return d, nil
	}
	return big(op, x.Decimal(), y.Decimal())
}

// small computes + - * of decimals whose coefficients and result fit 63 bits.
func small(op string, x, y page.Value) (page.Value, bool) {
	xn, xc, xe, okX := x.SmallDecimal()
	yn, yc, ye, okY := y.SmallDecimal()
	if !okX || !okY || xc > math.MaxInt64 || yc > math.MaxInt64 {
		return page.Value{}, false
	}
	switch op {
	case "*":
		hi, lo := bits.Mul64(xc, yc)
		exp := int64(xe) + int64(ye)
		if hi != 0 || exp > 1000 || exp < -1000 {
			return page.Value{}, false
		}
		return page.Decimal(xn != yn && lo != 0, lo, int32(exp)), true
	case "-":
		yn = !yn
	case "+":
	default:
		return page.Value{}, false
	}
	xc, yc, exp, ok := align(xc, xe, yc, ye)
	if !ok {
		return page.Value{}, false
	}
	switch {
	case xn == yn && xc+yc <= math.MaxInt64:
		return page.Decimal(xn && xc+yc != 0, xc+yc, exp), true
	case xn != yn && xc >= yc:
		return page.Decimal(xn && xc != yc, xc-yc, exp), true
	case xn != yn:
		return page.Decimal(yn, yc-xc, exp), true
	}
	return page.Value{}, false
}

// align brings two coefficients to the lower exponent; false when one outgrows
// 63 bits.
func align(xc uint64, xe int32, yc uint64, ye int32) (uint64, uint64, int32, bool) {
	if xe < ye {
		yc, xc, exp, ok := align(yc, ye, xc, xe)
		return xc, yc, exp, ok
	}
	for e := xe; e > ye; e-- {
		if xc > math.MaxInt64/10 || int64(xe)-int64(ye) > 18 {
			return 0, 0, 0, false
		}
		xc *= 10
	}
	return xc, yc, ye, true
}

// big computes with decimals of any size, within maxDigits.
func big(op string, x, y *apd.Decimal) (page.Value, error) {
	if err := bounded(op, x, y); err != nil {
		return page.Value{}, err
	}
	ctx := apd.BaseContext
	ctx.Traps = 0
	out := new(apd.Decimal)
	var cond apd.Condition
	var err error
	switch op {
	case "+":
		cond, err = ctx.Add(out, x, y)
	case "-":
		cond, err = ctx.Sub(out, x, y)
	case "*":
		cond, err = ctx.Mul(out, x, y)
	case "/":
		if y.IsZero() {
			return page.Value{}, fmt.Errorf("division by zero")
		}
		cond, err = ctx.WithPrecision(divisionDigits).Quo(out, x, y)
		if cond&apd.Inexact == 0 {
			out.Reduce(out)
			plain(out)
		}
	case "%":
		if y.IsZero() {
			return page.Value{}, fmt.Errorf("division by zero")
		}
		cond, err = ctx.WithPrecision(maxDigits).Rem(out, x, y)
	case "**":
		cond, err = ctx.WithPrecision(divisionDigits).Pow(out, x, y)
	}
	if err != nil {
		return page.Value{}, fmt.Errorf("compute %s: %w", op, err)
	}
	if cond&(apd.Overflow|apd.Underflow|apd.SystemOverflow|apd.SystemUnderflow|apd.DivisionImpossible|apd.InvalidOperation) != 0 {
		return page.Value{}, fmt.Errorf("the result of %s is out of range", op)
	}
	return page.DecimalBig(out), nil
}

// plain writes 1E+2 as 100 where that is short.
func plain(d *apd.Decimal) {
	if d.Form == apd.Finite && d.Exponent > 0 && d.Exponent < 40 {
		ten := apd.NewBigInt(10)
		d.Coeff.Mul(&d.Coeff, new(apd.BigInt).Exp(ten, apd.NewBigInt(int64(d.Exponent)), nil))
		d.Exponent = 0
	}
}

// bounded refuses what would make a number of too many digits.
func bounded(op string, x, y *apd.Decimal) error {
	if x.Form != apd.Finite || y.Form != apd.Finite {
		return nil
	}
	dx, dy := x.NumDigits(), y.NumDigits()
	digits := dx + dy
	if op == "+" || op == "-" || op == "%" {
		gap := int64(x.Exponent) - int64(y.Exponent)
		digits = max(dx, dy) + max(gap, -gap)
	}
	if op == "**" && (y.Exponent > 0 || dy > 4 || x.NumDigits() > 1000) {
		return fmt.Errorf("the power is too large")
	}
	if digits > maxDigits {
		return fmt.Errorf("the result of %s has more than %d digits", op, maxDigits)
	}
	return nil
}
