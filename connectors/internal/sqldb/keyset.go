package sqldb

import (
	"strconv"
	"strings"

	"ropeway/connectors"
)

// A Select builds the statements of a read. Placeholders are "$1" or "?1".
type Select struct {
	Query       connectors.Query
	Table       Table  // of a structured query
	Placeholder string // "$" or "?"

	// Columns are the expressions to select; "" = all columns.
	Columns string
	// Bound counts the parameters that conditions use; the values of a
	// cursor follow them.
	Bound int
	// Conditions is the WHERE text of a structured query, or "".
	Conditions string
	// Wrap makes All select Columns from a free query instead of running it
	// as it is.
	Wrap bool
}

// source is the FROM part without what pages need: a table or the free query
// in parentheses. The line break ends a comment that the query may end with.
func (s Select) source() string {
	if s.Query.SQL == "" {
		return s.Table.String() + " AS q"
	}
	return "(" + TrimStatement(s.Query.SQL) + "\n) AS q"
}

// All reads everything in the order that the source has.
func (s Select) All() string {
	if s.Query.SQL != "" && !s.Wrap {
		return TrimStatement(s.Query.SQL)
	}
	return "SELECT " + s.list() + " FROM " + s.source() + where(s.Conditions)
}

// Empty is All without rows, to learn the columns.
func (s Select) Empty() string {
	return "SELECT " + s.list() + " FROM " + s.source() + where(and(s.Conditions, "1 = 0"))
}

// Keyset reads at most limit rows in the order of the key; after a cursor
// only those with a greater key.
func (s Select) Keyset(afterCursor bool, limit int) string {
	conditions := s.Conditions
	if afterCursor {
		conditions = and(conditions, s.after())
	}
	return "SELECT " + s.list() + " FROM " + s.source() + where(conditions) +
		" ORDER BY " + s.keyList() + " LIMIT " + strconv.Itoa(limit)
}

// NullKeys finds one row with a null in its key: such rows have no place in
// the order and would be skipped.
func (s Select) NullKeys() string {
	nulls := make([]string, len(s.Query.Key))
	for i, k := range s.Query.Key {
		nulls[i] = "q." + Quote(k) + " IS NULL"
	}
	conditions := and(s.Conditions, "("+strings.Join(nulls, " OR ")+")")
	return "SELECT 1 FROM " + s.source() + where(conditions) + " LIMIT 1"
}

func (s Select) list() string {
	if s.Columns == "" {
		return "q.*"
	}
	return s.Columns
}

func (s Select) keyList() string {
	keys := make([]string, len(s.Query.Key))
	for i, k := range s.Query.Key {
		keys[i] = "q." + Quote(k)
	}
	return strings.Join(keys, ", ")
}

func (s Select) after() string {
	marks := make([]string, len(s.Query.Key))
	for i := range marks {
		marks[i] = s.Placeholder + strconv.Itoa(s.Bound+i+1)
	}
	if len(marks) == 1 {
		return s.keyList() + " > " + marks[0]
	}
	return "(" + s.keyList() + ") > (" + strings.Join(marks, ", ") + ")"
}

func where(conditions string) string {
	if conditions == "" {
		return ""
	}
	return " WHERE " + conditions
}

func and(a, b string) string {
	if a == "" {
		return b
	}
	return a + " AND " + b
}

// TrimStatement takes white space and semicolons off the end of a statement.
func TrimStatement(sql string) string {
	return strings.TrimRight(strings.TrimSpace(sql), "; \t\r\n")
}
