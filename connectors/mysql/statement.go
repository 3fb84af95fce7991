package mysql

import (
	"bytes"
	"slices"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
)

// How much one statement applies. A multi-row insert is cheap per byte; an
// update picks each row's value from a list, which takes time that grows with
// the square of the rows.
const (
	statementBytes = 1 << 20
	updateRows     = 100
	deleteRows     = 1000
)

// A writer builds the statements that apply a chunk.
type writer struct {
	mode   string
	chunk  *chunk
	target string
	keys   []int // columns of the key
	// single means that an update must go row by row: without a unique index
	// the number of rows found says nothing about which.
	single bool
	// guard means that an upsert must not change a row that is found by
	// another unique index than the key's.
	guard bool
	limit int // bytes of a statement

	text bytes.Buffer
}

func newWriter(t *table, spec connectors.ImportSpec, c *chunk, limit int) *writer {
	w := &writer{mode: spec.Mode, chunk: c, target: t.name.Quoted(sqldb.Backtick), limit: min(limit, statementBytes)}
	for i, n := range c.names() {
		if slices.Contains(spec.Key, n) {
			w.keys = append(w.keys, i)
		}
	}
	exact, others := t.hasUnique(spec.Key)
	w.single = spec.Mode == connectors.Update && !exact
	w.guard = spec.Mode == connectors.Upsert && others
	return w
}

// until is the end of the rows from lo on that one statement may apply.
func (w *writer) until(lo int) int {
	most := w.chunk.rows()
	switch {
	case w.single:
		return min(lo+1, most)
	case w.mode == connectors.Update:
		most = min(lo+updateRows, most)
	case w.mode == connectors.Delete:
		most = min(lo+deleteRows, most)
	}
	size, hi := 0, lo
	for hi < most {
		size += len(w.chunk.row(hi)) * w.copies()
		if size > w.limit && hi > lo {
			break
		}
		hi++
	}
	return hi
}

// copies is how often a row's cells are in a statement, roughly: an update
// names the keys once more for each column.
func (w *writer) copies() int {
	if w.mode == connectors.Update {
		return 2 + len(w.keys)
	}
	return 1
}

// statement applies rows [lo, hi).
func (w *writer) statement(lo, hi int) string {
	w.text.Reset()
	switch w.mode {
	case connectors.Update:
		w.update(lo, hi)
	case connectors.Delete:
		w.text.WriteString("DELETE FROM " + w.target + " WHERE ")
		w.match(lo, hi)
	default:
		w.insert(lo, hi)
	}
	return w.text.String()
}

func (w *writer) quoted(column int) string {
	return sqldb.Backtick(w.chunk.columns[column].column.name)
}

func (w *writer) insert(lo, hi int) {
	names := make([]string, len(w.chunk.columns))
	for i := range names {
		names[i] = w.quoted(i)
	}
	w.text.WriteString("INSERT INTO " + w.target + " (" + strings.Join(names, ",") + ") VALUES ")
	for row := lo; row < hi; row++ {
		if row > lo {
			w.text.WriteByte(',')
		}
		cells := w.chunk.row(row)
		w.text.WriteByte('(')
		w.text.Write(cells[:len(cells)-1])
		w.text.WriteByte(')')
	}
	if w.mode == connectors.Upsert {
		w.text.WriteString(" ON DUPLICATE KEY UPDATE " + w.assignments())
	}
}

// assignments are what an upsert does with a row that is there. The check of the
// key comes first, because later assignments see what earlier ones have set.
func (w *writer) assignments() string {
	var sets []string
	for _, k := range w.keys {
		if key := w.quoted(k); w.guard {
			// Division by zero is an error in the session's mode; it stands for a
			// row that another unique index has found.
			sets = append(sets, key+" = IF("+key+" <=> VALUES("+key+"), "+key+", LENGTH("+key+") DIV 0)")
		}
	}
	for i := range w.chunk.columns {
		if column := w.quoted(i); !slices.Contains(w.keys, i) {
			sets = append(sets, column+" = VALUES("+column+")")
		}
	}
	if len(sets) == 0 { // nothing to change
		sets = append(sets, w.quoted(w.keys[0])+" = "+w.quoted(w.keys[0]))
	}
	return strings.Join(sets, ", ")
}

// update is UPDATE t SET v = CASE k WHEN 1 THEN 'a' WHEN 2 THEN 'b' END WHERE k
// IN (1, 2), or for one row without CASE.
func (w *writer) update(lo, hi int) {
	w.text.WriteString("UPDATE " + w.target + " SET ")
	some := false
	for i := range w.chunk.columns {
		if slices.Contains(w.keys, i) {
			continue
		}
		if some {
			w.text.WriteString(", ")
		}
		some = true
		w.text.WriteString(w.quoted(i) + " = ")
		if hi-lo == 1 {
			w.text.Write(w.chunk.cell(lo, i))
			continue
		}
		w.choose(lo, hi, i)
	}
	if !some { // nothing to change, but the rows must be there
		key := w.quoted(w.keys[0])
		w.text.WriteString(key + " = " + key)
	}
	w.text.WriteString(" WHERE ")
	w.match(lo, hi)
}

func (w *writer) choose(lo, hi, column int) {
	w.text.WriteString("CASE")
	if len(w.keys) == 1 {
		w.text.WriteString(" " + w.quoted(w.keys[0]))
	}
	for row := lo; row < hi; row++ {
		w.text.WriteString(" WHEN ")
		if len(w.keys) == 1 {
			w.text.Write(w.chunk.cell(row, w.keys[0]))
		} else {
			w.same(row)
		}
		w.text.WriteString(" THEN ")
		w.text.Write(w.chunk.cell(row, column))
	}
	w.text.WriteString(" END")
}

// match is the condition that finds the rows by key.
func (w *writer) match(lo, hi int) {
	if len(w.keys) == 1 {
		w.text.WriteString(w.quoted(w.keys[0]) + " IN (")
		for row := lo; row < hi; row++ {
			if row > lo {
				w.text.WriteByte(',')
			}
			w.text.Write(w.chunk.cell(row, w.keys[0]))
		}
		w.text.WriteByte(')')
		return
	}
	for row := lo; row < hi; row++ {
		if row > lo {
			w.text.WriteString(" OR ")
		}
		w.text.WriteByte('(')
		w.same(row)
		w.text.WriteByte(')')
	}
}

// same is the condition that finds one row by its key.
func (w *writer) same(row int) {
	for i, k := range w.keys {
		if i > 0 {
			w.text.WriteString(" AND ")
		}
		w.text.WriteString(w.quoted(k) + " = ")
		w.text.Write(w.chunk.cell(row, k))
	}
}
