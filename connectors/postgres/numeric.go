package postgres

import (
	"encoding/binary"
	"math/big"
	"math/bits"
	"strconv"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/page"
)

// The wire form of numeric: int16 groups, int16 weight, uint16 sign, uint16
// scale, then groups of four decimal digits; group i counts
// 10000^(weight − i).
const (
	numericHead     = 8
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericPInf     = 0xD000
	numericNInf     = 0xF000
	maxScale        = 16383
	maxWeight       = 32767
)

var pow10 = [20]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
	1e14, 1e15, 1e16, 1e17, 1e18, 1e19}

// A numeric is a number on its way between wire and page.
type numeric struct {
	special page.Special
	neg     bool
	scale   int // digits after the point
	weight  int
	groups  []byte // two bytes each, as on the wire
}

func parseNumeric(raw []byte) (n numeric, ok bool) {
	if len(raw) < numericHead {
		return n, false
	}
	groups := int(binary.BigEndian.Uint16(raw))
	n.weight = int(int16(binary.BigEndian.Uint16(raw[2:])))
	n.scale = int(binary.BigEndian.Uint16(raw[6:]) & 0x3FFF)
	n.groups = raw[numericHead:]
	if len(n.groups) != 2*groups {
		return n, false
	}
	switch binary.BigEndian.Uint16(raw[4:]) {
	case 0:
	case numericNegative:
		n.neg = true
	case numericNaN:
		n.special = page.NaN
	case numericPInf:
		n.special = page.Infinity
	case numericNInf:
		n.special = page.NegInfinity
	default:
		return n, false
	}
	for i := 0; i < len(n.groups); i += 2 {
		if binary.BigEndian.Uint16(n.groups[i:]) > 9999 {
			return n, false
		}
	}
	return n, true
}

// small is the coefficient at the number's scale where it fits 64 bits.
func (n numeric) small() (coef uint64, ok bool) {
	count := len(n.groups) / 2
	if count == 0 {
		return 0, true
	}
	if count > 4 {
		return 0, false
	}
	for i := 0; i < len(n.groups); i += 2 {
		coef = coef*10000 + uint64(binary.BigEndian.Uint16(n.groups[i:]))
	}
	// The last group counts 10^last; the coefficient is wanted at 10^-scale.
	shift := 4*(n.weight-count+1) + n.scale
	switch {
	case shift < -3 || shift > 19:
		return 0, false
	case shift < 0:
		return coef / pow10[-shift], coef%pow10[-shift] == 0
	}
	high, low := bits.Mul64(coef, pow10[shift])
	return low, high == 0
}

// digits is the coefficient at the number's scale as decimal digits.
func (n numeric) digits() []byte {
	whole := 4 * (n.weight + 1) // digits before the point; may be negative
	out := make([]byte, 0, max(whole, 0)+n.scale+8)
	for range max(-whole, 0) {
		out = append(out, '0')
	}
	for i := 0; i < len(n.groups); i += 2 {
		g := binary.BigEndian.Uint16(n.groups[i:])
		out = append(out, byte('0'+g/1000), byte('0'+g/100%10), byte('0'+g/10%10), byte('0'+g%10))
	}
	want := max(whole, 0) + n.scale
	if whole < 0 {
		want = n.scale
	}
	for len(out) < want {
		out = append(out, '0')
	}
	return out[:want]
}

func (n numeric) big() []byte {
	digits := n.digits()
	if len(digits) == 0 {
		return nil
	}
	coef, _ := new(big.Int).SetString(string(digits), 10)
	return coef.Bytes()
}

func readNumeric(e *page.Encoder, raw []byte) error {
	n, ok := parseNumeric(raw)
	if !ok {
		return badWire("numeric", raw)
	}
	if n.special != 0 {
		e.DecimalSpecial(n.special)
		return nil
	}
	if coef, ok := n.small(); ok {
		e.Decimal(n.neg, coef, int32(-n.scale))
		return nil
	}
	e.DecimalBig(n.neg, n.big(), int32(-n.scale))
	return nil
}

// numericValue is the value of an array's element.
func numericValue(raw []byte) (page.Value, error) {
	n, ok := parseNumeric(raw)
	if !ok {
		return page.Value{}, badWire("numeric", raw)
	}
	if n.special != 0 {
		return page.DecimalSpecial(n.special), nil
	}
	if coef, ok := n.small(); ok {
		return page.Decimal(n.neg, coef, int32(-n.scale)), nil
	}
	text := string(n.digits())
	if n.neg {
		text = "-" + text
	}
	return page.DecimalFromString(text + "E-" + strconv.Itoa(n.scale))
}

// appendNumericInt appends the wire form of an integer.
func appendNumericInt(dst []byte, neg bool, coef uint64) []byte {
	return appendNumericSmall(dst, neg, coef, 0)
}

// appendNumericSmall appends ±coef·10^exp, length first. The caller has checked
// exp.
func appendNumericSmall(dst []byte, neg bool, coef uint64, exp int) []byte {
	var groups [8]uint16 // least first
	count := 0
	odd := ((exp % 4) + 4) % 4 // digits by which the coefficient misses a group
	last := (exp - odd) / 4    // weight of the least group
	if odd > 0 {
		groups[0] = uint16(coef % pow10[4-odd] * pow10[odd])
		coef /= pow10[4-odd]
		count = 1
	}
	for coef > 0 {
		groups[count] = uint16(coef % 10000)
		coef /= 10000
		count++
	}
	for count > 0 && groups[count-1] == 0 {
		count--
	}
	first := 0
	for first < count && groups[first] == 0 {
		first++
	}
	weight := last + count - 1
	if first == count {
		weight = 0
		neg = false // there is no negative zero
	}
	dst = appendNumericHead(dst, count-first, weight, neg, max(-exp, 0))
	for i := count - 1; i >= first; i-- {
		dst = binary.BigEndian.AppendUint16(dst, groups[i])
	}
	return dst
}

func appendNumericHead(dst []byte, groups, weight int, neg bool, scale int) []byte {
	sign := uint16(0)
	if neg {
		sign = numericNegative
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(numericHead+2*groups))
	dst = binary.BigEndian.AppendUint16(dst, uint16(groups))
	dst = binary.BigEndian.AppendUint16(dst, uint16(weight))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	return binary.BigEndian.AppendUint16(dst, uint16(scale))
}

func appendNumericSpecial(dst []byte, s page.Special) []byte {
	sign := uint16(numericNaN)
	switch s {
	case page.Infinity:
		sign = numericPInf
	case page.NegInfinity:
		sign = numericNInf
	}
	dst = binary.BigEndian.AppendUint32(dst, numericHead)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, sign)
	return append(dst, 0, 0)
}

// appendNumericText appends a number given as plain digits with at most one
// point and a sign, of any length that numeric can hold.
func appendNumericText(dst []byte, text []byte) []byte {
	neg := false
	if len(text) > 0 && text[0] == '-' {
		neg, text = true, text[1:]
	}
	point := len(text)
	for i, c := range text {
		if c == '.' {
			point = i
			break
		}
	}
	scale := max(len(text)-point-1, 0)
	digit := func(position int) uint16 { // position 0 is the first after the point
		i := point + position
		if position >= 0 {
			i++
		}
		if i < 0 || i >= len(text) {
			return 0
		}
		return uint16(text[i] - '0')
	}
	top := (point + 3) / 4 // groups before the point
	bottom := (scale + 3) / 4
	groups := make([]uint16, 0, top+bottom)
	for g := -top; g < bottom; g++ {
		v := uint16(0)
		for k := range 4 {
			v = v*10 + digit(4*g+k)
		}
		groups = append(groups, v)
	}
	weight := top - 1
	for len(groups) > 0 && groups[0] == 0 {
		groups, weight = groups[1:], weight-1
	}
	for len(groups) > 0 && groups[len(groups)-1] == 0 {
		groups = groups[:len(groups)-1]
	}
	if len(groups) == 0 {
		weight, neg = 0, false
	}
	dst = appendNumericHead(dst, len(groups), weight, neg, scale)
	for _, g := range groups {
		dst = binary.BigEndian.AppendUint16(dst, g)
	}
	return dst
}

// appendNumericValue appends a decimal of a page. limit is the target's
// declared scale (maxScale if it has none): a value with more digits after the
// point is refused, not rounded.
func appendNumericValue(dst []byte, v *page.Value, limit int) ([]byte, error) {
	if s := v.Special(); s != 0 {
		return appendNumericSpecial(dst, s), nil
	}
	if neg, coef, exp, ok := v.SmallDecimal(); ok {
		scale := -int(exp)
		for scale > limit && coef%10 == 0 && (coef > 0 || scale > 0) {
			if coef == 0 {
				scale = max(limit, 0)
				break
			}
			coef, scale = coef/10, scale-1
		}
		if scale > limit {
			return dst, badValue("has more digits after the point than the column")
		}
		if -scale > 4*maxWeight || scale > maxScale {
			return dst, badValue("is beyond the range of numeric")
		}
		return appendNumericSmall(dst, neg, coef, -scale), nil
	}
	if exp := v.Decimal().Exponent; -exp > maxScale || exp > 4*maxWeight {
		return dst, badValue("is beyond the range of numeric")
	}
	text := sqldb.AppendDecimal(nil, v)
	return appendNumericChecked(dst, text, limit)
}

// appendNumericChecked appends plain digits after checking them against the
// target's scale and the range of numeric.
func appendNumericChecked(dst, text []byte, limit int) ([]byte, error) {
	point := len(text)
	for i, c := range text {
		if c == '.' {
			point = i
		}
	}
	for len(text)-point-1 > max(limit, 0) && text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	scale := len(text) - point - 1
	switch {
	case scale > max(limit, 0):
		return dst, badValue("has more digits after the point than the column")
	case point > 131_072+1 || scale > maxScale:
		return dst, badValue("is beyond the range of numeric")
	}
	return appendNumericText(dst, text), nil
}
