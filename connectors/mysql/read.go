package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// read runs one request of an export.
func (c *conn) read(ctx context.Context, q connectors.Query, after []byte,
	w *connectors.Writer) (connectors.ReadEnd, error) {
	r, err := c.newReader(q, after, w)
	if err != nil {
		return connectors.ReadEnd{}, err
	}
	as := reading
	if !q.Resumable() {
		as = streaming
	}
	err = c.with(ctx, as, func(ctx context.Context, s *session) error {
		r.session = s
		if err := r.learn(ctx, c.settings.String("database")); err != nil {
			return err
		}
		if as == streaming {
			return r.stream(ctx)
		}
		return r.keyset(ctx)
	})
	if fault.ClassOf(err).Parks() && fault.CodeOf(err) != "E_TOO_LARGE" {
		// What is a record's fault in an import is the query's in a read.
		f := fault.From(err)
		err = fault.Of("E_QUERY").WithSource(name).WithCause(f.Cause).WithField(f.Field).Wrap(f)
	}
	return connectors.ReadEnd{Exhausted: r.exhausted}, err
}

// A reader is one read request.
type reader struct {
	session *session
	w       *connectors.Writer
	sel     sqldb.Select
	hidden  int               // key columns at the end of the row that are not in the record
	types   map[string]string // of columns whose type the driver does not tell
	budget  *sqldb.Budget

	statement statement
	position  sqldb.Cursor // after the last record
	resumed   bool         // position is set: rows with a null in the key are seen no more
	exhausted bool
}

func (c *conn) newReader(q connectors.Query, after []byte, w *connectors.Writer) (*reader, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	r := &reader{w: w, sel: sqldb.Select{Query: q, Quote: sqldb.Backtick, ByColumn: true}}
	r.sel.Mark = r.keyMark
	if q.Table != "" {
		if err := r.structured(q); err != nil {
			return nil, err
		}
	}
	if len(after) > 0 {
		position, err := sqldb.ParseCursor(after, q.Key)
		if err != nil {
			return nil, err
		}
		for _, v := range position.Values {
			if _, ok := keyLiteral(v); !ok {
				return nil, fault.Of("E_QUERY").WithSource(name).
					WithSentence("the position in the source cannot be used")
			}
		}
		r.position, r.resumed = position, true
	}
	r.budget = sqldb.NewBudget(r.position.RecordBytes)
	return r, nil
}

// structured prepares a query of table, columns and where. Key columns that
// are not asked for are read too, but not handed out.
func (r *reader) structured(q connectors.Query) (err error) {
	if r.sel.Table, err = sqldb.ParseTable(q.Table, ""); err != nil {
		return err
	}
	conditions, err := sqldb.BuildWhere(q.Where, sqldb.Marks{Quote: sqldb.Backtick, Value: conditionLiteral})
	if err != nil {
		return err
	}
	r.sel.Conditions = conditions.SQL
	if len(q.Columns) == 0 {
		return nil
	}
	columns := slices.Clone(q.Columns)
	for _, k := range q.Key {
		if !slices.Contains(columns, k) {
			columns = append(columns, k)
			r.hidden++
		}
	}
	quoted := make([]string, len(columns))
	for i, n := range columns {
		quoted[i] = sqldb.Backtick(n)
	}
	r.sel.Columns = strings.Join(quoted, ", ")
	return nil
}

// conditionLiteral writes a value of a condition: a number with all its digits,
// which a bound text would not keep.
func conditionLiteral(_ int, v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "1"
		}
		return "0"
	}
	return string(appendQuoted(nil, fmt.Sprint(v)))
}

func (r *reader) keyMark(n int) string {
	literal, _ := keyLiteral(r.position.Values[n-1])
	return literal
}

// learn asks what the result will not tell. A free query without a key runs as
// it is written, so it is first tried inside another one, without rows: what is
// not a query, or writes its result into a file of the server, ends there.
func (r *reader) learn(ctx context.Context, database string) (err error) {
	if r.sel.Query.SQL == "" {
		r.types, err = r.session.ownTypes(ctx, r.sel.Table, database)
		return err
	}
	if r.sel.Query.Resumable() {
		return nil
	}
	probe := r.sel
	probe.Query.SQL = sqldb.TrimStatement(probe.Query.SQL)
	_, err = r.run(ctx, probe.Empty(), 0)
	return err
}

// stream reads everything with one statement.
func (r *reader) stream(ctx context.Context) error {
	more, err := r.run(ctx, r.sel.All(), 0)
	r.exhausted = err == nil && more
	return err
}

// keyset reads in the order of the key until the writer has enough or no row is
// left. Each statement asks for one row more than it hands out: by this row it
// notices keys that are not unique and knows that it is not at the end.
func (r *reader) keyset(ctx context.Context) error {
	for {
		if err := r.checkTextKey(ctx); err != nil {
			return err
		}
		limit := r.budget.Rows(r.w.Room())
		more, err := r.run(ctx, r.sel.Keyset(r.resumed, limit), limit)
		if err != nil || !more {
			return err
		}
		if r.statement.rows < limit {
			break
		}
	}
	if r.resumed {
		if err := r.checkNullKeys(ctx); err != nil {
			return err
		}
	}
	r.exhausted = true
	return nil
}

// checkTextKey fails when the server holds another text equal to that of the
// position, such as "a" and "A": what comes after one of them lacks the other.
func (r *reader) checkTextKey(ctx context.Context) error {
	text := slices.ContainsFunc(r.position.Values, func(v sqldb.CursorValue) bool { return keyKind(v.Type) == keyText })
	if !r.resumed || !text {
		return nil
	}
	rows, err := r.session.query(ctx, r.sel.At())
	if err == nil && len(rows) > 1 {
		return sqldb.NotUnique(name)
	}
	return err
}

// checkNullKeys fails when rows have a null in their key. They sort first and no
// statement with a cursor finds them, so they would be lost silently.
func (r *reader) checkNullKeys(ctx context.Context) error {
	rows, err := r.session.query(ctx, r.sel.NullKeys())
	if err == nil && len(rows) > 0 {
		return sqldb.NullKey(name, r.sel.Query.Key[0])
	}
	return err
}
