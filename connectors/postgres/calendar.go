package postgres

import (
	"fmt"
	"math"
	"time"
)

// PostgreSQL counts days and microseconds from 2000-01-01.
const (
	dayMicros   = int64(24*time.Hour) / 1000
	epochDays   = 10957 // 2000-01-01 since 1970-01-01
	epochMicros = epochDays * dayMicros

	// The years 1–9999, which dates and timestamps of pages can hold.
	firstDay   = -730119 // 0001-01-01
	lastDay    = 2921939 // 9999-12-31
	firstMicro = firstDay * dayMicros
	lastMicro  = (lastDay+1)*dayMicros - 1
)

// dateText writes a date as the server does (DateStyle ISO), also infinities,
// years before Christ and beyond 9999. days count from 2000-01-01.
func dateText(days int32) string {
	switch days {
	case math.MaxInt32:
		return "infinity"
	case math.MinInt32:
		return "-infinity"
	}
	date, era := civil(int64(days))
	return date + era
}

// timestampText is dateText for microseconds; zone is written after the time.
func timestampText(us int64, zone string) string {
	switch us {
	case math.MaxInt64:
		return "infinity"
	case math.MinInt64:
		return "-infinity"
	}
	days, rest := us/dayMicros, us%dayMicros
	if rest < 0 {
		days, rest = days-1, rest+dayMicros
	}
	date, era := civil(days)
	clock := time.UnixMicro(rest).UTC().Format("15:04:05.999999")
	return date + " " + clock + zone + era
}

// civil turns days since 2000-01-01 into a date of the proleptic Gregorian
// calendar and " BC" where it is one.
func civil(days int64) (date, era string) {
	days += 730_425 // since 0000-03-01
	cycle := days / 146_097
	if days%146_097 < 0 {
		cycle--
	}
	day := days - cycle*146_097 // of the 400 years
	year := (day - day/1460 + day/36_524 - day/146_096) / 365
	dayOfYear := day - (365*year + year/4 - year/100)
	month := (5*dayOfYear + 2) / 153
	dayOfMonth := dayOfYear - (153*month+2)/5 + 1
	month += 3
	year += cycle * 400
	if month > 12 {
		month, year = month-12, year+1
	}
	if year <= 0 {
		year, era = 1-year, " BC"
	}
	return fmt.Sprintf("%04d-%02d-%02d", year, month, dayOfMonth), era
}
