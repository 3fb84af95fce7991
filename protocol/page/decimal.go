package page

import (
	"encoding/binary"
	"math/big"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"ropeway/protocol/fault"
)

// The limits of decimals: what PostgreSQL's numeric can hold, rounded up.
const (
	MaxExponent    = 1 << 18 // of either sign
	MaxCoefficient = 1 << 16 // bytes of the coefficient, about 157,800 digits
	maxDigits      = 160_000 // refused before any arithmetic
)

// Flags of a decimal value and of its cell.
const (
	decimalNeg = 1 << 0
	decimalBig = 1 << 1 // the coefficient is in str, big-endian, more than 64 bits
	// special values stand alone: flag = decimalSpecial + Special
	decimalSpecial = 4
)

// Decimal is (-1)^neg · coef · 10^exp, exactly; 1.5 and 1.50 are different
// values. An exponent beyond MaxExponent cannot be encoded.
func Decimal(neg bool, coef uint64, exp int32) Value {
	v := Value{kind: KindDecimal, num: coef, aux: exp}
	if neg {
		v.flag = decimalNeg
	}
	return v
}

// DecimalSpecial is NaN or an infinity.
func DecimalSpecial(s Special) Value {
	return Value{kind: KindDecimal, flag: decimalSpecial + uint8(s)}
}

// DecimalBig is d with its sign, digits and exponent; a signalling NaN becomes
// a NaN.
func DecimalBig(d *apd.Decimal) Value {
	switch d.Form {
	case apd.Finite:
	case apd.Infinite:
		if d.Negative {
			return DecimalSpecial(NegInfinity)
		}
		return DecimalSpecial(Infinity)
	default:
		return DecimalSpecial(NaN)
	}
	if d.Coeff.IsUint64() {
		return Decimal(d.Negative, d.Coeff.Uint64(), d.Exponent)
	}
	return decimalOf(d.Negative, d.Coeff.Bytes(), d.Exponent)
}

// decimalOf makes a decimal of a big-endian coefficient of any length. It keeps
// coef if it has more than 64 bits.
func decimalOf(neg bool, coef []byte, exp int32) Value {
	coef = trimZeros(coef)
	if len(coef) <= 8 {
		return Decimal(neg, beUint64(coef), exp)
	}
	v := Value{kind: KindDecimal, flag: decimalBig, aux: exp, str: alias(coef)}
	if neg {
		v.flag |= decimalNeg
	}
	return v
}

// DecimalFromString reads an optional sign, digits with at most one point and
// an optional exponent, or "NaN", "Infinity" or "-Infinity" (any case, "Inf"
// too), exactly. It refuses everything else and numbers beyond
// MaxCoefficient or MaxExponent.
func DecimalFromString(s string) (Value, error) {
	switch strings.ToLower(s[:min(len(s), 10)]) {
	case "nan":
		return DecimalSpecial(NaN), nil
	case "inf", "infinity", "+inf", "+infinity":
		return DecimalSpecial(Infinity), nil
	case "-inf", "-infinity":
		return DecimalSpecial(NegInfinity), nil
	}
	v, ok := parseDecimal(s)
	if !ok {
		return Value{}, fault.Of("E_PARSE").WithSentence("the decimal is not valid").WithCause(quoted(s))
	}
	return v, nil
}

func parseDecimal(s string) (Value, bool) {
	neg := strings.HasPrefix(s, "-")
	if neg || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	mantissa, exponent, hasExp := s, "", false
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent, hasExp = s[:i], s[i+1:], true
	}
	exp := int64(0)
	if hasExp {
		e, err := strconv.ParseInt(exponent, 10, 32)
		if err != nil {
			return Value{}, false
		}
		exp = e
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	exp -= int64(len(frac))
	if whole == "" && frac == "" || !allDigits(whole) || !allDigits(frac) ||
		exp > MaxExponent || exp < -MaxExponent {
		return Value{}, false
	}
	return decimalDigits(neg, whole, frac, int32(exp))
}

func decimalDigits(neg bool, whole, frac string, exp int32) (Value, bool) {
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		frac = strings.TrimLeft(frac, "0")
	}
	n := len(whole) + len(frac)
	if n > maxDigits {
		return Value{}, false
	}
	if n <= 19 { // always fits 64 bits
		var coef uint64
		for _, part := range [2]string{whole, frac} {
			for i := range len(part) {
				coef = coef*10 + uint64(part[i]-'0')
			}
		}
		return Decimal(neg, coef, exp), true
	}
	coef, ok := new(big.Int).SetString(whole+frac, 10)
	if !ok {
		return Value{}, false
	}
	b := coef.Bytes()
	return decimalOf(neg, b, exp), len(b) <= MaxCoefficient
}

// Special is which special decimal the value is; 0 if it has digits.
func (v Value) Special() Special {
	if v.kind != KindDecimal || v.flag < decimalSpecial {
		return 0
	}
	return Special(v.flag - decimalSpecial)
}

// SmallDecimal are the parts of a decimal whose coefficient fits 64 bits.
func (v Value) SmallDecimal() (neg bool, coef uint64, exp int32, ok bool) {
	if v.kind != KindDecimal || v.flag&^decimalNeg != 0 {
		return false, 0, 0, false
	}
	return v.flag == decimalNeg, v.num, v.aux, true
}

func (v Value) apd() *apd.Decimal {
	d := new(apd.Decimal)
	switch v.Special() {
	case NaN:
		d.Form = apd.NaN
		return d
	case Infinity, NegInfinity:
		d.Form, d.Negative = apd.Infinite, v.Special() == NegInfinity
		return d
	}
	d.Negative, d.Exponent = v.flag&decimalNeg != 0, v.aux
	if v.flag&decimalBig != 0 {
		d.Coeff.SetBytes([]byte(v.str))
	} else {
		d.Coeff.SetUint64(v.num)
	}
	return d
}

// appendDecimal writes the one text of a decimal: parsing it gives the same
// sign, coefficient and exponent.
func appendDecimal(b []byte, v Value) []byte {
	switch v.Special() {
	case NaN:
		return append(b, "NaN"...)
	case Infinity:
		return append(b, "Infinity"...)
	case NegInfinity:
		return append(b, "-Infinity"...)
	}
	if v.flag&decimalNeg != 0 {
		b = append(b, '-')
	}
	var small [20]byte
	digits := strconv.AppendUint(small[:0], v.num, 10)
	if v.flag&decimalBig != 0 {
		digits = new(big.Int).SetBytes([]byte(v.str)).Append(nil, 10)
	}
	return appendScaled(b, digits, int(v.aux))
}

// appendScaled places the point: plainly where that needs no more than six
// zeros, else in scientific form (the rule of the General Decimal Arithmetic).
func appendScaled(b, digits []byte, exp int) []byte {
	adjusted := exp + len(digits) - 1
	if exp > 0 || adjusted < -6 {
		b = append(b, digits[0])
		if len(digits) > 1 {
			b = append(append(b, '.'), digits[1:]...)
		}
		b = append(b, 'E')
		if adjusted >= 0 {
			b = append(b, '+')
		}
		return strconv.AppendInt(b, int64(adjusted), 10)
	}
	point := len(digits) + exp
	if exp == 0 {
		return append(b, digits...)
	}
	if point > 0 {
		b = append(append(b, digits[:point]...), '.')
		return append(b, digits[point:]...)
	}
	b = append(b, "0."...)
	for range -point {
		b = append(b, '0')
	}
	return append(b, digits...)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

func beUint64(b []byte) uint64 {
	var full [8]byte
	copy(full[8-len(b):], b)
	return binary.BigEndian.Uint64(full[:])
}
