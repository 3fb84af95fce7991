package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

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
		if fault.ClassOf(err) == fault.SchemaDrift {
			// The table may have been changed since it was looked up.
			c.forgetTables()
			answer, err = c.importWith(ctx, s, spec, in)
		}
		return err
	})
	return answer, err
}

func (c *conn) importWith(ctx context.Context, s *session, spec connectors.ImportSpec,
	in connectors.Batch) (answer connectors.Answer, err error) {
	t, err := c.table(ctx, s, spec.Table)
	if err != nil {
		return answer, toFault(ctx, err, working)
	}
	w := &work{session: s, spec: spec, batch: in, table: t, inbox: c.inbox(),
		building: startBuild(t, spec, in)}
	defer w.building.wait()
	answer, err = w.apply(ctx)
	if fault.CodeOf(err) == "E_TABLE_MISSING" && w.inboxMissing {
		if err = w.makeInbox(ctx); err == nil {
			answer, err = w.apply(ctx)
		}
	}
	return answer, err
}

func (c *conn) inbox() sqldb.Inbox {
	return sqldb.Inbox{
		Table:       sqldb.Table{Schema: c.settings.String("schema"), Name: sqldb.InboxName},
		Placeholder: "$", TimeType: "timestamptz", Now: "now()",
	}
}

// Work is the import of one batch.
type work struct {
	session *session
	spec    connectors.ImportSpec
	batch   connectors.Batch
	table   *table
	inbox   sqldb.Inbox

	building *building

	inboxMissing bool
	clean        bool // nothing happened since the savepoint
	stages       int  // stage tables made
	failed       []connectors.Failure
	degraded     []connectors.Failure
}

func (w *work) usesInbox() bool { return w.spec.Inbox != connectors.InboxFalse }

// apply runs the transaction.
func (w *work) apply(ctx context.Context) (connectors.Answer, error) {
	w.inboxMissing, w.stages = false, 0
	w.failed, w.degraded = nil, nil
	answer, err := w.transaction(ctx)
	if err == nil {
		return answer, nil
	}
	err = toFault(ctx, err, working)
	w.rollback(ctx)
	return connectors.Answer{}, err
}

func (w *work) transaction(ctx context.Context) (connectors.Answer, error) {
	first, err := sqldb.EncodeAnswer(w.answer())
	if err != nil {
		return connectors.Answer{}, err
	}
	fresh, err := w.begin(ctx, first)
	if err != nil {
		return connectors.Answer{}, err
	}
	if !fresh {
		return w.earlier(ctx)
	}
	streamed, err := w.stream(ctx)
	if err != nil {
		return connectors.Answer{}, err
	}
	rows, err := w.building.wait()
	if err != nil {
		return connectors.Answer{}, err
	}
	w.failed, w.degraded = slices.Clone(rows.failed), slices.Clone(rows.degraded)
	for _, c := range rows.chunks {
		if c == streamed {
			continue
		}
		if err := w.applyChunk(ctx, c); err != nil {
			return connectors.Answer{}, err
		}
	}
	answer := w.answer()
	return answer, w.commit(ctx, first, answer)
}

func (w *work) answer() connectors.Answer {
	sqldb.SortFailures(w.failed)
	sqldb.SortFailures(w.degraded)
	return connectors.Answer{
		Applied: w.batch.Records - len(w.failed), Failed: w.failed, Degraded: w.degraded,
		Inbox: w.usesInbox(),
	}
}

const savepoint = "SAVEPOINT rw"

// begin opens the transaction, inserts the inbox row and sees to it that the
// table stays as it was looked up, all in one round trip. fresh is false when
// the page was applied before. Constraints are checked at once: at the commit
// it would be too late to find the row.
func (w *work) begin(ctx context.Context, result string) (fresh bool, err error) {
	b := &pgconn.Batch{}
	b.ExecParams("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", nil, nil, nil, nil)
	b.ExecParams("SET CONSTRAINTS ALL IMMEDIATE", nil, nil, nil, nil)
	if w.usesInbox() {
		b.ExecParams(w.inbox.Insert(), w.inboxKey(result), textParams, nil, nil)
	}
	if w.table.lockable {
		b.ExecParams("LOCK TABLE "+w.table.name.String()+" IN ROW EXCLUSIVE MODE", nil, nil, nil, nil)
	}
	b.ExecParams(columnsNowQuery, [][]byte{[]byte(w.table.name.String())}, []uint32{oidText}, nil, nil)
	b.ExecParams(savepoint, nil, nil, nil, nil)
	results, err := w.session.pg.ExecBatch(ctx, b).ReadAll()
	if err != nil {
		var server *pgconn.PgError
		w.inboxMissing = w.usesInbox() && errors.As(err, &server) && server.Code == "42P01"
		if w.usesInbox() && errors.As(err, &server) && server.Code == "42501" {
			return false, w.inbox.NotAllowed(name, server.Message)
		}
		return false, err
	}
	w.clean = true
	if now := results[len(results)-2].Rows; len(now) != 1 || string(now[0][0]) != w.table.columnsNow {
		return false, fault.Of("E_SCHEMA_DRIFT").WithSource(name).
			WithCause("the columns of " + w.table.name.String() + " are being changed")
	}
	return !w.usesInbox() || results[2].CommandTag.RowsAffected() == 1, nil
}

// textParams declares three text parameters.
var textParams = []uint32{oidText, oidText, oidText}

func (w *work) inboxKey(result string) [][]byte {
	return [][]byte{[]byte(w.batch.Page), []byte(w.batch.Step), []byte(result)}
}

// earlier returns the answer of the transaction that applied the page.
func (w *work) earlier(ctx context.Context) (connectors.Answer, error) {
	found, err := w.session.query(ctx, w.inbox.Result(), w.batch.Page, w.batch.Step)
	if err != nil {
		return connectors.Answer{}, err
	}
	if err := w.session.exec(ctx, "ROLLBACK"); err != nil {
		return connectors.Answer{}, err
	}
	if len(found) == 0 {
		return connectors.Answer{}, fault.Of("E_INTERMITTENT").WithSource(name).
			WithCause("the page's inbox row was removed while it was looked at")
	}
	return sqldb.DecodeAnswer(string(found[0][0]))
}

// commit corrects the inbox row, which was written before any record could
// fail, and commits.
func (w *work) commit(ctx context.Context, first string, answer connectors.Answer) error {
	b := &pgconn.Batch{}
	last, err := sqldb.EncodeAnswer(answer)
	if err != nil {
		return err
	}
	if w.usesInbox() && last != first {
		b.ExecParams(w.inbox.Correct(), w.inboxKey(last), textParams, nil, nil)
	}
	b.ExecParams("COMMIT", nil, nil, nil, nil)
	results, err := w.session.pg.ExecBatch(ctx, b).ReadAll()
	if err != nil {
		return err
	}
	if tag := results[len(results)-1].CommandTag.String(); tag != "COMMIT" {
		return fault.Of("E_INTERNAL").WithSource(name).WithCause("the server answered " + tag + " to COMMIT")
	}
	return nil
}

// rollback ends the transaction after an error, also when ctx has ended.
func (w *work) rollback(ctx context.Context) {
	if w.session.pg.IsClosed() || w.session.pg.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if w.session.exec(ctx, "ROLLBACK") != nil {
		w.session.cut()
	}
}

// makeInbox makes the inbox table if the role may. Two that make it at once
// are both content.
func (w *work) makeInbox(ctx context.Context) error {
	err := w.session.exec(ctx, w.inbox.Script())
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return err
	}
	switch server.Code {
	case "23505", "42P07", "42710": // someone else made it in the meantime
		return nil
	case "42501", "3F000", "25006":
		return w.inbox.NotAllowed(name, server.Message)
	}
	return err
}
