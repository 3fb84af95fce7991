package odata

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// read runs one request of an export.
func (c *conn) read(ctx context.Context, q connectors.Query, after []byte,
	w *connectors.Writer) (connectors.ReadEnd, error) {
	r, err := c.newReader(ctx, q, after, w)
	if err != nil {
		return connectors.ReadEnd{}, c.noticed(err)
	}
	switch {
	case excludesAll(q.Where):
		r.exhausted = true
	case q.Resumable():
		err = r.keyed(ctx)
	default:
		err = r.streamed(ctx)
	}
	return connectors.ReadEnd{Exhausted: r.exhausted}, c.noticed(err)
}

// A reader is one read request.
type reader struct {
	conn *conn
	w    *connectors.Writer
	q    connectors.Query
	set  *structure
	filter

	shape  *page.Shape
	fields []*property // of the shape
	key    []*property
	where  string // conditions of the query

	position []page.Value // the key of the last record; nil = at the start
	budget   *sqldb.Budget
	most     int // records of one answer, less after one was too large

	exhausted bool
}

func (c *conn) newReader(ctx context.Context, q connectors.Query, after []byte, w *connectors.Writer) (*reader, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if q.SQL != "" {
		return nil, badQuery("OData has no query language: name an entity set in table, and columns and where if needed")
	}
	svc, set, err := c.set(ctx, q.Table)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: c, w: w, q: q, set: set, filter: filter{form{svc.version}, set}, most: maxTop}
	if r.where, err = r.filter.where(q.Where); err != nil {
		return nil, err
	}
	if err := r.choose(); err != nil {
		return nil, err
	}
	return r, r.resume(after)
}

// choose finds the properties of the records and of the key.
func (r *reader) choose() error {
	r.fields = r.set.fields()
	if len(r.q.Columns) > 0 {
		r.fields = nil
		for _, column := range r.q.Columns {
			p := r.set.byName[column]
			if p == nil || p.navigation || p.prim == stream {
				return fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(column).
					WithCause(fmt.Sprintf("%s has no property %q", r.set.name, column))
			}
			r.fields = append(r.fields, p)
		}
	}
	for _, k := range r.q.Key {
		p, err := r.column(k)
		if err != nil {
			return err
		}
		r.key = append(r.key, p)
	}
	names := make([]string, len(r.fields))
	for i, p := range r.fields {
		names[i] = p.name
	}
	r.shape = page.NewShape(names...)
	return nil
}

// resume reads a cursor: the lossless JSON of each value of the key.
func (r *reader) resume(after []byte) error {
	r.budget = sqldb.NewBudget(0)
	if len(after) == 0 {
		return nil
	}
	cursor, err := sqldb.ParseCursor(after, r.q.Key)
	if err != nil {
		return err
	}
	r.position = make([]page.Value, len(r.key))
	for i, v := range cursor.Values {
		if v.Type != uint32(r.key[i].prim) || r.position[i].UnmarshalJSON(v.Data) != nil || r.position[i].IsNull() {
			return badPosition()
		}
	}
	r.budget = sqldb.NewBudget(cursor.RecordBytes)
	return nil
}

func (r *reader) cursor() []byte {
	cursor := sqldb.Cursor{RecordBytes: r.budget.Mean()}
	for i, v := range r.position {
		cursor.Values = append(cursor.Values, sqldb.CursorValue{Type: uint32(r.key[i].prim), Data: v.AppendJSON(nil)})
	}
	return cursor.Append(nil, r.q.Key)
}

const maxTop = 5000 // records asked for at once

// keyed reads in the order of the key, always asking for what comes after the
// last record. It does not follow the links of the server's own paging, which
// count records and so skip or repeat some when others come and go. It ends
// when nothing comes after the last record, so that a server that cuts answers
// off silently loses nothing either.
func (r *reader) keyed(ctx context.Context) error {
	for {
		records, err := r.next(ctx)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			r.exhausted = true
			return r.checkNullKeys(ctx)
		}
		for _, raw := range records {
			if more, err := r.record(raw); err != nil || !more {
				return err
			}
		}
	}
}

// next asks for the records after the position, fewer at a time when an answer
// is too large.
func (r *reader) next(ctx context.Context) ([]json.RawMessage, error) {
	for {
		records, err := r.after(ctx)
		if fault.CodeOf(err) != "E_TOO_LARGE" || r.most == 1 {
			return records, err
		}
		r.most = max(r.most/8, 1)
	}
}

func (r *reader) after(ctx context.Context) ([]json.RawMessage, error) {
	if r.position != nil && r.comparesTexts() {
		return r.afterText(ctx)
	}
	condition := r.where
	if r.position != nil {
		after, err := r.beyond(r.key, r.position, "gt", "gt")
		if err != nil {
			return nil, err
		}
		condition = both(r.where, after)
	}
	return r.query(ctx, condition, "asc", r.top())
}

// query asks for records that meet a condition.
func (r *reader) query(ctx context.Context, condition, direction string, top int) ([]json.RawMessage, error) {
	u := r.ask(condition, direction, top)
	if len(u.RawQuery) > maxFilter {
		return nil, badQuery(fmt.Sprintf("the address of the request would have more than %d bytes; ask for less in where and columns", maxFilter))
	}
	records, _, err := r.fetch(ctx, u)
	return records, err
}

func (r *reader) top() int {
	records, bytes := r.w.Room()
	if records < 0 {
		return r.most
	}
	return min(r.budget.Rows(records, bytes), r.most)
}

// ask is the address of a query. direction "" leaves the order to the server,
// top 0 the size of the answer.
func (r *reader) ask(condition, direction string, top int) *url.URL {
	options := []string{}
	add := func(option, value string) { options = append(options, option+"="+escapeQuery(value)) }
	if len(r.q.Columns) > 0 {
		selected := slices.Clone(r.q.Columns)
		for _, k := range r.q.Key {
			if !slices.Contains(selected, k) {
				selected = append(selected, k)
			}
		}
		add("$select", strings.Join(selected, ","))
	}
	if condition != "" {
		add("$filter", condition)
	}
	if direction != "" {
		order := make([]string, len(r.q.Key))
		for i, k := range r.q.Key {
			order[i] = k + " " + direction
		}
		add("$orderby", strings.Join(order, ","))
	}
	if top > 0 {
		add("$top", strconv.Itoa(top))
	}
	return r.conn.at(url.PathEscape(r.q.Table), strings.Join(options, "&"))
}

// fetch gets one answer with records and the link to the next.
func (r *reader) fetch(ctx context.Context, u *url.URL) ([]json.RawMessage, string, error) {
	a, err := r.conn.get(ctx, u, versions(r.version))
	if err != nil {
		return nil, "", err
	}
	if a.Status != http.StatusOK {
		return nil, "", r.refused(r.conn.faultOf(a, r.set), a.Status)
	}
	records, link, err := parseCollection(a.Body)
	if err != nil {
		return nil, "", fault.Of("E_UNREACHABLE").WithSource(name).WithCause(err).
			WithSentence("the endpoint's answer is not a list of records").
			WithFix("check that url is the root of an OData service")
	}
	return records, link, nil
}

// refused turns faults that would park a record: a read has none.
func (r *reader) refused(f *fault.Error, status int) error {
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
		return fault.Of("E_TABLE_MISSING").WithSource(name).WithCause(f.Cause)
	case f.Class.Parks():
		return fault.Of("E_QUERY").WithSource(name).WithCause(f.Cause).WithField(f.Field)
	}
	return f
}

// record hands out one record.
func (r *reader) record(raw json.RawMessage) (more bool, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return false, fault.Of("E_UNREACHABLE").WithSource(name).
			WithSentence("the endpoint's answer holds something that is not a record").
			WithFix("report it to the operator of the endpoint")
	}
	var cursor func() []byte
	if r.q.Resumable() {
		at, err := r.keyOf(fields)
		if err != nil {
			return false, err
		}
		r.position, cursor = at, r.cursor
	}
	r.budget.Add(len(raw))
	e := r.w.Record(r.shape)
	for _, p := range r.fields {
		e.Value(p.value(fields[p.name]))
	}
	return r.w.Done(cursor)
}

// keyOf is the key of a record, which must differ from the one before.
func (r *reader) keyOf(fields map[string]json.RawMessage) ([]page.Value, error) {
	at := make([]page.Value, len(r.key))
	same := r.position != nil
	for i, p := range r.key {
		at[i] = p.value(fields[p.name])
		switch at[i].Kind() {
		case page.KindNull:
			return nil, nullKey(p.name)
		case page.KindForeign, page.KindJSON:
			return nil, fault.Of("E_QUERY").WithSource(name).WithField(p.name).
				WithSentence("a value of the export's key does not fit its type, so it has no place in an order")
		}
		same = same && page.Equal(at[i], r.position[i])
	}
	if same {
		return nil, fault.Of("E_QUERY").WithSource(name).
			WithSentence("the key of the export is not unique, or the endpoint does not apply $filter").
			WithFix("name properties in `key` that are unique together and can be filtered, then start the job again")
	}
	return at, nil
}

func nullKey(column string) error {
	return fault.Of("E_QUERY").WithSource(name).WithField(column).
		WithSentence("the key of the export is null in some records").
		WithFix("name properties in `key` that are never null, or leave these records out by where")
}
