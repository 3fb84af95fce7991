// Package sqldb is the core that SQL connectors share: quoting of identifiers,
// the statements of keyset reads, cursors, values as text and JSON, bisecting
// and the inbox (DELIVERY §4). It does not know drivers: connectors run what
// it builds.
package sqldb

import (
	"fmt"
	"strings"

	"ropeway/protocol/fault"
)

// Quote writes an identifier in double quotes, as standard SQL has it.
func Quote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Backtick writes an identifier in backticks, as MySQL has it in every mode.
func Backtick(name string) string {
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}

// QuoteAll quotes and joins names with ", ".
func QuoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// A Table is a table's full name. Schema may be "" where there are none.
type Table struct{ Schema, Name string }

// String is the quoted name.
func (t Table) String() string { return t.Quoted(Quote) }

// Quoted is the name with each part quoted by quote.
func (t Table) Quoted(quote func(string) string) string {
	if t.Schema == "" {
		return quote(t.Name)
	}
	return quote(t.Schema) + "." + quote(t.Name)
}

// maxIdentifier bounds each part of a name, in bytes.
const maxIdentifier = 255

// ParseTable reads "table" or "schema.table"; a part in double quotes may
// contain dots. Letters keep their case. Without a schema, schema is taken.
func ParseTable(text, schema string) (Table, error) {
	var parts []string
	rest := text
	for {
		part, after, err := identifier(rest)
		if err != nil {
			return Table{}, badTable(text, err)
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		rest = after[1:] // the dot
	}
	switch len(parts) {
	case 1:
		return Table{Schema: schema, Name: parts[0]}, nil
	case 2:
		return Table{Schema: parts[0], Name: parts[1]}, nil
	}
	return Table{}, badTable(text, fmt.Errorf("it has more than two parts"))
}

// identifier takes one part off s; after begins with the dot that follows.
func identifier(s string) (part, after string, err error) {
	if strings.HasPrefix(s, `"`) {
		part, after, err = quotedIdentifier(s[1:])
	} else {
		i := strings.IndexByte(s, '.')
		if i < 0 {
			i = len(s)
		}
		part, after = s[:i], s[i:]
	}
	switch {
	case err != nil:
		return "", "", err
	case part == "":
		return "", "", fmt.Errorf("a part is empty")
	case len(part) > maxIdentifier:
		return "", "", fmt.Errorf("a part is longer than %d bytes", maxIdentifier)
	case strings.ContainsRune(part, 0):
		return "", "", fmt.Errorf("it contains a NUL character")
	case after != "" && after[0] != '.':
		return "", "", fmt.Errorf("something follows a closing quote")
	}
	return part, after, nil
}

func quotedIdentifier(s string) (part, after string, err error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			return "", "", fmt.Errorf("a quote is not closed")
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if !strings.HasPrefix(s, `"`) {
			return b.String(), s, nil
		}
		b.WriteByte('"')
		s = s[1:]
	}
}

func badTable(text string, cause error) error {
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return fault.Of("E_QUERY").WithSentence(fmt.Sprintf("%q is not a table name", text)).
		WithCause(cause)
}
