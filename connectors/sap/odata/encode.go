package odata

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A form is how a value becomes text: in a body, or in an address.
type form struct{ version int }

// badValue is a value that the property cannot hold.
func (p *property) badValue(why string) *fault.Error {
	return fault.Of("E_VALUE").WithSource(name).WithField(p.name).WithCause("the value " + why)
}

// appendJSON appends v as the property's JSON. Nothing is rounded, cut or
// guessed: what does not fit is E_VALUE.
func (f form) appendJSON(dst []byte, v page.Value, p *property) ([]byte, error) {
	if v.IsNull() {
		return append(dst, "null"...), nil
	}
	if v.Kind() == page.KindJSON && (p.collection || p.prim == structured) {
		if err := v.UnmarshalJSON(v.Bytes()); err != nil {
			return nil, p.badValue("is JSON that cannot be read")
		}
	}
	switch {
	case p.collection:
		return f.appendItems(dst, v, p)
	case p.prim == structured:
		if v.Kind() != page.KindObject {
			return nil, p.badValue("is of kind " + v.Kind().String() + ", not an object")
		}
		return f.appendObject(dst, v.Fields(), p.of, p.name)
	case p.prim == unknown || p.prim == stream:
		return p.appendUnknown(dst, v)
	}
	s, err := f.text(v, p)
	if err != nil {
		return nil, err
	}
	if f.bare(p.prim, s) {
		return append(dst, s...), nil
	}
	return appendString(dst, s), nil
}

func (p *property) appendUnknown(dst []byte, v page.Value) ([]byte, error) {
	if p.prim == stream {
		return nil, p.badValue("cannot be written: the property is a stream")
	}
	raw := sqldb.AppendJSON(nil, &v)
	if !json.Valid(raw) {
		return nil, p.badValue("is not valid JSON")
	}
	return append(dst, raw...), nil
}

func (f form) appendItems(dst []byte, v page.Value, p *property) ([]byte, error) {
	if v.Kind() != page.KindArray {
		return nil, p.badValue("is of kind " + v.Kind().String() + ", not an array")
	}
	one := *p
	one.collection = false
	dst = append(dst, '[')
	for i, item := range v.Items() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = f.appendJSON(dst, item, &one); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// appendObject appends the fields of an object that the structure has. within
// names the field that holds it, for faults.
func (f form) appendObject(dst []byte, r page.Record, s *structure, within string) ([]byte, error) {
	dst = append(dst, '{')
	for i, field := range r.Shape.Names {
		p := s.byName[field]
		if p == nil {
			return nil, fault.Of("E_VALUE").WithSource(name).WithField(within).
				WithCause(fmt.Sprintf("%s holds a field %q that %s does not have", within, field, s.name))
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, field), ':')
		var err error
		if dst, err = f.appendJSON(dst, r.Values[i], p); err != nil {
			return nil, fault.From(err).WithField(within)
		}
	}
	return append(dst, '}'), nil
}

func appendString(dst []byte, s string) []byte {
	v := page.String(strings.ToValidUTF8(s, "\uFFFD"))
	return sqldb.AppendJSON(dst, &v)
}

// bare reports whether JSON writes the text without quotes. Numbers that a
// JavaScript reader would round travel as text in both versions
// (IEEE754Compatible in version 4).
func (f form) bare(prim primitive, s string) bool {
	switch prim {
	case boolean, byteInt, sbyteInt, int16Int, int32Int:
		return true
	case single, double:
		return f.version == 4 && s != "INF" && s != "-INF" && s != "NaN"
	}
	return false
}

// text is a value of a simple type as the version writes it in JSON.
func (f form) text(v page.Value, p *property) (string, error) {
	switch p.prim {
	case boolean:
		return p.boolText(v)
	case byteInt, sbyteInt, int16Int, int32Int, int64Int:
		return p.intText(v)
	case decimal:
		return p.decimalText(v)
	case single, double:
		return p.floatText(v)
	case guid:
		return p.guidText(v)
	case bytesType:
		if v.Kind() != page.KindBytes {
			return "", p.badValue("is of kind " + v.Kind().String() + ", not bytes")
		}
		if p.maxLength > 0 && len(v.Bytes()) > p.maxLength {
			return "", p.badValue(fmt.Sprintf("has more than %d bytes", p.maxLength))
		}
		if f.version == 4 {
			return base64.URLEncoding.EncodeToString(v.Bytes()), nil
		}
		return base64.StdEncoding.EncodeToString(v.Bytes()), nil
	case text, enumeration:
		return p.stringText(v)
	}
	return f.temporalText(v, p)
}

func (p *property) boolText(v page.Value) (string, error) {
	if i, exact := sqldb.Integer(&v); v.Kind() != page.KindString && exact && (i == 0 || i == 1) {
		return strconv.FormatBool(i == 1), nil
	}
	if s := v.Text(); v.Kind() == page.KindString && (s == "true" || s == "false") {
		return s, nil
	}
	return "", p.badValue("is not true or false")
}

var intRanges = map[primitive][2]int64{
	byteInt: {0, math.MaxUint8}, sbyteInt: {math.MinInt8, math.MaxInt8},
	int16Int: {math.MinInt16, math.MaxInt16}, int32Int: {math.MinInt32, math.MaxInt32},
	int64Int: {math.MinInt64, math.MaxInt64},
}

func (p *property) intText(v page.Value) (string, error) {
	i, exact := sqldb.Integer(&v)
	bounds := intRanges[p.prim]
	if !exact || i < bounds[0] || i > bounds[1] {
		return "", p.badValue(fmt.Sprintf("is not a whole number from %d to %d", bounds[0], bounds[1]))
	}
	return strconv.FormatInt(i, 10), nil
}

func (p *property) decimalText(v page.Value) (string, error) {
	d, err := sqldb.Decimal(&v)
	if err != nil {
		return "", p.badValue(err.Error())
	}
	if d.Special() != 0 {
		return "", p.badValue("is not a finite number")
	}
	if d.Decimal().Exponent > 1000 || d.Decimal().Exponent < -1000 {
		return "", p.badValue("has too many digits")
	}
	s := string(sqldb.AppendDecimal(nil, &d))
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	fraction = strings.TrimRight(fraction, "0")
	if p.scale >= 0 && len(fraction) > p.scale {
		return "", p.badValue(fmt.Sprintf("has more than %d decimal places", p.scale))
	}
	most := p.precision
	if p.scale > 0 {
		most -= p.scale
	}
	if whole = strings.TrimLeft(whole, "0"); p.precision > 0 && len(whole) > most {
		return "", p.badValue(fmt.Sprintf("has more than %d digits before the point", most))
	}
	return s, nil
}

func (p *property) floatText(v page.Value) (string, error) {
	bits := 64
	if p.prim == single {
		bits = 32
	}
	f, err := sqldb.Float(&v, bits)
	switch {
	case err != nil:
		return "", p.badValue(err.Error())
	case math.IsNaN(f):
		return "NaN", nil
	case math.IsInf(f, 1):
		return "INF", nil
	case math.IsInf(f, -1):
		return "-INF", nil
	}
	return strconv.FormatFloat(f, 'g', -1, bits), nil
}

func (p *property) guidText(v page.Value) (string, error) {
	switch v.Kind() {
	case page.KindUUID:
		return uuid.UUID(v.UUID()).String(), nil
	case page.KindString:
		if u, err := uuid.Parse(v.Text()); err == nil {
			return u.String(), nil
		}
	}
	return "", p.badValue("is not a GUID")
}

func (p *property) stringText(v page.Value) (string, error) {
	b, ok := sqldb.AppendText(nil, &v)
	switch {
	case !ok:
		return "", p.badValue("is of kind " + v.Kind().String() + ", which has no text")
	case !utf8.Valid(b):
		return "", p.badValue("is not valid UTF-8")
	case p.maxLength > 0 && utf8.RuneCount(b) > p.maxLength:
		return "", p.badValue(fmt.Sprintf("has more than %d characters", p.maxLength))
	}
	return string(b), nil
}

// temporalText writes dates and times.
func (f form) temporalText(v page.Value, p *property) (string, error) {
	switch p.prim {
	case timeOfDay, timeV2:
		us, ok := timeOf(v)
		if !ok {
			return "", p.badValue("is not a time of the day")
		}
		if p.prim == timeV2 {
			return "P" + durationTail(us), nil
		}
		return p.fine(time.UnixMicro(us).UTC().Format("15:04:05.999999"))
	case duration:
		return p.durationText(v)
	case date:
		us, _, ok := momentOf(v)
		if !ok || us%dayMicros != 0 {
			return "", p.badValue("is not a date")
		}
		return time.UnixMicro(us).UTC().Format(time.DateOnly), nil
	}
	us, offset, ok := momentOf(v)
	if !ok {
		return "", p.badValue("is not a date with a time")
	}
	if p.dateOnly && us%dayMicros != 0 {
		return "", p.badValue("has a time of the day, which the property does not keep")
	}
	at := time.UnixMicro(us).UTC()
	if f.version == 4 {
		return p.fine(at.In(time.FixedZone("", int(offset/60*60))).Format("2006-01-02T15:04:05.999999Z07:00"))
	}
	zone := "" // the meaning of an offset in /Date()/ differs between services: write UTC
	if p.prim == dateTimeOffset {
		zone = "+0000"
	}
	if us%1000 != 0 { // ticks have no smaller unit
		return p.fine(at.Format("2006-01-02T15:04:05.999999") + strings.Replace(zone, "+0000", "Z", 1))
	}
	return "/Date(" + strconv.FormatInt(us/1000, 10) + zone + ")/", nil
}

// fine refuses more parts of a second than the property has. Without a
// precision, version 4 has whole seconds; services do not keep to that, so
// only what is said counts.
func (p *property) fine(s string) (string, error) {
	_, fraction, _ := strings.Cut(s, ".")
	digits := 0
	for digits < len(fraction) && isDigit(fraction[digits]) {
		digits++
	}
	if p.precision >= 0 && digits > p.precision {
		return "", p.badValue(fmt.Sprintf("has more than %d decimal places of a second", p.precision))
	}
	return s, nil
}

// momentOf is the moment that a value means, in microseconds of UTC: dates
// begin at midnight, local timestamps are taken as UTC.
func momentOf(v page.Value) (us int64, offset int32, ok bool) {
	switch v.Kind() {
	case page.KindDate:
		return int64(v.Days()) * dayMicros, 0, true
	case page.KindLocalTimestamp:
		return v.Micros(), 0, true
	case page.KindTimestamp:
		return v.Micros(), v.Offset(), true
	case page.KindString:
		us, _, ok = sqldb.ParseTimestamp(v.Text())
		return us, 0, ok && !tooFine(v.Text())
	}
	return 0, 0, false
}

func timeOf(v page.Value) (int64, bool) {
	switch v.Kind() {
	case page.KindTime:
		return v.Micros(), v.Micros() < dayMicros
	case page.KindString:
		if us, ok := durationMicros(v.Text()); ok {
			return us, us >= 0 && us < dayMicros
		}
		return clock(v.Text())
	}
	return 0, false
}

func (p *property) durationText(v page.Value) (string, error) {
	if v.Kind() == page.KindString {
		parsed, ok := interval(v.Text())
		if !ok {
			return "", p.badValue("is not a duration")
		}
		v = parsed
	}
	months, days, us := v.Interval()
	if v.Kind() != page.KindInterval || months != 0 {
		return "", p.badValue("is not a duration of days, hours, minutes and seconds")
	}
	total := int64(days)*dayMicros + us
	sign := ""
	if total < 0 {
		sign, total = "-", -total
	}
	if total >= dayMicros {
		return sign + "P" + strconv.FormatInt(total/dayMicros, 10) + "D" + durationTail(total%dayMicros), nil
	}
	return sign + "P" + durationTail(total), nil
}

// durationTail writes TnHnMn.nS.
func durationTail(us int64) string {
	s := fmt.Sprintf("T%02dH%02dM%02d", us/3_600_000_000, us/60_000_000%60, us/1_000_000%60)
	if fraction := us % 1_000_000; fraction > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%06d", fraction), "0")
	}
	return s + "S"
}

// missingKey is the first key field that the record does not have or that is
// null; "" if there is none.
func missingKey(r page.Record, key []string) string {
	at := slices.IndexFunc(key, func(k string) bool {
		v, present := r.Field(k)
		return !present || v.IsNull()
	})
	if at < 0 {
		return ""
	}
	return key[at]
}
