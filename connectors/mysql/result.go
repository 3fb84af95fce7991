package mysql

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A statement is what is known of the rows of the statement that runs.
type statement struct {
	shape   *page.Shape
	readers []cellReader // one per field of the record
	kinds   []keyKind    // one per column of the row
	keys    []int        // columns of the key
	scratch [][]byte     // data of the key of the row at hand
	rows    int          // received so far
}

func (st *statement) describe(rows driver.Rows, key []string, hidden int, own map[string]string) error {
	names := rows.Columns()
	if len(names) == 0 {
		return fault.Of("E_QUERY").WithSource(name).WithCause("the statement returns no rows")
	}
	types := rows.(driver.RowsColumnTypeDatabaseTypeName)
	readers, kinds := make([]cellReader, len(names)), make([]keyKind, len(names))
	for i, n := range names {
		typeName := types.ColumnTypeDatabaseTypeName(i)
		if special, ok := own[n]; ok {
			typeName = special
		}
		readers[i], kinds[i] = readerOf(typeName)
	}
	visible := len(names) - hidden
	for i, n := range names[:visible] {
		if slices.Contains(names[:i], n) {
			return fault.Of("E_QUERY").WithSource(name).WithField(n).
				WithCause(fmt.Sprintf("the query returns two columns named %q", n))
		}
	}
	keys := make([]int, len(key))
	for i, k := range key {
		if keys[i] = slices.Index(names, k); keys[i] < 0 {
			return fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(k).
				WithCause(fmt.Sprintf("the key column %q is not among the columns of the query", k))
		}
		if kinds[keys[i]] == keyNone {
			return badKey("the type of its column has no order of its own").WithField(k)
		}
	}
	shape := st.shape
	if shape == nil || !slices.Equal(shape.Names, names[:visible]) {
		shape = page.NewShape(names[:visible]...)
	}
	*st = statement{shape: shape, readers: readers[:visible], kinds: kinds, keys: keys,
		scratch: make([][]byte, len(keys))}
	return nil
}

// run executes one statement and hands its rows to the writer. more is false
// when the writer has enough. limit 0 = all rows, without a key.
func (r *reader) run(ctx context.Context, sql string, limit int) (more bool, err error) {
	stmt, err := r.session.statement(ctx, sql)
	if err != nil {
		return false, err
	}
	rows, err := query(ctx, stmt)
	if err != nil {
		return false, errors.Join(err, guarded(stmt.Close))
	}
	more, err = r.copyRows(rows, limit)
	left := (limit - r.statement.rows) * int(max(r.budget.Mean(), 1))
	if err != nil && errNumber(err) == nil || err == nil && !more && (limit == 0 || left > drainable) {
		r.session.cut()
		_ = guarded(rows.Close)
		return false, err
	}
	if closed := guarded(rows.Close); err == nil {
		err = closed
	}
	return more && err == nil, errors.Join(err, guarded(stmt.Close))
}

// drainable is how much of a result is read to its end rather than cut.
const drainable = 4 << 20

// cut closes the connection without a word; what the server still does for it
// is ended by conn.with.
func (s *session) cut() {
	s.isCut = true
	s.wire.Close()
}

// statement prepares a statement: only its results keep every digit.
func (s *session) statement(ctx context.Context, sql string) (stmt driver.Stmt, err error) {
	err = guarded(func() error {
		stmt, err = s.driver.(driver.ConnPrepareContext).PrepareContext(ctx, sql)
		return err
	})
	if err == nil && stmt.NumInput() > 0 {
		_ = guarded(stmt.Close)
		err = fault.Of("E_QUERY").WithSource(name).WithCause("the query has parameters (?), which nothing is bound to")
	}
	return stmt, err
}

func query(ctx context.Context, stmt driver.Stmt) (rows driver.Rows, err error) {
	err = guarded(func() error {
		rows, err = stmt.(driver.StmtQueryContext).QueryContext(ctx, nil)
		return err
	})
	return rows, err
}

// copyRows hands rows to the writer until it has enough (more is false) or no
// row is left.
func (r *reader) copyRows(rows driver.Rows, limit int) (more bool, err error) {
	st := &r.statement
	st.rows = 0
	if err := st.describe(rows, r.sel.Query.Key, r.hidden, r.types); err != nil {
		return false, err
	}
	cursor := r.cursor
	if limit == 0 {
		cursor = nil
	}
	values := make([]driver.Value, len(st.kinds))
	for {
		if err := next(rows, values); errors.Is(err, io.EOF) {
			return true, r.session.ended(st.rows)
		} else if err != nil {
			return false, err
		}
		st.rows++
		if limit > 0 {
			if err := r.advance(values, st.rows == limit); err != nil {
				return false, err
			}
			if st.rows == limit {
				continue // the row that was only looked at
			}
		}
		more, err := r.record(values, cursor)
		if err != nil || !more {
			return false, err
		}
	}
}

func next(rows driver.Rows, values []driver.Value) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = badWire("row")
		}
	}()
	return rows.Next(values)
}

// record hands out one row.
func (r *reader) record(values []driver.Value, cursor func() []byte) (more bool, err error) {
	st := &r.statement
	e := r.w.Record(st.shape)
	before := e.Size()
	for i, read := range st.readers {
		if values[i] == nil {
			e.Null()
			continue
		}
		if err := read(e, values[i]); err != nil {
			return false, fault.From(err).WithField(st.shape.Names[i])
		}
	}
	r.budget.Add(e.Size() - before)
	return r.w.Done(cursor)
}

// advance moves the position to the key of the row. A row that is only looked
// at is compared, not moved to.
func (r *reader) advance(values []driver.Value, lookOnly bool) error {
	st := &r.statement
	same := r.resumed
	for i, column := range st.keys {
		if values[column] == nil {
			return sqldb.NullKey(name, r.sel.Query.Key[i])
		}
		data, err := appendKey(st.scratch[i][:0], st.kinds[column], values[column])
		if err != nil {
			return fault.From(err).WithField(r.sel.Query.Key[i])
		}
		st.scratch[i] = data
		same = same && bytes.Equal(data, r.position.Values[i].Data)
	}
	if same {
		return sqldb.NotUnique(name)
	}
	if lookOnly {
		return nil
	}
	if !r.resumed {
		r.position.Values = make([]sqldb.CursorValue, len(st.keys))
		r.resumed = true
	}
	for i, column := range st.keys {
		v := &r.position.Values[i]
		v.Type = uint32(st.kinds[column])
		v.Data = append(v.Data[:0], st.scratch[i]...)
		if temporal := st.kinds[column] >= keyDate; temporal {
			if _, ok := keyLiteral(*v); !ok {
				return badKey("it holds a date that is in no calendar").WithField(r.sel.Query.Key[i])
			}
		}
	}
	return nil
}

// cursor is the position after the last record.
func (r *reader) cursor() []byte {
	r.position.RecordBytes = r.budget.Mean()
	return r.position.Append(nil, r.sel.Query.Key)
}
