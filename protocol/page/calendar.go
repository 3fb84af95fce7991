package page

import "strconv"

// The range of dates and timestamps: the years 1 to 9999 as they are shown.
const (
	minDays   = -719162                        // 0001-01-01
	maxDays   = 2932896                        // 9999-12-31
	dayMicros = 86_400_000_000                 // a day without leap seconds
	minMicros = int64(minDays) * dayMicros     // 0001-01-01T00:00:00
	maxMicros = int64(maxDays+1)*dayMicros - 1 // 9999-12-31T23:59:59.999999
	maxOffset = 86_399                         // seconds, either side of UTC
)

func validDate(days int64) bool { return days >= minDays && days <= maxDays }

func validTime(us int64) bool { return us >= 0 && us <= dayMicros }

func validLocal(us int64) bool { return us >= minMicros && us <= maxMicros }

func validTimestamp(us int64, offset int32) bool {
	return offset >= -maxOffset && offset <= maxOffset &&
		us >= minMicros-dayMicros && us <= maxMicros+dayMicros &&
		validLocal(us+int64(offset)*1e6)
}

// daysFromCivil counts the days from 1970-01-01 to a date of the proleptic
// Gregorian calendar.
func daysFromCivil(y int64, m, d int) int64 {
	if m <= 2 {
		y--
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := int64((153*((m+9)%12)+2)/5 + d - 1)
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

// civilFromDays is the inverse of daysFromCivil.
func civilFromDays(days int64) (y int64, m, d int) {
	days += 719468
	era := floorDiv(days, 146097)
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = int(doy - (153*mp+2)/5 + 1)
	m = int(mp+2)%12 + 1
	y = yoe + era*400
	if m <= 2 {
		y++
	}
	return y, m, d
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// appendDate writes YYYY-MM-DD.
func appendDate(b []byte, days int64) []byte {
	y, m, d := civilFromDays(days)
	if y < 0 {
		b, y = append(b, '-'), -y
	}
	b = appendPadded(b, y, 4)
	b = appendPadded(append(b, '-'), int64(m), 2)
	return appendPadded(append(b, '-'), int64(d), 2)
}

// appendClock writes hh:mm:ss and, if there are any, six digits of a second.
func appendClock(b []byte, us int64) []byte {
	s := us / 1e6
	b = appendPadded(b, s/3600, 2)
	b = appendPadded(append(b, ':'), s/60%60, 2)
	b = appendPadded(append(b, ':'), s%60, 2)
	if frac := us % 1e6; frac != 0 {
		b = appendPadded(append(b, '.'), frac, 6)
	}
	return b
}

// appendLocal writes date, "T" and clock.
func appendLocal(b []byte, us int64) []byte {
	days := floorDiv(us, dayMicros)
	b = append(appendDate(b, days), 'T')
	return appendClock(b, us-days*dayMicros)
}

// appendTimestamp writes the local time of the offset and "Z" or ±hh:mm[:ss].
func appendTimestamp(b []byte, us int64, offset int32) []byte {
	b = appendLocal(b, us+int64(offset)*1e6)
	if offset == 0 {
		return append(b, 'Z')
	}
	sign, off := byte('+'), int64(offset)
	if off < 0 {
		sign, off = '-', -off
	}
	b = appendPadded(append(b, sign), off/3600, 2)
	b = appendPadded(append(b, ':'), off/60%60, 2)
	if off%60 != 0 {
		b = appendPadded(append(b, ':'), off%60, 2)
	}
	return b
}

func appendPadded(b []byte, n int64, width int) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	for range width - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}

// A scanner reads the texts above; it fails for good at the first thing that
// does not fit.
type scanner struct {
	s   string
	bad bool
}

// digits reads exactly n digits.
func (s *scanner) digits(n int) int64 {
	if len(s.s) < n || !allDigits(s.s[:n]) {
		s.bad = true
		return 0
	}
	v, _ := strconv.ParseInt(s.s[:n], 10, 64)
	s.s = s.s[n:]
	return v
}

func (s *scanner) accept(c byte) bool {
	if s.bad || s.s == "" || s.s[0] != c {
		return false
	}
	s.s = s.s[1:]
	return true
}

func (s *scanner) expect(c byte) {
	if !s.accept(c) {
		s.bad = true
	}
}

func (s *scanner) done() bool { return !s.bad && s.s == "" }

func (s *scanner) date() int64 {
	y := s.digits(4)
	s.expect('-')
	m := s.digits(2)
	s.expect('-')
	d := s.digits(2)
	if s.bad || y < 1 || m < 1 || m > 12 || d < 1 {
		s.bad = true
		return 0
	}
	days := daysFromCivil(y, int(m), int(d))
	if _, _, back := civilFromDays(days); back != int(d) {
		s.bad = true
	}
	return days
}

func (s *scanner) clock() int64 {
	h := s.digits(2)
	s.expect(':')
	m := s.digits(2)
	s.expect(':')
	sec := s.digits(2)
	if m > 59 || sec > 59 {
		s.bad = true
	}
	us := (h*3600 + m*60 + sec) * 1e6
	if s.accept('.') {
		us += s.fraction()
	}
	if !validTime(us) {
		s.bad = true
	}
	return us
}

// fraction reads one to six digits as microseconds.
func (s *scanner) fraction() int64 {
	n := 0
	for n < len(s.s) && n < 6 && s.s[n] >= '0' && s.s[n] <= '9' {
		n++
	}
	if n == 0 {
		s.bad = true
		return 0
	}
	v := s.digits(n)
	for range 6 - n {
		v *= 10
	}
	return v
}

func (s *scanner) local() int64 {
	days := s.date()
	s.expect('T')
	us := s.clock()
	if us == dayMicros {
		s.bad = true
	}
	return days*dayMicros + us
}

func (s *scanner) offset() int32 {
	if s.accept('Z') {
		return 0
	}
	sign := int64(1)
	if s.accept('-') {
		sign = -1
	} else {
		s.expect('+')
	}
	h := s.digits(2)
	s.expect(':')
	m := s.digits(2)
	sec := int64(0)
	if s.accept(':') {
		sec = s.digits(2)
	}
	off := h*3600 + m*60 + sec
	if m > 59 || sec > 59 || off > maxOffset {
		s.bad = true
	}
	return int32(sign * off)
}

func parseDate(text string) (Value, bool) {
	s := scanner{s: text}
	days := s.date()
	return Date(int32(days)), s.done()
}

func parseTime(text string) (Value, bool) {
	s := scanner{s: text}
	us := s.clock()
	return Time(us), s.done()
}

func parseLocal(text string) (Value, bool) {
	s := scanner{s: text}
	us := s.local()
	return LocalTimestamp(us), s.done()
}

func parseTimestamp(text string) (Value, bool) {
	s := scanner{s: text}
	local := s.local()
	off := s.offset()
	return Timestamp(local-int64(off)*1e6, off), s.done()
}
