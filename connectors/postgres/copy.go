package postgres

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// stream copies the first chunk while it is still being encoded. It returns the
// chunk, or nil when the rows must be applied once they are complete: because
// they cannot be streamed, or because one of them is bad.
func (w *work) stream(ctx context.Context) (*chunk, error) {
	c, ok := <-w.building.first
	if !ok {
		return nil, nil
	}
	err := w.copyFrom(ctx, w.intoTable(c), &liveReader{live: c.live})
	w.clean = false
	if err == nil {
		return c, nil
	}
	err = toFault(ctx, err, working)
	if w.session.pg.IsClosed() || !sqldb.Divisible(err) && !c.live.broken() {
		return nil, err
	}
	if err := w.session.exec(ctx, "ROLLBACK TO "+savepoint); err != nil {
		return nil, err
	}
	w.clean = true
	return nil, nil
}

// applyChunk applies rows of one form so that a bad row fails alone.
func (w *work) applyChunk(ctx context.Context, c *chunk) error {
	if c.rows() == 0 {
		return nil
	}
	var write func(lo, hi int) error
	if c.staged {
		stage, err := w.newStage(ctx, c)
		if err != nil {
			return err
		}
		write = func(lo, hi int) error { return w.writeStaged(ctx, stage, lo, hi) }
	} else {
		into := w.intoTable(c)
		write = func(lo, hi int) error { return w.copyRows(ctx, into, c.slice(lo, hi)) }
	}
	bisection := sqldb.Bisection{
		Attempt: func(lo, hi int) error { return w.attempt(ctx, func() error { return write(lo, hi) }) },
		Failed:  func(row int, f *fault.Error) error { return w.rowFailed(ctx, c, row, f) },
	}
	return bisection.Run(c.rows())
}

// attempt runs f inside a savepoint: after an error that may be a single row's
// the transaction is as before.
func (w *work) attempt(ctx context.Context, f func() error) error {
	if !w.clean { // one savepoint at a time, however many attempts
		if err := w.session.exec(ctx, "RELEASE "+savepoint+"; "+savepoint); err != nil {
			return err
		}
	}
	w.clean = false
	err := f()
	if err == nil {
		return nil
	}
	err = toFault(ctx, err, working)
	if !sqldb.Divisible(err) || w.session.pg.IsClosed() {
		return err
	}
	if err := w.session.exec(ctx, "ROLLBACK TO "+savepoint); err != nil {
		return err
	}
	w.clean = true
	return err
}

// rowFailed notes the fault of one row, after one more try without the field
// that the server named if the spec allows it.
func (w *work) rowFailed(ctx context.Context, c *chunk, row int, f *fault.Error) error {
	failure := connectors.Failure{Index: c.records[row], Fault: f}
	column := slices.IndexFunc(c.columns, func(t output) bool { return t.column.name == f.Field })
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
	w.clean, w.stages = again.clean, again.stages
	if len(again.failed) > before {
		w.failed = append(w.failed, failure)
		return nil
	}
	w.degraded = append(w.degraded, failure)
	return nil
}

// The binary form of COPY: signature, flags and extension length before the
// rows, -1 after them.
const (
	copyHead = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	copyTail = "\xff\xff"
)

// intoTable names the target and the chunk's columns.
func (w *work) intoTable(c *chunk) string {
	names := make([]string, len(c.columns))
	for i, t := range c.columns {
		names[i] = t.column.name
	}
	return w.table.name.String() + " (" + sqldb.QuoteAll(names) + ")"
}

// copyRows copies encoded rows into a table, all or none.
func (w *work) copyRows(ctx context.Context, into string, body []byte) error {
	return w.copyFrom(ctx, into, bytes.NewReader(body))
}

func (w *work) copyFrom(ctx context.Context, into string, rows io.Reader) error {
	stream := io.MultiReader(strings.NewReader(copyHead), rows, strings.NewReader(copyTail))
	_, err := w.session.pg.CopyFrom(ctx, stream, "COPY "+into+" FROM STDIN (FORMAT binary)")
	return err
}
