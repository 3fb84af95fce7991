package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// importBatch applies one page in one transaction: the inbox row first, then
// record by record. A statement that fails leaves the transaction as it was,
// so there is nothing to bisect.
func (c *conn) importBatch(ctx context.Context, spec connectors.ImportSpec,
	in connectors.Batch) (answer connectors.Answer, err error) {
	if spec, err = spec.Normal(); err != nil {
		return answer, err
	}
	if in.Records == 0 {
		return connectors.Answer{}, nil
	}
	err = c.with(ctx, true, func(d db) error {
		w := &work{db: d, spec: spec, batch: in, inbox: sqldb.Inbox{
			Table: sqldb.Table{Name: sqldb.InboxName}, Placeholder: "?", TimeType: "text",
			Now: "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
		}}
		answer, err = w.apply(ctx)
		if err != nil && !d.AutoCommit() {
			d.exec(context.WithoutCancel(ctx), "ROLLBACK")
		}
		return err
	})
	return answer, err
}

// Work is the import of one batch.
type work struct {
	db       db
	spec     connectors.ImportSpec
	batch    connectors.Batch
	inbox    sqldb.Inbox
	table    sqldb.Table
	columns  map[string]string // declared types by name
	plans    map[planKey]*plan
	failed   []connectors.Failure
	degraded []connectors.Failure
}

func (w *work) apply(ctx context.Context) (connectors.Answer, error) {
	if _, err := w.db.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return connectors.Answer{}, err
	}
	if err := w.lookUp(ctx); err != nil {
		return connectors.Answer{}, err
	}
	if w.spec.Inbox != connectors.InboxFalse {
		fresh, err := w.enter(ctx)
		if err != nil {
			return connectors.Answer{}, err
		}
		if !fresh {
			return w.earlier(ctx)
		}
	}
	if err := w.records(ctx); err != nil {
		return connectors.Answer{}, err
	}
	answer := connectors.Answer{
		Applied: w.batch.Records - len(w.failed), Failed: w.failed, Degraded: w.degraded,
		Inbox: w.spec.Inbox != connectors.InboxFalse,
	}
	return answer, w.commit(ctx, answer)
}

// lookUp reads the table's columns.
func (w *work) lookUp(ctx context.Context) (err error) {
	if w.table, err = sqldb.ParseTable(w.spec.Table, ""); err != nil {
		return err
	}
	schema := w.table.Schema
	if schema == "" {
		schema = "main"
	}
	w.columns, w.plans = map[string]string{}, map[planKey]*plan{}
	err = w.db.each(ctx, "SELECT name, type, hidden FROM pragma_table_xinfo(?1, ?2)", []any{w.table.Name, schema},
		func(row []driver.Value) error {
			if hidden, _ := row[2].(int64); hidden == 0 {
				column, _ := row[0].(string)
				w.columns[column], _ = row[1].(string)
			}
			return nil
		})
	if err == nil && len(w.columns) == 0 {
		err = fault.Of("E_TABLE_MISSING").WithSource(name).WithCause("no such table: " + w.table.String())
	}
	return err
}

// enter inserts the page's inbox row, making the table where it is missing.
func (w *work) enter(ctx context.Context) (fresh bool, err error) {
	changed, err := w.db.exec(ctx, w.inbox.Insert(), w.batch.Page, w.batch.Step, "")
	if fault.CodeOf(toFault(ctx, err)) == "E_TABLE_MISSING" {
		if _, err = w.db.exec(ctx, w.inbox.Script()); err == nil {
			changed, err = w.db.exec(ctx, w.inbox.Insert(), w.batch.Page, w.batch.Step, "")
		}
	}
	return changed == 1, err
}

// earlier returns the answer of the transaction that applied the page.
func (w *work) earlier(ctx context.Context) (answer connectors.Answer, err error) {
	err = w.db.each(ctx, w.inbox.Result(), []any{w.batch.Page, w.batch.Step}, func(row []driver.Value) error {
		text, _ := row[0].(string)
		answer, err = sqldb.DecodeAnswer(text)
		return err
	})
	if err == nil {
		_, err = w.db.exec(ctx, "ROLLBACK")
	}
	return answer, err
}

func (w *work) commit(ctx context.Context, answer connectors.Answer) error {
	if answer.Inbox {
		text, err := sqldb.EncodeAnswer(answer)
		if err != nil {
			return err
		}
		if _, err := w.db.exec(ctx, w.inbox.Correct(), w.batch.Page, w.batch.Step, text); err != nil {
			return err
		}
	}
	_, err := w.db.exec(ctx, "COMMIT")
	return err
}

func (w *work) records(ctx context.Context) error {
	defer func() {
		for _, p := range w.plans {
			if p.stmt != nil {
				p.stmt.Close()
			}
		}
	}()
	d, err := page.NewDecoder(w.batch.Payload)
	if err != nil {
		return err
	}
	for i := 0; d.Next(); i++ {
		r := d.Record()
		err := w.record(ctx, r, "")
		if err == nil {
			continue
		}
		f := fault.From(toFault(ctx, err))
		if !f.Class.Parks() {
			return f
		}
		if w.db.AutoCommit() { // RAISE(ROLLBACK) in a trigger
			return fault.Of("E_INTERNAL").WithSource(name).WithCause("a trigger ended the transaction: " + f.Cause)
		}
		if err := w.recordFailed(ctx, r, i, f); err != nil {
			return err
		}
	}
	return d.Err()
}

// recordFailed notes the fault of one record, after one more try without the
// field that the target named if the spec allows it.
func (w *work) recordFailed(ctx context.Context, r page.Record, index int, f *fault.Error) error {
	failure := connectors.Failure{Index: index, Fault: f}
	_, present := r.Shape.Index(f.Field)
	if present && w.spec.FieldErrors.Removes(f.Field) && !slices.Contains(w.spec.Key, f.Field) {
		err := w.record(ctx, r, f.Field)
		if err == nil {
			w.degraded = append(w.degraded, failure)
			return nil
		}
		if again := toFault(ctx, err); !fault.ClassOf(again).Parks() {
			return again
		}
	}
	w.failed = append(w.failed, failure)
	return nil
}

// A plan is the statement for records of one shape.
type plan struct {
	stmt   driver.Stmt
	fields []int // of the record, in the order of the statement's parameters
	types  []string
	args   []any
	absent string // a key field that the shape does not have
}

type planKey struct {
	shape *page.Shape
	drop  string
}

func (w *work) record(ctx context.Context, r page.Record, drop string) error {
	p := w.plans[planKey{r.Shape, drop}]
	if p == nil {
		var err error
		if p, err = w.newPlan(ctx, r.Shape, drop); err != nil {
			return err
		}
		w.plans[planKey{r.Shape, drop}] = p
	}
	if p.absent != "" {
		return sqldb.MissingKey(name, p.absent)
	}
	for i, field := range p.fields {
		v := &r.Values[field]
		if v.IsNull() && w.spec.Mode != connectors.Insert && slices.Contains(w.spec.Key, r.Shape.Names[field]) {
			return sqldb.MissingKey(name, r.Shape.Names[field])
		}
		bound, err := bind(v, affinityOf(p.types[i]), p.types[i])
		if err != nil {
			return fault.From(err).WithField(r.Shape.Names[field])
		}
		p.args[i] = bound
	}
	changed, err := execute(ctx, p.stmt, p.args)
	if err == nil && changed == 0 && w.spec.Mode == connectors.Update {
		return sqldb.NoSuchRow(name, w.spec.Key[0])
	}
	return err
}

func (w *work) newPlan(ctx context.Context, shape *page.Shape, drop string) (*plan, error) {
	p := &plan{}
	var names []string
	for i, n := range shape.Names {
		if n == drop || w.spec.Mode == connectors.Delete && !slices.Contains(w.spec.Key, n) {
			continue
		}
		declared, known := w.columns[n]
		if !known {
			return nil, fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(n).
				WithCause(fmt.Sprintf("%s has no column %q", w.table, n))
		}
		p.fields, p.types, names = append(p.fields, i), append(p.types, declared), append(names, n)
	}
	if w.spec.Mode != connectors.Insert {
		for _, k := range w.spec.Key {
			if !slices.Contains(names, k) {
				p.absent = k
				return p, nil
			}
		}
	}
	if len(names) == 0 {
		return nil, fault.Of("E_COLUMN_MISSING").WithSource(name).WithCause("the records have no fields")
	}
	p.args = make([]any, len(names))
	var err error
	p.stmt, err = w.db.PrepareContext(ctx, w.statement(names))
	return p, err
}

// statement applies one record whose fields are bound in the order of names.
func (w *work) statement(names []string) string {
	var marks, sets, keys []string
	for i, n := range names {
		mark := "?" + strconv.Itoa(i+1)
		marks = append(marks, mark)
		if slices.Contains(w.spec.Key, n) {
			keys = append(keys, sqldb.Quote(n)+" = "+mark)
		} else {
			sets = append(sets, sqldb.Quote(n)+" = "+mark)
		}
	}
	target, match := w.table.String(), strings.Join(keys, " AND ")
	insert := "INSERT INTO " + target + " (" + sqldb.QuoteAll(names) + ") VALUES (" + strings.Join(marks, ", ") + ")"
	switch w.spec.Mode {
	case connectors.Delete:
		return "DELETE FROM " + target + " WHERE " + match
	case connectors.Update:
		if len(sets) == 0 { // nothing to change, but the row must be there
			sets = []string{sqldb.Quote(w.spec.Key[0]) + " = " + sqldb.Quote(w.spec.Key[0])}
		}
		return "UPDATE " + target + " SET " + strings.Join(sets, ", ") + " WHERE " + match
	case connectors.Upsert:
		action := "NOTHING"
		if len(sets) > 0 {
			action = "UPDATE SET " + strings.Join(sets, ", ")
		}
		return insert + " ON CONFLICT (" + sqldb.QuoteAll(w.spec.Key) + ") DO " + action
	}
	return insert
}
