package odata

import (
	"strconv"
	"strings"
	"time"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/page"
)

const dayMicros = 86_400_000_000

// Milliseconds since 1970 of the first and last moment that a value can hold.
const (
	minMillis = -62_135_596_800_000
	maxMillis = 253_402_300_799_999
)

// dateTime reads an Edm.DateTime of version 2: /Date(ms)/, or the text that
// some services write.
func (p *property) dateTime(s string) (page.Value, bool) {
	ms, _, ok := ticks(s)
	us := ms * 1000
	if !ok {
		var zoned bool
		if us, zoned, ok = sqldb.ParseTimestamp(s); !ok || zoned || tooFine(s) {
			return page.Value{}, false
		}
	}
	if p.dateOnly && us%dayMicros == 0 {
		return page.Date(int32(us / dayMicros)), true
	}
	return page.LocalTimestamp(us), true
}

// instant reads an Edm.DateTimeOffset: /Date(ms+minutes)/ or ISO 8601 with a
// zone.
func instant(s string) (page.Value, bool) {
	if ms, offset, ok := ticks(s); ok {
		return page.Timestamp(ms*1000, offset), shownInRange(ms*1000, offset)
	}
	if tooFine(s) {
		return page.Value{}, false
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		t, err := time.Parse(layout, strings.ToUpper(s))
		if err != nil {
			continue
		}
		_, offset := t.Zone()
		return page.TimestampOf(t), shownInRange(t.UnixMicro(), int32(offset))
	}
	return page.Value{}, false
}

func shownInRange(us int64, offset int32) bool {
	shown := us + int64(offset)*1e6
	return offset > -86400 && offset < 86400 && shown >= minMillis*1000 && shown < (maxMillis+1)*1000
}

// ticks reads /Date(milliseconds[±minutes])/.
func ticks(s string) (ms int64, offset int32, ok bool) {
	s, opened := strings.CutPrefix(s, "/Date(")
	s, closed := strings.CutSuffix(s, ")/")
	if !opened || !closed || s == "" {
		return 0, 0, false
	}
	if at := strings.LastIndexAny(s, "+-"); at > 0 {
		minutes, err := strconv.ParseInt(s[at:], 10, 32)
		if err != nil || minutes <= -1440 || minutes >= 1440 {
			return 0, 0, false
		}
		s, offset = s[:at], int32(minutes*60)
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	return ms, offset, err == nil && ms >= minMillis && ms <= maxMillis
}

// tooFine reports whether a text has parts of a second below a microsecond.
func tooFine(s string) bool {
	_, fraction, found := strings.Cut(s, ".")
	if !found {
		return false
	}
	end := 0
	for end < len(fraction) && isDigit(fraction[end]) {
		end++
	}
	return len(strings.TrimRight(fraction[:end], "0")) > 6
}

// clock reads hh:mm[:ss[.f]].
func clock(s string) (int64, bool) {
	if tooFine(s) {
		return 0, false
	}
	us, ok := sqldb.ParseTime(s)
	return us, ok && us < dayMicros
}

// interval reads a duration of days and smaller parts (xs:dayTimeDuration).
func interval(s string) (page.Value, bool) {
	us, ok := durationMicros(s)
	return page.Interval(0, int32(us/dayMicros), us%dayMicros), ok && us/dayMicros < 1<<31 && us/dayMicros > -1<<31
}

// durationMicros reads [-]P[nD][T[nH][nM][n[.f]S]].
func durationMicros(s string) (us int64, ok bool) {
	negative := strings.HasPrefix(s, "-")
	s, ok = strings.CutPrefix(strings.TrimPrefix(s, "-"), "P")
	if !ok || s == "" || len(s) > 40 || tooFine(s) {
		return 0, false
	}
	days, rest, timed := strings.Cut(s, "T")
	if timed && rest == "" || !timed && days == "" {
		return 0, false
	}
	us, days, ok = part(us, days, 'D', dayMicros, ok)
	for _, unit := range []struct {
		letter byte
		micros int64
	}{{'H', 3_600_000_000}, {'M', 60_000_000}, {'S', 1_000_000}} {
		us, rest, ok = part(us, rest, unit.letter, unit.micros, ok)
	}
	if negative {
		us = -us
	}
	return us, ok && days == "" && rest == ""
}

// part takes a number and its letter off the start of s, if they are there.
func part(us int64, s string, letter byte, unit int64, ok bool) (int64, string, bool) {
	at := strings.IndexByte(s, letter)
	if at < 0 || !ok {
		return us, s, ok
	}
	whole, fraction, _ := strings.Cut(s[:at], ".")
	n, err := strconv.ParseUint(whole, 10, 40)
	if err != nil || int64(n) > (1<<62)/unit {
		return 0, s, false
	}
	us += int64(n) * unit
	if fraction != "" {
		f, err := strconv.ParseUint((fraction + "000000")[:6], 10, 32)
		if err != nil || letter != 'S' {
			return 0, s, false
		}
		us += int64(f)
	}
	return us, s[at+1:], us >= 0
}
