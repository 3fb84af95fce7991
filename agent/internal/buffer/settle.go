package buffer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// MarkAcked records that the hub's queue has these pages. They stay until they
// are settled, but may be given up when the buffer is full. Names that are not
// here are skipped.
func (b *Buffer) MarkAcked(ctx context.Context, names ...string) error {
	return b.commit(ctx, 0, func(t *tx) error {
		for _, name := range names {
			id, state, bytes, err := t.find(name)
			if errors.Is(err, sql.ErrNoRows) || err == nil && state != Unacked {
				continue
			}
			if err != nil {
				return fmt.Errorf("look for page: %w", err)
			}
			if _, err := t.d.stmts.ack.Exec(name); err != nil {
				return fmt.Errorf("mark page %d acked: %w", id, err)
			}
			t.count.add(Unacked, -1, -bytes)
			t.count.add(Acked, 1, bytes)
		}
		return nil
	})
}

func (t *tx) find(name string) (id int64, s State, bytes int64, err error) {
	err = t.d.stmts.stateOf.QueryRow(name).Scan(&id, &s, &bytes)
	return id, s, bytes, err
}

// Settled deletes the pages of an execution whose seq is below lowest, the
// lowest seq that the hub has not settled.
func (b *Buffer) Settled(ctx context.Context, chain page.Chain, epoch page.Epoch, lowest uint64) error {
	from, to := span(chain, epoch)
	_, err := b.delete(ctx, "name >= ? AND name < ? AND seq < ? AND state <> 2", from, to, int64(lowest))
	return err
}

// span is the range of names of one execution's pages.
func span(chain page.Chain, epoch page.Epoch) (from, to string) {
	name := page.ChainedName(chain, epoch, 0)
	prefix := name[:len(name)-1] // without the seq 0
	return prefix, prefix[:len(prefix)-1] + ";"
}

// Selection says what to purge. Exactly one field is set.
type Selection struct {
	All       bool
	Names     []string
	Damaged   bool
	Execution *Execution // every page of it
}

// Purge deletes pages whatever their state, and says how many. It is how data is
// given up on purpose.
func (b *Buffer) Purge(ctx context.Context, s Selection) (int, error) {
	switch {
	case s.All:
		return b.delete(ctx, "1 = 1")
	case s.Damaged:
		return b.delete(ctx, "state = 2")
	case s.Execution != nil:
		from, to := span(s.Execution.Chain, s.Execution.Epoch)
		return b.delete(ctx, "name >= ? AND name < ?", from, to)
	}
	removed := 0
	for _, name := range s.Names {
		n, err := b.delete(ctx, "name = ?", name)
		if err != nil {
			return removed, err
		}
		if n == 0 {
			return removed, fault.Of("E_NOT_FOUND").WithSource("agent").WithCause("no page " + name + " is buffered")
		}
		removed += n
	}
	return removed, nil
}

// delete removes the pages that match a condition of this package's own making.
func (b *Buffer) delete(ctx context.Context, where string, args ...any) (int, error) {
	removed := 0
	err := b.commit(ctx, 0, func(t *tx) error {
		list, err := t.matching(where, args)
		if err != nil {
			return fmt.Errorf("look for pages: %w", err)
		}
		for _, m := range list {
			if err := t.delete(m.id, m.state, m.bytes); err != nil {
				return err
			}
		}
		removed = len(list)
		return nil
	})
	return removed, err
}

type match struct {
	id, bytes int64
	state     State
}

func (t *tx) matching(where string, args []any) ([]match, error) {
	rows, err := t.d.conn.QueryContext(context.Background(),
		"SELECT id, bytes, state FROM pages WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []match
	for rows.Next() {
		var m match
		if err := rows.Scan(&m.id, &m.bytes, &m.state); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}
