package mysql

import (
	"context"
	"slices"
	"strings"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// importBatch applies one page in one transaction: the inbox row first, then
// the data (DELIVERY §4).
func (c *conn) importBatch(ctx context.Context, spec connectors.ImportSpec,
	in connectors.Batch) (answer connectors.Answer, err error) {
	if spec, err = spec.Normal(); err != nil {
		return answer, err
	}
	if in.Records == 0 {
		return connectors.Answer{}, nil
	}
	err = c.with(ctx, writing, func(ctx context.Context, s *session) error {
		answer, err = c.importWith(ctx, s, spec, in)
		return err
	})
	return answer, err
}

func (c *conn) importWith(ctx context.Context, s *session, spec connectors.ImportSpec,
	in connectors.Batch) (answer connectors.Answer, err error) {
	database := c.settings.String("database")
	t, err := s.lookUp(ctx, spec.Table, database)
	if err != nil {
		return answer, err
	}
	if exact, _ := t.hasUnique(spec.Key); spec.Mode == connectors.Upsert && !exact {
		return answer, fault.Of("E_SCHEMA_DRIFT").WithSource(name).
			WithCause("no unique index of " + t.name.Quoted(sqldb.Backtick) + " is on exactly the key " +
				strings.Join(spec.Key, ", ")).
			WithFix("make a unique index on exactly the key columns, then resume the job")
	}
	rows, err := build(t, spec, in, s.maxPacket)
	if err != nil {
		return answer, err
	}
	w := &work{session: s, spec: spec, batch: in, table: t, rows: rows,
		inbox: newInbox(database, in.Page, in.Step)}
	answer, err = w.apply(ctx)
	if w.inboxMissing {
		if err = w.inbox.make(ctx, s); err == nil {
			answer, err = w.apply(ctx)
		}
	}
	return answer, err
}

// Work is the import of one batch.
type work struct {
	session *session
	spec    connectors.ImportSpec
	batch   connectors.Batch
	table   *table
	rows    *rows
	inbox   inbox

	inboxMissing bool
	failed       []connectors.Failure
	degraded     []connectors.Failure
}

func (w *work) usesInbox() bool { return w.spec.Inbox != connectors.InboxFalse }

// apply runs the transaction.
func (w *work) apply(ctx context.Context) (connectors.Answer, error) {
	w.inboxMissing = false
	w.failed, w.degraded = slices.Clone(w.rows.failed), slices.Clone(w.rows.degraded)
	answer, err := w.transaction(ctx)
	if err != nil {
		w.rollback(ctx)
		return connectors.Answer{}, err
	}
	return answer, nil
}

func (w *work) transaction(ctx context.Context) (connectors.Answer, error) {
	first, err := sqldb.EncodeAnswer(w.answer())
	if err != nil {
		return connectors.Answer{}, err
	}
	w.session.open = true
	if err := w.session.exec(ctx, "START TRANSACTION READ WRITE"); err != nil {
		return connectors.Answer{}, err
	}
	if w.usesInbox() {
		fresh, err := w.enter(ctx, first)
		if err != nil {
			return connectors.Answer{}, err
		}
		if !fresh {
			return w.earlier(ctx)
		}
	}
	for _, c := range w.rows.chunks {
		if err := w.applyChunk(ctx, c); err != nil {
			return connectors.Answer{}, err
		}
	}
	answer := w.answer()
	last, err := sqldb.EncodeAnswer(answer)
	if err != nil {
		return connectors.Answer{}, err
	}
	if w.usesInbox() && last != first {
		if err := w.session.exec(ctx, w.inbox.correct(last)); err != nil {
			return connectors.Answer{}, err
		}
	}
	if err := w.session.exec(ctx, "COMMIT"); err != nil {
		return connectors.Answer{}, err
	}
	w.session.open = false
	return answer, nil
}

func (w *work) answer() connectors.Answer {
	sqldb.SortFailures(w.failed)
	sqldb.SortFailures(w.degraded)
	return connectors.Answer{
		Applied: w.batch.Records - len(w.failed), Failed: w.failed, Degraded: w.degraded,
		Inbox: w.usesInbox(),
	}
}

// enter inserts the page's inbox row. Of two executors of one page the second
// waits here for the first. fresh is false when the page was applied before.
func (w *work) enter(ctx context.Context, result string) (fresh bool, err error) {
	err = w.session.exec(ctx, w.inbox.insert(result))
	switch e := errNumber(err); {
	case err == nil:
		return true, nil
	case e == nil:
		return false, err
	case e.Number == 1062:
		return false, nil
	case e.Number == 1146:
		w.inboxMissing = true
	case denied(err):
		return false, w.inbox.notAllowed(err)
	}
	return false, err
}

// earlier returns the answer of the transaction that applied the page.
func (w *work) earlier(ctx context.Context) (connectors.Answer, error) {
	found, err := w.session.query(ctx, w.inbox.result())
	if err != nil {
		return connectors.Answer{}, err
	}
	if len(found) == 0 {
		return connectors.Answer{}, fault.Of("E_INTERMITTENT").WithSource(name).
			WithCause("the page's inbox row was removed while it was looked at")
	}
	w.rollback(ctx)
	return sqldb.DecodeAnswer(found[0][0])
}

// rollback ends the transaction, also when ctx has ended. A session that cannot
// do it is not used again.
func (w *work) rollback(ctx context.Context) {
	if !w.session.open || !w.session.valid() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if w.session.exec(ctx, "ROLLBACK") == nil {
		w.session.open = false
	}
}

// applyChunk applies rows of one form so that a bad row fails alone. Rows are
// put into statements first; where one of them fails, it is tried in halves.
func (w *work) applyChunk(ctx context.Context, c *chunk) error {
	writer := newWriter(w.table, w.spec, c, w.session.maxPacket)
	for lo := 0; lo < c.rows(); {
		begin, hi := lo, writer.until(lo)
		bisection := sqldb.Bisection{
			Attempt: func(lo, hi int) error { return w.attempt(ctx, writer, begin+lo, begin+hi) },
			Failed:  func(row int, f *fault.Error) error { return w.rowFailed(ctx, c, begin+row, f) },
		}
		if err := bisection.Run(hi - lo); err != nil {
			return err
		}
		lo = hi
	}
	return nil
}

// attempt applies rows inside a savepoint: after an error that may be a single
// row's the transaction is as before.
func (w *work) attempt(ctx context.Context, writer *writer, lo, hi int) error {
	if err := w.session.exec(ctx, "SAVEPOINT rw"); err != nil {
		return err
	}
	found, err := w.session.change(ctx, writer.statement(lo, hi))
	switch {
	case err != nil:
		err = w.rowFault(ctx, err)
	case w.spec.Mode != connectors.Update || found == int64(hi-lo) || writer.single && found > 0:
		return nil
	case hi-lo > 1: // a key twice, or not there
		err = sqldb.ErrSplit
	default:
		err = sqldb.NoSuchRow(name, w.spec.Key[0])
	}
	if !sqldb.Divisible(err) || !w.session.valid() {
		return err
	}
	if err := w.session.exec(ctx, "ROLLBACK TO SAVEPOINT rw"); err != nil {
		return err
	}
	return err
}

func (w *work) rowFault(ctx context.Context, err error) error {
	if e := errNumber(err); e != nil && e.Number == 1365 && w.spec.Mode == connectors.Upsert {
		return fault.Of("E_DUPLICATE").WithSource(name).
			WithCause("another row has a value of the record in a unique index that is not the key's")
	}
	return toFault(ctx, w.session.explain(err), working)
}

// rowFailed notes the fault of one row, after one more try without the field
// that the server named if the spec allows it.
func (w *work) rowFailed(ctx context.Context, c *chunk, row int, f *fault.Error) error {
	failure := connectors.Failure{Index: c.records[row], Fault: f}
	column := slices.Index(c.names(), f.Field)
	removable := column >= 0 && len(c.columns) > 1 && w.spec.FieldErrors.Removes(f.Field) &&
		!slices.Contains(w.spec.Key, f.Field)
	if !removable {
		w.failed = append(w.failed, failure)
		return nil
	}
	before := len(w.failed)
	again := *w
	again.spec.FieldErrors = connectors.FieldErrors{}
	if err := again.applyChunk(ctx, c.without(row, column)); err != nil {
		return err
	}
	if len(again.failed) > before {
		w.failed = append(w.failed, failure)
		return nil
	}
	w.degraded = append(w.degraded, failure)
	return nil
}
