package sqlite

import (
	"context"
	"errors"
	"strings"

	"github.com/mattn/go-sqlite3"

	"ropeway/protocol/fault"
)

// toFault makes a fault of any error of the driver (DELIVERY §8).
func toFault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	if cause := context.Cause(ctx); cause != nil {
		switch {
		case errors.As(cause, &f):
			return f
		case errors.Is(cause, context.DeadlineExceeded):
			return fault.Of("E_TIMEOUT").WithSource(name).Wrap(cause)
		}
		return fault.Of("E_CANCELLED").WithSource(name).Wrap(cause)
	}
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return fault.Of("E_INTERNAL").WithSource(name).WithCause(err)
	}
	f = fault.Of(codeOf(e)).WithSource(name).WithCause(e.Error()).Wrap(err)
	if e.Code == sqlite3.ErrConstraint {
		f = f.WithField(fieldOf(e.Error()))
	}
	switch e.ExtendedCode {
	case sqlite3.ErrConstraintForeignKey:
		f = f.WithSentence("a row that the record refers to is not there")
	case sqlite3.ErrConstraintNotNull:
		f = f.WithSentence("a value that the target demands is null")
	}
	return f
}

// codes maps what SQLite reports; constraints are told apart by their extended
// code.
var codes = map[sqlite3.ErrNo]string{
	sqlite3.ErrPerm:     "E_PERMISSION",
	sqlite3.ErrReadonly: "E_PERMISSION",
	sqlite3.ErrAuth:     "E_PERMISSION",
	sqlite3.ErrBusy:     "E_INTERMITTENT",
	sqlite3.ErrLocked:   "E_INTERMITTENT",
	sqlite3.ErrNomem:    "E_INTERMITTENT",
	sqlite3.ErrProtocol: "E_INTERMITTENT",
	sqlite3.ErrIoErr:    "E_DISK",
	sqlite3.ErrFull:     "E_DISK",
	sqlite3.ErrCantOpen: "E_UNREACHABLE",
	sqlite3.ErrNotADB:   "E_UNREACHABLE",
	sqlite3.ErrCorrupt:  "E_INTERNAL",
	sqlite3.ErrTooBig:   "E_TOO_LARGE",
	sqlite3.ErrMismatch: "E_VALUE",
	sqlite3.ErrRange:    "E_QUERY",
	sqlite3.ErrSchema:   "E_SCHEMA_DRIFT",
}

func codeOf(e sqlite3.Error) string {
	switch e.Code {
	case sqlite3.ErrConstraint:
		return constraintCode(e.ExtendedCode)
	case sqlite3.ErrError:
		return statementCode(e.Error())
	}
	if code, ok := codes[e.Code]; ok {
		return code
	}
	return "E_INTERNAL"
}

func constraintCode(extended sqlite3.ErrNoExtended) string {
	switch extended {
	case sqlite3.ErrConstraintUnique, sqlite3.ErrConstraintPrimaryKey, sqlite3.ErrConstraintRowID:
		return "E_DUPLICATE"
	case sqlite3.ErrConstraintNotNull, sqlite3.ErrConstraintForeignKey:
		return "E_MISSING"
	}
	return "E_VALUE" // CHECK, a trigger's RAISE, the type of a STRICT table
}

// statementCode reads the text: SQLite has one code for all of these.
func statementCode(text string) string {
	switch {
	case strings.Contains(text, "no such table"):
		return "E_TABLE_MISSING"
	case strings.Contains(text, "no such column"), strings.Contains(text, "has no column named"):
		return "E_COLUMN_MISSING"
	case strings.Contains(text, "ON CONFLICT clause does not match"):
		return "E_SCHEMA_DRIFT"
	}
	return "E_QUERY"
}

// fieldOf finds the column in "NOT NULL constraint failed: t.c", and the first
// of several.
func fieldOf(text string) string {
	_, after, found := strings.Cut(text, "constraint failed: ")
	if !found {
		return ""
	}
	first, _, _ := strings.Cut(after, ",")
	if _, column, found := strings.Cut(first, "."); found {
		return column
	}
	return first
}
