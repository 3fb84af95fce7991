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

// applyChunk applies rows of one form so that a bad row fails alone.
func (w *work) applyChunk(ctx context.Context, c *chunk) error {
	var write func(lo, hi int) error
	if c.staged {
		stage, err := w.newStage(ctx, c)
		if err != nil {
			return err
		}
		write = func(lo, hi int) error { return w.writeStaged(ctx, stage, lo, hi) }
	} else {
		write = func(lo, hi int) error { return w.copyInto(ctx, w.table.name.String(), c, lo, hi) }
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

// copyInto copies rows [lo, hi) of the chunk into a table with the chunk's
// columns.
func (w *work) copyInto(ctx context.Context, table string, c *chunk, lo, hi int) error {
	names := make([]string, len(c.columns))
	for i, t := range c.columns {
		names[i] = t.column.name
	}
	return w.copyRows(ctx, table+" ("+sqldb.QuoteAll(names)+")", c.slice(lo, hi))
}

func (w *work) copyRows(ctx context.Context, into string, body []byte) error {
	stream := io.MultiReader(strings.NewReader(copyHead), bytes.NewReader(body), strings.NewReader(copyTail))
	_, err := w.session.pg.CopyFrom(ctx, stream, "COPY "+into+" FROM STDIN (FORMAT binary)")
	return err
}
