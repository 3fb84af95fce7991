package buffer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"ropeway/protocol/page"
)

// Execution is what outlives the process of a read without a key: that it was
// running, and which pages are its own. Such a read cannot be repeated.
type Execution struct {
	Name  string // of the request
	Chain page.Chain
	Epoch page.Epoch
	Begun time.Time
}

const insertExecution = "INSERT OR REPLACE INTO executions (name, chain, epoch, at) VALUES (?, ?, ?, ?)"

// BeginExecution records that an execution runs and returns once it is on disk.
// Another one of this name is replaced.
func (b *Buffer) BeginExecution(ctx context.Context, e Execution) error {
	return b.commit(ctx, 0, func(t *tx) error {
		_, err := t.d.conn.ExecContext(context.Background(), insertExecution, e.Name, e.Chain.String(), e.Epoch[:], e.Begun.UnixMicro())
		if err != nil {
			return fmt.Errorf("record execution: %w", err)
		}
		return nil
	})
}

// Execution tells whether an execution of this name was begun and not ended.
func (b *Buffer) Execution(ctx context.Context, name string) (Execution, bool, error) {
	e := Execution{Name: name}
	var chain string
	var epoch []byte
	var at int64
	err := b.readers().QueryRowContext(ctx, "SELECT chain, epoch, at FROM executions WHERE name = ?", name).
		Scan(&chain, &epoch, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return e, false, nil
	}
	if err != nil {
		return e, false, explain(err)
	}
	job, step, ok := strings.Cut(chain, ".")
	if e.Chain.Job, err = page.ParseID(job); err != nil || !ok || len(epoch) != len(e.Epoch) {
		return e, false, fmt.Errorf("execution %s is recorded wrongly", name)
	}
	e.Chain.Step = step
	copy(e.Epoch[:], epoch)
	e.Begun = time.UnixMicro(at).UTC()
	return e, true, nil
}

// Executions lists the names of all executions that were begun and not ended.
func (b *Buffer) Executions(ctx context.Context) ([]string, error) {
	rows, err := b.readers().QueryContext(ctx, "SELECT name FROM executions ORDER BY at")
	if err != nil {
		return nil, explain(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, explain(err)
		}
		names = append(names, name)
	}
	return names, explain(rows.Err())
}

// EndExecution forgets an execution; its pages stay until they are settled.
func (b *Buffer) EndExecution(ctx context.Context, name string) error {
	return b.commit(ctx, 0, func(t *tx) error {
		_, err := t.d.conn.ExecContext(context.Background(), "DELETE FROM executions WHERE name = ?", name)
		if err != nil {
			return fmt.Errorf("forget execution: %w", err)
		}
		return nil
	})
}
