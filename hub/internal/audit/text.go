package audit

import (
	"strings"

	"ropeway/protocol/fault"
)

// cut bounds a text from outside and keeps it one line of valid UTF-8.
func cut(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// asTampered returns what the store found to be changed; empty for other errors.
func asTampered(err error) string {
	if fault.CodeOf(err) != "E_AUDIT" {
		return ""
	}
	return fault.From(err).Cause
}
