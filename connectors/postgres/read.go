package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
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
		return s.readOnly(ctx, func() error {
			if as == streaming {
				return r.stream(ctx)
			}
			return r.keyset(ctx)
		})
	})
	if fault.ClassOf(err).Parks() && fault.CodeOf(err) != "E_TOO_LARGE" {
		// What is a record's fault in an import is the query's in a read.
		f := fault.From(err)
		err = fault.Of("E_QUERY").WithSource(name).WithCause(f.Cause).WithField(f.Field).Wrap(f)
	}
	return connectors.ReadEnd{Exhausted: r.exhausted}, err
}

// undoTimeout bounds the end of a read's transaction.
const undoTimeout = 5 * time.Second

// readOnly runs do in a transaction that cannot write, and rolls it back: a query
// that turns the setting off fails once it has begun to read, and what it sets for
// its session is undone with the transaction.
func (s *session) readOnly(ctx context.Context, do func() error) error {
	if err := s.pg.Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").Close(); err != nil {
		return err
	}
	err := do()
	if s.pg.IsClosed() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if undo := s.pg.Exec(ctx, "ROLLBACK").Close(); undo != nil {
		s.cut() // whatever was set must not reach the next read
	}
	return err
}

// A reader is one read request.
type reader struct {
	session *session
	w       *connectors.Writer
	sel     sqldb.Select
	hidden  int // key columns at the end of the row that are not in the record
	params  []param
	budget  *sqldb.Budget

	statement statement
	position  sqldb.Cursor // after the last record
	resumed   bool         // position is set: rows with a null in the key are not seen
	exhausted bool
}

// A param is one bound value: its type (0 = the server infers it), its format
// and its bytes.
type param struct {
	oid    uint32
	format int16
	data   []byte
}

func (c *conn) newReader(q connectors.Query, after []byte, w *connectors.Writer) (*reader, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	r := &reader{w: w, sel: sqldb.Select{Query: q, Placeholder: "$"}}
	if q.Table != "" {
		if err := r.structured(q, c.settings.String("schema")); err != nil {
			return nil, err
		}
	}
	if len(after) > 0 {
		position, err := sqldb.ParseCursor(after, q.Key)
		if err != nil {
			return nil, err
		}
		r.position, r.resumed = position, true
	}
	r.budget = sqldb.NewBudget(r.position.RecordBytes)
	return r, nil
}

// structured prepares a query of table, columns and where. Key columns that
// are not asked for are read too, but not handed out.
func (r *reader) structured(q connectors.Query, schema string) (err error) {
	if r.sel.Table, err = sqldb.ParseTable(q.Table, schema); err != nil {
		return err
	}
	conditions, err := sqldb.BuildWhere(q.Where, sqldb.Numbered("$"))
	if err != nil {
		return err
	}
	r.sel.Conditions, r.sel.Bound = conditions.SQL, len(conditions.Values)
	for _, v := range conditions.Values {
		r.params = append(r.params, param{data: []byte(conditionText(v))})
	}
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
	r.sel.Columns = sqldb.QuoteAll(columns)
	return nil
}

func conditionText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return fmt.Sprint(v) // bool
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

// run executes one statement and hands its rows to the writer. more is false
// when the writer has enough. limit 0 = all rows, without a key.
func (r *reader) run(ctx context.Context, sql string, limit int) (more bool, err error) {
	params := r.params
	if limit > 0 && r.resumed {
		params = slices.Clone(params)
		for _, v := range r.position.Values {
			params = append(params, param{oid: v.Type, format: int16(v.Form), data: v.Data})
		}
	}
	if err := r.prepare(ctx, sql, params); err != nil {
		return false, err
	}
	rows := r.execute(ctx, params)
	more, err = r.copyRows(rows, limit)
	if err != nil || !more {
		err = errors.Join(err, r.abandon(ctx, rows, limit))
		return false, err
	}
	_, err = rows.Close()
	return err == nil, err
}

func (r *reader) prepare(ctx context.Context, sql string, params []param) error {
	oids := make([]uint32, len(params))
	for i, p := range params {
		oids[i] = p.oid
	}
	described, err := r.session.pg.Prepare(ctx, "", sql, oids)
	if err != nil {
		return err
	}
	if len(described.Fields) == 0 {
		return fault.Of("E_QUERY").WithSource(name).WithCause("the statement returns no rows")
	}
	if err := r.session.learnTypes(ctx, described.Fields); err != nil {
		return err
	}
	if r.session.relearned {
		// Learning used the unnamed statement: prepare again.
		r.session.relearned = false
		return r.prepare(ctx, sql, params)
	}
	return r.statement.describe(r.session, described.Fields, r.sel.Query.Key, r.hidden)
}

func (r *reader) execute(ctx context.Context, params []param) *pgconn.ResultReader {
	values := make([][]byte, len(params))
	formats := make([]int16, len(params))
	for i, p := range params {
		values[i], formats[i] = p.data, p.format
	}
	return r.session.pg.ExecPrepared(ctx, "", values, formats, r.statement.formats)
}

// copyRows hands rows to the writer until it has enough (more is false) or no
// row is left.
func (r *reader) copyRows(rows *pgconn.ResultReader, limit int) (more bool, err error) {
	st := &r.statement
	st.rows = 0
	cursor := r.cursor
	if limit == 0 {
		cursor = nil
	}
	for rows.NextRow() {
		values := rows.Values()
		if len(values) != len(st.formats) {
			return false, badWire("row", nil)
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
	return true, nil
}

// record hands out one row.
func (r *reader) record(values [][]byte, cursor func() []byte) (more bool, err error) {
	st := &r.statement
	e := r.w.Record(st.shape)
	before := e.Size()
	for i, read := range st.readers {
		raw := values[i]
		if raw == nil {
			e.Null()
			continue
		}
		if err := read(e, raw); err != nil {
			return false, fault.From(err).WithField(st.shape.Names[i])
		}
	}
	r.budget.Add(e.Size() - before)
	return r.w.Done(cursor)
}

// advance moves the position to the key of the row. A row that is only looked
// at is compared, not moved to.
func (r *reader) advance(values [][]byte, lookOnly bool) error {
	st := &r.statement
	same := r.resumed
	for i, column := range st.keys {
		raw := values[column]
		if raw == nil {
			return sqldb.NullKey(name, r.sel.Query.Key[i])
		}
		same = same && bytes.Equal(raw, r.position.Values[i].Data)
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
		v.Type, v.Form = st.oids[column], uint8(st.formats[column])
		v.Data = append(v.Data[:0], values[column]...)
	}
	return nil
}

// cursor is the position after the last record.
func (r *reader) cursor() []byte {
	r.position.RecordBytes = r.budget.Mean()
	return r.position.Append(nil, r.sel.Query.Key)
}

// checkNullKeys fails when rows have a null in their key. They sort last and no
// statement with a cursor finds them, so they would be lost silently.
func (r *reader) checkNullKeys(ctx context.Context) error {
	values := make([][]byte, len(r.params))
	for i, p := range r.params {
		values[i] = p.data
	}
	result := r.session.pg.ExecParams(ctx, r.sel.NullKeys(), values, nil, nil, nil).Read()
	if result.Err != nil {
		return result.Err
	}
	if len(result.Rows) > 0 {
		return sqldb.NullKey(name, r.sel.Query.Key[0])
	}
	return nil
}

// drainable is how much of a result is read to its end rather than cancelled.
const drainable = 4 << 20

// abandon ends a statement whose rows are not wanted any more.
func (r *reader) abandon(ctx context.Context, rows *pgconn.ResultReader, limit int) error {
	left := limit - r.statement.rows
	if limit > 0 && left*int(max(r.budget.Mean(), 1)) <= drainable {
		_, err := rows.Close()
		return err
	}
	if err := r.session.pg.CancelRequest(ctx); err != nil {
		r.session.cut()
		return nil
	}
	_, err := rows.Close()
	var server *pgconn.PgError
	if !errors.As(err, &server) || server.Code != "57014" {
		r.session.cut() // the cancel may still come and hit the next statement
	}
	return nil
}

// A statement is what is known of the rows of the statement that runs.
type statement struct {
	shape   *page.Shape
	readers []cellReader // one per field of the record
	formats []int16      // one per column of the row
	oids    []uint32
	keys    []int // columns of the key
	rows    int   // received so far
}

func (st *statement) describe(s *session, fields []pgconn.FieldDescription, key []string, hidden int) error {
	names := make([]string, len(fields))
	readers := make([]cellReader, len(fields))
	formats := make([]int16, len(fields))
	oids := make([]uint32, len(fields))
	for i, f := range fields {
		names[i], oids[i] = f.Name, f.DataTypeOID
		if readers[i] = readerOf(f.DataTypeOID); readers[i] != nil {
			formats[i] = 1
			continue
		}
		readers[i] = readForeign(s.types[f.DataTypeOID].name)
	}
	visible := len(fields) - hidden
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
	}
	shape := st.shape
	if shape == nil || !slices.Equal(shape.Names, names[:visible]) {
		shape = page.NewShape(names[:visible]...)
	}
	*st = statement{shape: shape, readers: readers[:visible], formats: formats, oids: oids, keys: keys}
	return nil
}
