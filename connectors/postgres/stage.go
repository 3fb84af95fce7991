package postgres

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
)

// A stage is a temporary table that takes the rows of one chunk by COPY, from
// where one statement applies them. Its columns are n (the row's place in the
// chunk) and c0, c1, …
type stage struct {
	name  string
	chunk *chunk
	used  bool // holds rows of an attempt before
}

// newStage makes the table; it is gone with the transaction.
func (w *work) newStage(ctx context.Context, c *chunk) (*stage, error) {
	s := &stage{name: "pg_temp.rw_stage_" + strconv.Itoa(w.stages), chunk: c}
	w.stages++
	columns := []string{"n int4"}
	for i, t := range c.columns {
		typeName := t.column.typeName
		if t.cast {
			typeName = "text"
		}
		columns = append(columns, stageColumn(i)+" "+typeName)
	}
	sql := "CREATE TEMP TABLE " + strings.TrimPrefix(s.name, "pg_temp.") + " (" + strings.Join(columns, ", ") +
		") ON COMMIT DROP"
	if w.clean { // the savepoint of begin must not take the table with it
		sql = "RELEASE " + savepoint + "; " + sql + "; " + savepoint
	}
	return s, w.session.exec(ctx, sql)
}

func stageColumn(i int) string { return "c" + strconv.Itoa(i) }

// writeStaged applies rows [lo, hi) of the stage's chunk.
func (w *work) writeStaged(ctx context.Context, s *stage, lo, hi int) error {
	if s.used {
		if err := w.session.exec(ctx, "DELETE FROM "+s.name); err != nil {
			return err
		}
	}
	if err := w.copyRows(ctx, s.name, s.chunk.slice(lo, hi)); err != nil {
		return err
	}
	if w.spec.Mode == connectors.Update {
		if err := w.update(ctx, s, lo, hi); err != nil {
			return err
		}
	} else if err := w.session.exec(ctx, w.statement(s)); err != nil {
		return err
	}
	s.used = true
	return nil
}

// statement is what applies a stage to the target.
func (w *work) statement(s *stage) string {
	switch w.spec.Mode {
	case connectors.Upsert:
		return w.insertStatement(s) + " ON CONFLICT (" + sqldb.QuoteAll(w.spec.Key) + ") DO " + w.onConflict(s)
	case connectors.Delete:
		return "DELETE FROM " + w.table.name.String() + " AS t USING " + s.name + " AS s WHERE " + w.match(s)
	}
	return w.insertStatement(s)
}

func (w *work) insertStatement(s *stage) string {
	names := make([]string, len(s.chunk.columns))
	values := make([]string, len(s.chunk.columns))
	for i, t := range s.chunk.columns {
		names[i], values[i] = t.column.name, s.value(i)
	}
	overriding := ""
	if w.table.identity {
		overriding = " OVERRIDING SYSTEM VALUE"
	}
	return "INSERT INTO " + w.table.name.String() + " (" + sqldb.QuoteAll(names) + ")" + overriding +
		" SELECT " + strings.Join(values, ", ") + " FROM " + s.name + " AS s"
}

// value is the expression of a staged column; text is cast by the server.
func (s *stage) value(i int) string {
	t := s.chunk.columns[i]
	if t.cast {
		return "s." + stageColumn(i) + "::" + t.column.typeName
	}
	return "s." + stageColumn(i)
}

func (w *work) onConflict(s *stage) string {
	var sets []string
	for _, t := range s.chunk.columns {
		if !slices.Contains(w.spec.Key, t.column.name) {
			quoted := sqldb.Quote(t.column.name)
			sets = append(sets, quoted+" = EXCLUDED."+quoted)
		}
	}
	if len(sets) == 0 {
		return "NOTHING"
	}
	return "UPDATE SET " + strings.Join(sets, ", ")
}

func (w *work) match(s *stage) string {
	var parts []string
	for i, t := range s.chunk.columns {
		if slices.Contains(w.spec.Key, t.column.name) {
			parts = append(parts, "t."+sqldb.Quote(t.column.name)+" = "+s.value(i))
		}
	}
	return strings.Join(parts, " AND ")
}

// update changes rows by key. Two records of one key are applied apart, in
// their order; a record whose key is not there is missing.
func (w *work) update(ctx context.Context, s *stage, lo, hi int) error {
	if hi-lo > 1 {
		twice, err := w.session.query(ctx, "SELECT 1 FROM "+s.name+" AS s GROUP BY "+s.keyColumns(w.spec.Key)+
			" HAVING count(*) > 1 LIMIT 1")
		if err != nil {
			return err
		}
		if len(twice) > 0 {
			return sqldb.ErrSplit
		}
	}
	found, err := w.session.query(ctx, w.updateStatement(s))
	if err != nil {
		return err
	}
	hit := make([]bool, s.chunk.rows())
	for _, row := range found {
		n, err := strconv.Atoi(string(row[0]))
		if err != nil || n < lo || n >= hi {
			return badWire("row number", row[0])
		}
		hit[n] = true
	}
	for n := lo; n < hi; n++ {
		if !hit[n] {
			w.failed = append(w.failed, connectors.Failure{Index: s.chunk.records[n],
				Fault: sqldb.NoSuchRow(name, w.spec.Key[0])})
		}
	}
	return nil
}

func (s *stage) keyColumns(key []string) string {
	var names []string
	for i, t := range s.chunk.columns {
		if slices.Contains(key, t.column.name) {
			names = append(names, s.value(i))
		}
	}
	return strings.Join(names, ", ")
}

func (w *work) updateStatement(s *stage) string {
	var sets []string
	for i, t := range s.chunk.columns {
		if !slices.Contains(w.spec.Key, t.column.name) {
			sets = append(sets, sqldb.Quote(t.column.name)+" = "+s.value(i))
		}
	}
	if len(sets) == 0 {
		return "SELECT s.n FROM " + s.name + " AS s JOIN " + w.table.name.String() + " AS t ON " + w.match(s)
	}
	return "UPDATE " + w.table.name.String() + " AS t SET " + strings.Join(sets, ", ") + " FROM " + s.name +
		" AS s WHERE " + w.match(s) + " RETURNING s.n"
}
