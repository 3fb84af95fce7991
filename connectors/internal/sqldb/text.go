package sqldb

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"

	"ropeway/protocol/page"
)

// AppendText appends v as text that keeps its whole value: ISO 8601 for dates,
// times and intervals, plain digits for numbers, \x… for bytes, JSON for
// arrays and objects. Null and blob references have no text (ok is false).
func AppendText(dst []byte, v *page.Value) (text []byte, ok bool) {
	switch v.Kind() {
	case page.KindNull, page.KindBlob:
		return dst, false
	case page.KindBool:
		return strconv.AppendBool(dst, v.Bool()), true
	case page.KindInt64:
		return strconv.AppendInt(dst, v.Int(), 10), true
	case page.KindUint64:
		return strconv.AppendUint(dst, v.Uint(), 10), true
	case page.KindFloat32:
		return appendFloat(dst, v.Float(), 32), true
	case page.KindFloat64:
		return appendFloat(dst, v.Float(), 64), true
	case page.KindDecimal:
		return AppendDecimal(dst, v), true
	case page.KindBytes:
		return hex.AppendEncode(append(dst, `\x`...), v.Bytes()), true
	case page.KindDate:
		return v.GoTime().AppendFormat(dst, time.DateOnly), true
	case page.KindTime:
		return appendTime(dst, v.Micros()), true
	case page.KindLocalTimestamp:
		return v.GoTime().AppendFormat(dst, "2006-01-02T15:04:05.999999"), true
	case page.KindTimestamp:
		return appendTimestamp(dst, v), true
	case page.KindInterval:
		return AppendInterval(dst, v), true
	case page.KindUUID:
		return append(dst, uuid.UUID(v.UUID()).String()...), true
	case page.KindArray, page.KindObject:
		return AppendJSON(dst, v), true
	}
	return append(dst, v.Text()...), true // string, JSON, foreign
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// AppendDecimal appends a decimal in plain digits, or NaN, Infinity,
// -Infinity.
func AppendDecimal(dst []byte, v *page.Value) []byte {
	switch v.Special() {
	case page.NaN:
		return append(dst, "NaN"...)
	case page.Infinity:
		return append(dst, "Infinity"...)
	case page.NegInfinity:
		return append(dst, "-Infinity"...)
	}
	neg, coef, exp, small := v.SmallDecimal()
	if !small {
		return append(dst, v.Decimal().Text('f')...)
	}
	if neg {
		dst = append(dst, '-')
	}
	var buf [20]byte
	digits := strconv.AppendUint(buf[:0], coef, 10)
	return appendPlain(dst, digits, int(exp))
}

func appendPlain(dst, digits []byte, exp int) []byte {
	if exp >= 0 {
		dst = append(dst, digits...)
		for range exp {
			dst = append(dst, '0')
		}
		return dst
	}
	point := len(digits) + exp
	if point > 0 {
		dst = append(append(dst, digits[:point]...), '.')
		return append(dst, digits[point:]...)
	}
	dst = append(dst, "0."...)
	for range -point {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// appendTime writes hh:mm:ss[.ffffff]; 24:00:00 is a time of its own.
func appendTime(dst []byte, us int64) []byte {
	dst = appendTwo(dst, us/3_600_000_000)
	dst = appendTwo(append(dst, ':'), us/60_000_000%60)
	dst = appendTwo(append(dst, ':'), us/1_000_000%60)
	return appendFraction(dst, us%1_000_000)
}

func appendTwo(dst []byte, n int64) []byte {
	return append(dst, byte('0'+n/10%10), byte('0'+n%10))
}

// appendFraction writes ".ffffff" without trailing zeros.
func appendFraction(dst []byte, us int64) []byte {
	if us == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int64(100_000); us > 0; unit /= 10 {
		dst = append(dst, byte('0'+us/unit))
		us %= unit
	}
	return dst
}

func appendTimestamp(dst []byte, v *page.Value) []byte {
	dst = v.GoTime().AppendFormat(dst, "2006-01-02T15:04:05.999999")
	offset := int64(v.Offset())
	if offset == 0 {
		return append(dst, 'Z')
	}
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = appendTwo(append(dst, sign), offset/3600)
	dst = appendTwo(append(dst, ':'), offset/60%60)
	if offset%60 != 0 {
		dst = appendTwo(append(dst, ':'), offset%60)
	}
	return dst
}

// AppendInterval appends an ISO 8601 duration, each part with its own sign,
// such as P1M-2DT3.5S.
func AppendInterval(dst []byte, v *page.Value) []byte {
	months, days, us := v.Interval()
	dst = append(dst, 'P')
	if months != 0 {
		dst = append(strconv.AppendInt(dst, int64(months), 10), 'M')
	}
	if days != 0 {
		dst = append(strconv.AppendInt(dst, int64(days), 10), 'D')
	}
	if us == 0 && (months != 0 || days != 0) {
		return dst
	}
	dst = append(dst, 'T')
	if hours := us / 3_600_000_000; hours != 0 {
		dst = append(strconv.AppendInt(dst, hours, 10), 'H')
	}
	if minutes := us / 60_000_000 % 60; minutes != 0 {
		dst = append(strconv.AppendInt(dst, minutes, 10), 'M')
	}
	if rest := us % 60_000_000; rest != 0 || us == 0 {
		dst = appendSeconds(dst, rest)
	}
	return dst
}

func appendSeconds(dst []byte, us int64) []byte {
	if us < 0 {
		dst, us = append(dst, '-'), -us
	}
	dst = strconv.AppendInt(dst, us/1_000_000, 10)
	return append(appendFraction(dst, us%1_000_000), 'S')
}

// AppendJSON appends v as plain JSON, as a JSON column or another program
// expects it: numbers as numbers with all their digits, dates, times and uuids
// as text, bytes as base64, and what JSON cannot hold (NaN) as text.
func AppendJSON(dst []byte, v *page.Value) []byte {
	switch v.Kind() {
	case page.KindNull, page.KindBlob:
		return append(dst, "null"...)
	case page.KindBool, page.KindInt64, page.KindUint64:
		text, _ := AppendText(dst, v)
		return text
	case page.KindFloat32, page.KindFloat64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return appendQuoted(dst, v)
		}
		text, _ := AppendText(dst, v)
		return text
	case page.KindDecimal:
		if v.Special() != 0 {
			return appendQuoted(dst, v)
		}
		return AppendDecimal(dst, v)
	case page.KindString:
		return appendJSONString(dst, v.Text())
	case page.KindBytes:
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), v.Bytes())
		return append(dst, '"')
	case page.KindJSON:
		return append(dst, v.Text()...)
	case page.KindArray:
		return appendJSONArray(dst, v.Items())
	case page.KindObject:
		return appendJSONObject(dst, v.Fields())
	}
	return appendQuoted(dst, v)
}

func appendQuoted(dst []byte, v *page.Value) []byte {
	text, _ := AppendText(nil, v)
	return appendJSONString(dst, string(text))
}

func appendJSONArray(dst []byte, items []page.Value) []byte {
	dst = append(dst, '[')
	for i := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSON(dst, &items[i])
	}
	return append(dst, ']')
}

func appendJSONObject(dst []byte, r page.Record) []byte {
	dst = append(dst, '{')
	for i := range r.Values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, r.Shape.Names[i]), ':')
		dst = AppendJSON(dst, &r.Values[i])
	}
	return append(dst, '}')
}

func appendJSONString(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		if c < 0x20 {
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
		start = i + 1
	}
	return append(append(dst, s[start:]...), '"')
}
