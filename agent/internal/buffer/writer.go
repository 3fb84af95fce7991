package buffer

import (
	"context"
	"fmt"
)

// counts is what the buffer holds.
type counts struct {
	pages        int // unacked and acked
	bytes        int64
	unacked      int
	unackedBytes int64
	damaged      int
	evicted      uint64 // since the start
}

func (n *counts) add(s State, pages int, bytes int64) {
	switch s {
	case Damaged:
		n.damaged += pages
		return
	case Unacked:
		n.unacked += pages
		n.unackedBytes += bytes
	}
	n.pages += pages
	n.bytes += bytes
}

// op is one change that waits for its commit.
type op struct {
	do   func(*tx) error
	size int
	done chan error
}

// refusal is an error of one op that leaves the others of its commit alone. An
// op refuses before it writes.
type refusal struct{ err error }

func (r refusal) Error() string { return r.err.Error() }
func (r refusal) Unwrap() error { return r.err }

// tx is what an op works with. It is used by the writing goroutine alone.
type tx struct {
	b     *Buffer
	d     *database
	count counts
}

const (
	maxBatch      = 256
	maxBatchBytes = 16 << 20
)

// commit runs do in the next commit and returns after it. When ctx ends first
// the change may still happen; every op may be repeated.
func (b *Buffer) commit(ctx context.Context, size int, do func(*tx) error) error {
	o := &op{do: do, size: size, done: make(chan error, 1)}
	select {
	case b.ops <- o:
	case <-b.quit:
		return errClosed()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-b.done:
		select {
		case err := <-o.done:
			return err
		default:
			return errClosed()
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the writing goroutine: it takes what waits, commits it at once and
// tells everybody.
func (b *Buffer) write() {
	defer close(b.done)
	for {
		var batch []*op
		select {
		case <-b.quit:
			return
		case o := <-b.ops:
			batch = b.gather(o)
		}
		b.commitBatch(batch)
	}
}

func (b *Buffer) gather(first *op) []*op {
	batch, bytes := []*op{first}, first.size
	for len(batch) < maxBatch && bytes < maxBatchBytes {
		select {
		case o := <-b.ops:
			batch, bytes = append(batch, o), bytes+o.size
		default:
			return batch
		}
	}
	return batch
}

func (b *Buffer) commitBatch(batch []*op) {
	answers := make([]error, len(batch))
	err := b.try(batch, answers)
	if damaged(err) {
		if err = b.salvage(context.Background(), err); err == nil {
			err = b.try(batch, answers)
		}
	}
	if err != nil {
		b.config.Log.Error("buffer commit failed", "ops", len(batch), "error", err)
		b.reopen()
	}
	for i, o := range batch {
		if err != nil {
			answers[i] = explain(err)
		}
		o.done <- answers[i]
	}
}

// try applies a batch in one transaction. A refused op only spoils itself; any
// other error spoils all, and nothing of the batch is kept.
func (b *Buffer) try(batch []*op, answers []error) (err error) {
	b.mu.Lock()
	t := &tx{b: b, d: b.database, count: b.count}
	b.mu.Unlock()
	if _, err := t.d.stmts.begin.Exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for i, o := range batch {
		err := o.do(t)
		if r, ok := err.(refusal); ok {
			answers[i] = r.err
			continue
		}
		if err != nil {
			_, _ = t.d.stmts.rollback.Exec()
			return err
		}
		answers[i] = nil
	}
	if _, err := t.d.stmts.commit.Exec(); err != nil {
		_, _ = t.d.stmts.rollback.Exec()
		return fmt.Errorf("commit: %w", err)
	}
	b.mu.Lock()
	b.count = t.count
	b.mu.Unlock()
	return nil
}

// reopen starts with a fresh connection after a commit failed: what the system
// thinks is written can no longer be trusted. It fails while the disk does, and
// the next failing commit tries again.
func (b *Buffer) reopen() {
	old := b.database
	_, err := prepareFile(b.path())
	if err == nil {
		err = b.connect(context.Background())
	}
	if err != nil {
		b.config.Log.Error("buffer not opened again", "error", err)
		return
	}
	_ = old.close()
}
