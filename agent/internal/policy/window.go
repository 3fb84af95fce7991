package policy

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // windows name zones; a site's machine may have no zone files
)

// Window is a daily span of local time, such as "01:00-05:00 Europe/Berlin". It
// may cross midnight. Its end is not part of it.
type Window struct {
	text       string
	start, end int // minutes of the day
	zone       *time.Location
}

// ParseWindow reads "HH:MM-HH:MM Zone"; the zone is an IANA name or UTC.
func ParseWindow(s string) (*Window, error) {
	bad := fmt.Errorf(`window %q must be like "01:00-05:00 Europe/Berlin"`, s)
	span, name, ok := strings.Cut(s, " ")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 || name == "" || name == "Local" {
		return nil, bad
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("window %q names an unknown time zone %q", s, name)
	}
	start, err := time.Parse("15:04", from)
	if err != nil {
		return nil, bad
	}
	end, err := time.Parse("15:04", to)
	if err != nil || end.Equal(start) {
		return nil, bad
	}
	minutes := func(t time.Time) int { return t.Hour()*60 + t.Minute() }
	return &Window{text: s, start: minutes(start), end: minutes(end), zone: zone}, nil
}

// String is the window as written.
func (w *Window) String() string { return w.text }

// MarshalText is String.
func (w *Window) MarshalText() ([]byte, error) { return []byte(w.text), nil }

// Open reports whether t lies in the window.
func (w *Window) Open(t time.Time) bool {
	local := t.In(w.zone)
	m := local.Hour()*60 + local.Minute()
	if w.start < w.end {
		return m >= w.start && m < w.end
	}
	return m >= w.start || m < w.end
}

// Next is the next opening after t.
func (w *Window) Next(t time.Time) time.Time {
	local := t.In(w.zone)
	for day := 0; ; day++ {
		at := time.Date(local.Year(), local.Month(), local.Day()+day, w.start/60, w.start%60, 0, 0, w.zone)
		if at.After(t) {
			return at
		}
	}
}
