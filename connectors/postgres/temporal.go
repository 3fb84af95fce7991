package postgres

import (
	"encoding/binary"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/page"
)

// temporalWriterOf returns the writers of dates, times and intervals; nil for
// any other type.
func temporalWriterOf(oid uint32) cellWriter {
	switch oid {
	case oidDate:
		return appendDate
	case oidTime:
		return appendTime
	case oidTimestamp:
		return appendTimestamp
	case oidTimestamptz:
		return appendTimestamptz
	case oidInterval:
		return appendInterval
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
		return dst, errAsText
	default:
		return dst, badKind(v, "date")
	}
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), uint32(days-epochDays)), nil
}

func appendTime(dst []byte, v *page.Value) ([]byte, error) {
	us := v.Micros()
	switch v.Kind() {
	case page.KindTime:
	case page.KindString:
		parsed, ok := sqldb.ParseTime(v.Text())
		if !ok {
			return dst, badValue("is not a time (hh:mm:ss)")
		}
		us = parsed
	case page.KindForeign:
		return dst, errAsText
	default:
		return dst, badKind(v, "time")
	}
	return appendMicros(dst, us), nil
}

// appendTimestamp appends what a clock without a zone shows. A zoned timestamp
// is shown in UTC.
func appendTimestamp(dst []byte, v *page.Value) ([]byte, error) {
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
		return dst, errAsText
	default:
		return dst, badKind(v, "timestamp")
	}
	return appendMicros(dst, us-epochMicros), nil
}

// appendTimestamptz appends a point in time. What shows no zone is refused:
// which one was meant is not ours to guess.
func appendTimestamptz(dst []byte, v *page.Value) ([]byte, error) {
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
		return dst, errAsText
	case page.KindLocalTimestamp, page.KindDate:
		return dst, badValue("has no time zone")
	default:
		return dst, badKind(v, "timestamp with time zone")
	}
	return appendMicros(dst, us-epochMicros), nil
}

func appendInterval(dst []byte, v *page.Value) ([]byte, error) {
	switch v.Kind() {
	case page.KindInterval:
	case page.KindString, page.KindForeign:
		return dst, errAsText
	default:
		return dst, badKind(v, "interval")
	}
	months, days, us := v.Interval()
	dst = binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 16), uint64(us))
	dst = binary.BigEndian.AppendUint32(dst, uint32(days))
	return binary.BigEndian.AppendUint32(dst, uint32(months)), nil
}

func appendMicros(dst []byte, us int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(us))
}
