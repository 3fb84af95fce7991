package sqldb

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"ropeway/protocol/page"
)

// Integer is the whole number that v is: integers, truth values as 0 and 1,
// decimals and floats without a fraction, and text of decimal digits.
func Integer(v *page.Value) (i int64, exact bool) {
	switch v.Kind() {
	case page.KindInt64:
		return v.Int(), true
	case page.KindUint64:
		return int64(v.Uint()), v.Uint() <= math.MaxInt64
	case page.KindBool:
		if v.Bool() {
			return 1, true
		}
		return 0, true
	case page.KindFloat32, page.KindFloat64:
		f := v.Float()
		return int64(f), f == math.Trunc(f) && f >= -(1<<63) && f < 1<<63
	case page.KindString:
		i, err := strconv.ParseInt(v.Text(), 10, 64)
		return i, err == nil
	case page.KindDecimal:
		return integerOfDecimal(v)
	}
	return 0, false
}

func integerOfDecimal(v *page.Value) (int64, bool) {
	if v.Special() != 0 {
		return 0, false
	}
	d := v.Decimal()
	if d.IsZero() {
		return 0, true
	}
	if d.Exponent > 18 || -int64(d.Exponent) > d.NumDigits() {
		return 0, false
	}
	coef := new(big.Int).Set(d.Coeff.MathBigInt())
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(d.Exponent, -d.Exponent))), nil)
	if d.Exponent >= 0 {
		coef.Mul(coef, scale)
	} else {
		rest := new(big.Int)
		if coef.QuoRem(coef, scale, rest); rest.Sign() != 0 {
			return 0, false
		}
	}
	if d.Negative {
		coef.Neg(coef)
	}
	return coef.Int64(), coef.IsInt64()
}

// Float is the floating-point number of the given size that v is. Integers must
// fit exactly, for they may be keys; decimals, wider floats and text become the
// nearest number, as is the nature of the type, unless that is infinite.
func Float(v *page.Value, bits int) (float64, error) {
	switch v.Kind() {
	case page.KindFloat32, page.KindFloat64:
		f := v.Float()
		if bits == 32 && math.IsInf(float64(float32(f)), 0) && !math.IsInf(f, 0) {
			return 0, errors.New("is beyond the range of the floating-point type")
		}
		return f, nil
	case page.KindInt64, page.KindUint64:
		return floatOfInteger(v, bits)
	case page.KindDecimal:
		switch v.Special() {
		case page.NaN:
			return math.NaN(), nil
		case page.Infinity:
			return math.Inf(1), nil
		case page.NegInfinity:
			return math.Inf(-1), nil
		}
		return parseFloat(v.Decimal().Text('e'), bits)
	case page.KindString:
		return parseFloat(v.Text(), bits)
	}
	return 0, errors.New("is of kind " + v.Kind().String() + ", which is not a number")
}

func floatOfInteger(v *page.Value, bits int) (float64, error) {
	text, _ := AppendText(nil, v)
	f, err := parseFloat(string(text), bits)
	if err != nil {
		return 0, err
	}
	if strconv.FormatFloat(f, 'f', -1, 64) != string(text) {
		whole, accuracy := big.NewFloat(f).Int(nil)
		if accuracy != big.Exact || whole.String() != string(text) {
			return 0, errors.New("is an integer that the floating-point type cannot hold exactly")
		}
	}
	return f, nil
}

func parseFloat(text string, bits int) (float64, error) {
	if strings.ContainsAny(text, "xX_pP") {
		return 0, errors.New("is not a decimal number")
	}
	f, err := strconv.ParseFloat(text, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, errors.New("is beyond the range of the floating-point type")
	case err != nil:
		return 0, errors.New("is not a number")
	}
	return f, nil
}

// Decimal is the decimal that v is: integers, truth values as 0 and 1, floats
// by their shortest text that gives the same float, and text.
func Decimal(v *page.Value) (page.Value, error) {
	switch v.Kind() {
	case page.KindDecimal:
		return *v, nil
	case page.KindInt64, page.KindUint64, page.KindFloat32, page.KindFloat64:
		text, _ := AppendText(nil, v)
		return page.DecimalFromString(string(text))
	case page.KindBool:
		i, _ := Integer(v)
		return page.Decimal(false, uint64(i), 0), nil
	case page.KindString:
		d, err := page.DecimalFromString(v.Text())
		if err != nil {
			return page.Value{}, errors.New("is not a decimal number")
		}
		return d, nil
	}
	return page.Value{}, errors.New("is of kind " + v.Kind().String() + ", which is not a number")
}

// ParseDate reads YYYY-MM-DD as days since 1970-01-01, years 1–9999.
func ParseDate(text string) (days int64, ok bool) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || t.Year() < 1 {
		return 0, false
	}
	return floorDiv(t.Unix(), 86400), true
}

// ParseTime reads hh:mm[:ss[.ffffff]] as microseconds; 24:00:00 is allowed.
func ParseTime(text string) (us int64, ok bool) {
	if text == "24:00" || text == "24:00:00" {
		return 86_400_000_000, true
	}
	for _, layout := range []string{"15:04:05", "15:04"} { // fractions are read anyway
		t, err := time.Parse("2006-01-02 "+layout, "1970-01-01 "+text)
		if err == nil && t.Nanosecond()%1000 == 0 {
			return t.UnixMicro(), true
		}
	}
	return 0, false
}

// ParseTimestamp reads YYYY-MM-DD, "T" or a blank, hh:mm[:ss[.ffffff]] and a
// zone (Z, ±hh, ±hh:mm) or none, as microseconds since 1970-01-01 (of what the
// clock shows if there is no zone), years 1–9999. A date alone is midnight.
func ParseTimestamp(text string) (us int64, zoned, ok bool) {
	if len(text) > 64 {
		return 0, false, false
	}
	if days, ok := ParseDate(text); ok {
		return days * 86_400_000_000, false, true
	}
	text = strings.Replace(text, " ", "T", 1)
	for _, clock := range []string{"15:04:05", "15:04"} {
		for _, zone := range []string{"Z07:00", "Z07", "Z0700", ""} {
			t, err := time.Parse("2006-01-02T"+clock+zone, text)
			if err != nil {
				continue
			}
			valid := t.Nanosecond()%1000 == 0 && t.Year() >= 1 && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999
			return t.UnixMicro(), zone != "", valid
		}
	}
	return 0, false, false
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
