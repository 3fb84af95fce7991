package sqldb

import (
	"strconv"
	"strings"

	"ropeway/connectors"
)

// A Select builds the statements of a read. Placeholders are "$1" or "?1",
// unless Mark writes something else.
type Select struct {
	Query       connectors.Query
	Table       Table  // of a structured query
	Placeholder string // "$" or "?"

	// Quote writes identifiers; nil = Quote.
	Quote func(name string) string
	// Mark writes parameter n, counted from 1; nil = Placeholder and n.
	Mark func(n int) string
	// ByColumn compares the columns of a key one after the other, for systems
	// that use no index for a comparison of rows.
	ByColumn bool

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
		return s.Table.Quoted(s.quoting()) + " AS q"
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
		nulls[i] = s.column(k) + " IS NULL"
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

// At finds at most two rows whose key the system holds equal to the cursor's.
func (s Select) At() string {
	parts := make([]string, len(s.Query.Key))
	for i, k := range s.Query.Key {
		parts[i] = s.column(k) + " = " + s.keyMark(i)
	}
	return "SELECT 1 FROM " + s.source() + where(and(s.Conditions, strings.Join(parts, " AND "))) + " LIMIT 2"
}

func (s Select) quoting() func(string) string {
	if s.Quote == nil {
		return Quote
	}
	return s.Quote
}

func (s Select) column(name string) string { return "q." + s.quoting()(name) }

func (s Select) keyMark(i int) string {
	if s.Mark != nil {
		return s.Mark(s.Bound + i + 1)
	}
	return s.Placeholder + strconv.Itoa(s.Bound+i+1)
}

func (s Select) keyList() string {
	keys := make([]string, len(s.Query.Key))
	for i, k := range s.Query.Key {
		keys[i] = s.column(k)
	}
	return strings.Join(keys, ", ")
}

func (s Select) after() string {
	if s.ByColumn {
		return s.afterByColumn()
	}
	marks := make([]string, len(s.Query.Key))
	for i := range marks {
		marks[i] = s.keyMark(i)
	}
	if len(marks) == 1 {
		return s.keyList() + " > " + marks[0]
	}
	return "(" + s.keyList() + ") > (" + strings.Join(marks, ", ") + ")"
}

// afterByColumn is a > 1 or, for more columns, a >= 1 AND (a > 1 OR (a = 1 AND
// …)): the first part is what an index is used for.
func (s Select) afterByColumn() string {
	last := len(s.Query.Key) - 1
	text := s.column(s.Query.Key[last]) + " > " + s.keyMark(last)
	for i := last - 1; i >= 0; i-- {
		column, mark := s.column(s.Query.Key[i]), s.keyMark(i)
		text = column + " >= " + mark + " AND (" + column + " > " + mark + " OR (" + column + " = " + mark +
			" AND " + text + "))"
	}
	return text
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
