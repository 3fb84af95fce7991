package mysql

import (
	"bytes"
	"strconv"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/page"
)

// temporalWriterOf returns the writers of dates and times; nil for any other
// type.
func temporalWriterOf(c *column) cellWriter {
	switch c.typeName {
	case "date":
		return appendDate
	case "datetime":
		return func(dst []byte, v *page.Value) ([]byte, error) { return appendDateTime(dst, v, c.scale) }
	case "timestamp":
		return func(dst []byte, v *page.Value) ([]byte, error) { return appendTimestamp(dst, v, c.scale) }
	case "time":
		return func(dst []byte, v *page.Value) ([]byte, error) { return appendTime(dst, v, c.scale) }
	}
	return nil
}

func appendDate(dst []byte, v *page.Value) ([]byte, error) {
	days := int64(v.Days())
	switch v.Kind() {
	case page.KindDate:
	case page.KindLocalTimestamp:
		if v.Micros()%dayMicros != 0 {
			return dst, badValue("has a time of day, which a date cannot hold")
		}
		days = v.Micros() / dayMicros
	case page.KindString:
		parsed, ok := sqldb.ParseDate(v.Text())
		if !ok {
			return dst, badValue("is not a date (YYYY-MM-DD)")
		}
		days = parsed
	case page.KindForeign:
		return appendForeignMoment(dst, v)
	default:
		return dst, badKind(v, "date")
	}
	d := page.Date(int32(days))
	text, _ := sqldb.AppendText(append(dst, '\''), &d)
	return append(text, '\''), nil
}

// appendDateTime appends what a clock without a zone shows. A zoned timestamp
// is shown in UTC.
func appendDateTime(dst []byte, v *page.Value, digits int) ([]byte, error) {
	us := v.Micros()
	switch v.Kind() {
	case page.KindLocalTimestamp, page.KindTimestamp:
	case page.KindDate:
		us = int64(v.Days()) * dayMicros
	case page.KindString:
		parsed, _, ok := sqldb.ParseTimestamp(v.Text())
		if !ok {
			return dst, badValue("is not a timestamp (YYYY-MM-DD hh:mm:ss)")
		}
		us = parsed
	case page.KindForeign:
		return appendForeignMoment(dst, v)
	default:
		return dst, badKind(v, "datetime")
	}
	return appendMoment(dst, us, digits, "DATETIME")
}

// appendTimestamp appends a point in time; the session's zone is UTC. What
// shows no zone is refused: which one was meant is not ours to guess.
func appendTimestamp(dst []byte, v *page.Value, digits int) ([]byte, error) {
	us := v.Micros()
	switch v.Kind() {
	case page.KindTimestamp:
	case page.KindString:
		parsed, zoned, ok := sqldb.ParseTimestamp(v.Text())
		if !ok || !zoned {
			return dst, badValue("is not a timestamp with a zone (YYYY-MM-DDThh:mm:ssZ)")
		}
		us = parsed
	case page.KindForeign:
		return appendForeignMoment(dst, v)
	case page.KindLocalTimestamp, page.KindDate:
		return dst, badValue("has no time zone")
	default:
		return dst, badKind(v, "timestamp")
	}
	return appendMoment(dst, us, digits, "TIMESTAMP")
}

func appendMoment(dst []byte, us int64, digits int, typeName string) ([]byte, error) {
	if err := checkSeconds(us, digits, typeName); err != nil {
		return dst, err
	}
	moment := page.LocalTimestamp(us)
	dst = append(dst, '\'')
	at := len(dst)
	dst, _ = sqldb.AppendText(dst, &moment)
	if i := bytes.IndexByte(dst[at:], 'T'); i > 0 {
		dst[at+i] = ' '
	}
	return append(dst, '\''), nil
}

// checkSeconds refuses what the server would round or cut.
func checkSeconds(us int64, digits int, typeName string) error {
	unit := int64(1)
	for range 6 - max(digits, 0) {
		unit *= 10
	}
	if us%unit != 0 {
		return badValue("has smaller parts of a second than " + typeName + "(" + strconv.Itoa(max(digits, 0)) + ") holds")
	}
	return nil
}

// maxTime is 838:59:59.999999, less than a second beyond what a TIME holds.
const maxTime = 839*3_600_000_000 - 1

// appendTime appends a time of the day or an interval of hours.
func appendTime(dst []byte, v *page.Value, digits int) ([]byte, error) {
	us := v.Micros()
	switch v.Kind() {
	case page.KindTime:
	case page.KindInterval:
		months, days, rest := v.Interval()
		if months != 0 || days < -100 || days > 100 || rest < -maxTime || rest > maxTime {
			return dst, badValue("is an interval that a time cannot hold")
		}
		us = int64(days)*dayMicros + rest
	case page.KindString:
		parsed, ok := sqldb.ParseTime(v.Text())
		if !ok {
			return dst, badValue("is not a time (hh:mm:ss)")
		}
		us = parsed
	default:
		return dst, badKind(v, "time")
	}
	if err := checkSeconds(us, digits, "TIME"); err != nil {
		return dst, err
	}
	if us < -maxTime || us > maxTime {
		return dst, badValue("is beyond 838:59:59")
	}
	dst = append(dst, '\'')
	if us < 0 {
		dst, us = append(dst, '-'), -us
	}
	dst = strconv.AppendInt(dst, us/3_600_000_000, 10)
	dst = appendTwo(append(dst, ':'), us/60_000_000%60)
	dst = appendTwo(append(dst, ':'), us/1_000_000%60)
	if rest := us % 1_000_000; rest != 0 {
		fraction := strconv.FormatInt(1_000_000+rest, 10)
		dst = append(append(dst, '.'), fraction[1:]...)
	}
	return append(dst, '\''), nil
}

func appendTwo(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// appendForeignMoment appends a date that is in no calendar, as it was read:
// digits in the order of a date. The server decides whether it takes it.
func appendForeignMoment(dst []byte, v *page.Value) ([]byte, error) {
	text := v.Text()
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && c != '-' && c != ':' && c != '.' && c != ' ' {
			return dst, badValue("is a " + v.ForeignType() + " that this system does not know")
		}
	}
	if len(text) < 10 || len(text) > 26 || text[4] != '-' {
		return dst, badValue("is a " + v.ForeignType() + " that this system does not know")
	}
	return appendQuoted(dst, text), nil
}
