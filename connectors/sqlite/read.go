package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// read runs one request of an export.
func (c *conn) read(ctx context.Context, q connectors.Query, after []byte,
	w *connectors.Writer) (connectors.ReadEnd, error) {
	r, err := newReader(q, after, w)
	if err != nil {
		return connectors.ReadEnd{}, err
	}
	err = c.with(ctx, false, func(d db) error { return r.run(ctx, d) })
	if fault.ClassOf(err).Parks() && fault.CodeOf(err) != "E_TOO_LARGE" {
		f := fault.From(err)
		err = fault.Of("E_QUERY").WithSource(name).WithCause(f.Cause).Wrap(f)
	}
	return connectors.ReadEnd{Exhausted: r.exhausted}, err
}

// A reader is one read request.
type reader struct {
	w    *connectors.Writer
	sel  sqldb.Select
	args []any

	shape *page.Shape
	bools []bool // columns declared as boolean
	keys  []int

	position  sqldb.Cursor
	resumed   bool
	exhausted bool
}

func newReader(q connectors.Query, after []byte, w *connectors.Writer) (*reader, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	for _, sql := range []string{q.SQL, q.Where.SQL} {
		if err := sqldb.OneStatement(sql); err != nil {
			return nil, err
		}
	}
	r := &reader{w: w, sel: sqldb.Select{Query: q, Placeholder: "?"}}
	if q.Table != "" {
		conditions, err := sqldb.BuildWhere(q.Where, sqldb.Numbered("?"))
		if err != nil {
			return nil, err
		}
		if r.sel.Table, err = sqldb.ParseTable(q.Table, ""); err != nil {
			return nil, err
		}
		r.sel.Conditions, r.sel.Bound = conditions.SQL, len(conditions.Values)
		for _, v := range conditions.Values {
			r.args = append(r.args, conditionValue(v))
		}
	}
	if len(after) > 0 {
		position, err := sqldb.ParseCursor(after, q.Key)
		if err != nil {
			return nil, err
		}
		r.position, r.resumed = position, true
	}
	return r, nil
}

func conditionValue(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	if f, err := n.Float64(); err == nil {
		return f
	}
	return n.String()
}

// run reads all rows after the position with one statement, until the writer
// has enough.
func (r *reader) run(ctx context.Context, d db) error {
	if err := r.describe(ctx, d); err != nil {
		return err
	}
	args, err := r.cursorArgs()
	if err != nil {
		return err
	}
	sql := r.sel.All()
	if r.sel.Query.Resumable() {
		sql = r.sel.Keyset(r.resumed, math.MaxInt64)
	}
	enough := false
	err = d.each(ctx, sql, args, func(row []driver.Value) error {
		more, err := r.record(row)
		if err == nil && !more {
			enough = true
			err = errEnough
		}
		return err
	})
	if err != nil || enough {
		return err
	}
	if r.resumed {
		if err := r.checkNullKeys(ctx, d); err != nil {
			return err
		}
	}
	r.exhausted = true
	return nil
}

// describe learns the columns and selects each as an expression (+column),
// because the driver rewrites values of columns declared as dates.
func (r *reader) describe(ctx context.Context, d db) error {
	q := r.sel.Query
	probe := r.sel
	probe.Query.SQL = sqldb.TrimStatement(q.SQL)
	if len(q.Columns) > 0 {
		probe.Columns = sqldb.QuoteAll(q.Columns)
	}
	names, types, err := d.columns(ctx, probe.Empty(), r.args)
	if err != nil {
		return err
	}
	visible := len(names)
	for i, n := range names {
		if plain, _, renamed := strings.Cut(n, ":"); renamed && slices.Contains(names[:i], plain) {
			n = plain // SQLite calls the second "id" of a subquery "id:1"
		}
		if slices.Contains(names[:i], n) {
			return fault.Of("E_QUERY").WithSource(name).WithField(n).
				WithCause(fmt.Sprintf("the query returns two columns named %q", n))
		}
	}
	for _, k := range q.Key {
		i := slices.Index(names, k)
		if i < 0 && q.SQL != "" {
			return fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(k).
				WithCause(fmt.Sprintf("the key column %q is not among the columns of the query", k))
		}
		if i < 0 {
			i = len(names)
			names = append(names, k)
		}
		r.keys = append(r.keys, i)
	}
	expressions := make([]string, len(names))
	for i, n := range names {
		expressions[i] = "+q." + sqldb.Quote(n) + " AS " + sqldb.Quote(n)
	}
	r.sel.Columns, r.sel.Wrap = strings.Join(expressions, ", "), true
	r.bools = make([]bool, visible)
	for i := range r.bools {
		r.bools[i] = strings.HasPrefix(strings.ToLower(types[i]), "bool")
	}
	r.shape = page.NewShape(names[:visible]...)
	return nil
}

// record hands out one row.
func (r *reader) record(row []driver.Value) (more bool, err error) {
	var cursor func() []byte
	if r.sel.Query.Resumable() {
		cursor = r.cursor
		if err := r.advance(row); err != nil {
			return false, err
		}
	}
	e := r.w.Record(r.shape)
	for i := range r.shape.Names {
		switch v := row[i].(type) {
		case nil:
			e.Null()
		case int64:
			if r.bools[i] && (v == 0 || v == 1) {
				e.Bool(v == 1)
			} else {
				e.Int64(v)
			}
		case float64:
			e.Float64(v)
		case string:
			e.String(v)
		case []byte:
			e.Bytes(v)
		default:
			return false, fault.Of("E_INTERNAL").WithSource(name).
				WithCause(fmt.Sprintf("the driver gave a %T", v))
		}
	}
	return r.w.Done(cursor)
}

// The storage classes of key values in cursors.
const (
	classInteger = 1
	classReal    = 2
	classText    = 3
	classBlob    = 4
)

// advance moves the position to the key of the row.
func (r *reader) advance(row []driver.Value) error {
	values := make([]sqldb.CursorValue, len(r.keys))
	same := r.resumed
	for i, column := range r.keys {
		v := &values[i]
		switch x := row[column].(type) {
		case int64:
			*v = sqldb.CursorValue{Type: classInteger, Data: binary.BigEndian.AppendUint64(nil, uint64(x))}
		case float64:
			*v = sqldb.CursorValue{Type: classReal,
				Data: binary.BigEndian.AppendUint64(nil, math.Float64bits(x))}
		case string:
			*v = sqldb.CursorValue{Type: classText, Data: []byte(x)}
		case []byte:
			*v = sqldb.CursorValue{Type: classBlob, Data: x}
		default:
			return sqldb.NullKey(name, r.sel.Query.Key[i])
		}
		same = same && v.Type == r.position.Values[i].Type &&
			string(v.Data) == string(r.position.Values[i].Data)
	}
	if same {
		return sqldb.NotUnique(name)
	}
	r.position.Values, r.resumed = values, true
	return nil
}

func (r *reader) cursor() []byte { return r.position.Append(nil, r.sel.Query.Key) }

func (r *reader) cursorArgs() ([]any, error) {
	args := slices.Clone(r.args)
	for _, v := range r.position.Values {
		switch {
		case v.Type == classText:
			args = append(args, string(v.Data))
		case v.Type == classBlob:
			args = append(args, v.Data)
		case v.Type == classInteger && len(v.Data) == 8:
			args = append(args, int64(binary.BigEndian.Uint64(v.Data)))
		case v.Type == classReal && len(v.Data) == 8:
			args = append(args, math.Float64frombits(binary.BigEndian.Uint64(v.Data)))
		default:
			return nil, fault.Of("E_QUERY").WithSource(name).
				WithSentence("the position in the source cannot be used")
		}
	}
	return args, nil
}

func (r *reader) checkNullKeys(ctx context.Context, d db) error {
	return d.each(ctx, r.sel.NullKeys(), r.args, func([]driver.Value) error {
		return sqldb.NullKey(name, r.sel.Query.Key[0])
	})
}
