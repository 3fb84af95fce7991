package model

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are the same on every machine, also without tzdata installed
)

func readSchedule(m *mapping) *Schedule {
	if m == nil {
		return nil
	}
	s := &Schedule{
		Cron:     m.required("cron"),
		Timezone: m.text("timezone"),
		Misfire:  m.choice("misfire", "coalesce", "all", "skip"),
		Overlap:  m.choice("overlap", "skip", "queue", "parallel"),
	}
	m.done()
	if s.Cron != "" {
		if err := checkCron(s.Cron); err != nil {
			m.fail("cron", "use five fields (minute hour day month weekday) or six with seconds first",
				"the schedule %q: %v", clip(s.Cron), err)
		}
	}
	if _, err := time.LoadLocation(s.Timezone); err != nil || s.Timezone == "Local" {
		m.fail("timezone", "use a name of the IANA list, such as Europe/Berlin", "unknown time zone %q", clip(s.Timezone))
	}
	return s
}

// cronField is one field of a schedule: its bounds and the names it may use.
type cronField struct {
	name      string
	low, high int
	words     []string // words[i] stands for low+i
}

func cronFields() []cronField {
	months := []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	days := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	return []cronField{
		{"second", 0, 59, nil}, {"minute", 0, 59, nil}, {"hour", 0, 23, nil},
		{"day", 1, 31, nil}, {"month", 1, 12, months}, {"weekday", 0, 7, days},
	}
}

// checkCron refuses a schedule that cannot be read or that never fires.
func checkCron(text string) error {
	parts := strings.Fields(text)
	if len(parts) == 5 {
		parts = append([]string{"0"}, parts...)
	}
	if len(parts) != 6 || len(text) > 256 {
		return fmt.Errorf("want five or six fields")
	}
	sets := make([]map[int]bool, 6)
	for i, f := range cronFields() {
		set, err := f.parse(parts[i])
		if err != nil {
			return err
		}
		sets[i] = set
	}
	if parts[5] == "*" && !dayExists(sets[3], sets[4]) {
		return fmt.Errorf("no such day exists, it would never fire")
	}
	return nil
}

func (f cronField) parse(text string) (map[int]bool, error) {
	set := map[int]bool{}
	for _, item := range strings.Split(text, ",") {
		span, step, stepped := strings.Cut(item, "/")
		every := 1
		if stepped {
			n, err := strconv.Atoi(step)
			if err != nil || n < 1 || n > f.high {
				return nil, fmt.Errorf("the %s step %q cannot be used", f.name, step)
			}
			every = n
		}
		low, high, err := f.span(span, stepped)
		if err != nil {
			return nil, err
		}
		for v := low; v <= high; v += every {
			set[v] = true
		}
	}
	return set, nil
}

func (f cronField) span(text string, stepped bool) (low, high int, err error) {
	if text == "*" {
		return f.low, f.high, nil
	}
	first, last, ranged := strings.Cut(text, "-")
	if low, err = f.value(first); err != nil {
		return 0, 0, err
	}
	switch {
	case ranged:
		if high, err = f.value(last); err != nil {
			return 0, 0, err
		}
	case stepped:
		high = f.high
	default:
		high = low
	}
	if low > high {
		return 0, 0, fmt.Errorf("the %s range %q runs backwards", f.name, text)
	}
	return low, high, nil
}

func (f cronField) value(text string) (int, error) {
	for i, w := range f.words {
		if strings.EqualFold(w, text) {
			return f.low + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.low || n > f.high {
		return 0, fmt.Errorf("the %s %q is not within %d to %d", f.name, text, f.low, f.high)
	}
	return n, nil
}

func dayExists(days, months map[int]bool) bool {
	longest := [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	for m := range months {
		for d := range days {
			if d <= longest[m] {
				return true
			}
		}
	}
	return false
}
