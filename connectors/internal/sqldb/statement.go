package sqldb

import (
	"strings"

	"ropeway/protocol/fault"
)

// OneStatement refuses a text that holds more than one SQL statement, for
// systems that would run them all. It knows standard SQL: texts and names in
// quotes (also `name` and [name]) and both kinds of comments.
func OneStatement(sql string) error {
	rest := TrimStatement(sql)
	for rest != "" {
		i := strings.IndexAny(rest, "'\"`[-/;")
		if i < 0 {
			return nil
		}
		if rest[i] == ';' {
			return fault.Of("E_QUERY").WithCause("the query holds more than one statement")
		}
		rest = skipToken(rest[i:])
	}
	return nil
}

// skipToken takes the quoted text or comment off that s begins with, or one
// character.
func skipToken(s string) string {
	begin, end := s[:1], ""
	switch {
	case strings.HasPrefix(s, "--"):
		begin, end = "--", "\n"
	case strings.HasPrefix(s, "/*"):
		begin, end = "/*", "*/"
	case s[0] == '[':
		end = "]"
	case s[0] == '-' || s[0] == '/':
		return s[1:]
	default:
		end = begin // a doubled quote is two texts side by side
	}
	_, after, _ := strings.Cut(s[len(begin):], end)
	return after
}
