package store

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"ropeway/protocol/page"
)

// byState lists state by state and merges the pieces, newest first: each piece
// is read in the order of an index, however few rows of a long history are in
// one of the states. Without states there is one piece.
func byState[S ~string, T any](
	states []S, limit int, list func([]S) ([]T, error), at func(T) (time.Time, page.ID),
) ([]T, error) {
	if len(states) < 2 {
		return list(states)
	}
	var all []T
	for _, st := range states {
		piece, err := list([]S{st})
		if err != nil {
			return nil, err
		}
		all = append(all, piece...)
	}
	slices.SortFunc(all, func(a, b T) int {
		atA, idA := at(a)
		atB, idB := at(b)
		return cmp.Or(atB.Compare(atA), bytes.Compare(idB[:], idA[:]))
	})
	return all[:min(len(all), limit)], nil
}

// where collects the conditions of a list. Texts are constants; values are bound.
type where struct {
	parts []string
	args  []any
}

func inScope(scope Scope) *where {
	w := &where{}
	w.and(`tenant = ?`, scope.Tenant.String())
	w.and(`environment = ?`, scope.Environment.String())
	return w
}

func (w *where) and(part string, args ...any) {
	w.parts = append(w.parts, part)
	w.args = append(w.args, args...)
}

func (w *where) text() string { return ` WHERE ` + strings.Join(w.parts, ` AND `) }

// whereIn adds a list of values; an empty list does not restrict.
func whereIn[T ~string](w *where, column string, values []T) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	w.and(column+` IN (?`+strings.Repeat(`, ?`, len(values)-1)+`)`, args...)
}

// before continues a list that is ordered by created and id, newest first.
func (w *where) before(cursor string) error {
	if cursor == "" {
		return nil
	}
	at, id, err := parseCursor(cursor)
	if err != nil {
		return err
	}
	w.and(`created <= ?`, at)
	w.and(`(created < ? OR id < ?)`, at, id.String())
	return nil
}

func cursorAt(created time.Time, id page.ID) string {
	return fmt.Sprintf("%d-%s", micros(created), id)
}

func parseCursor(cursor string) (int64, page.ID, error) {
	stamp, text, _ := strings.Cut(cursor, "-")
	var at int64
	if _, err := fmt.Sscanf(stamp, "%d", &at); err != nil {
		return 0, page.ID{}, invalid("the cursor is not one of this list")
	}
	id, err := page.ParseID(text)
	if err != nil {
		return 0, page.ID{}, invalid("the cursor is not one of this list")
	}
	return at, id, nil
}
