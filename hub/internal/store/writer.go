package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// maxGroup bounds the closures that share one commit.
const maxGroup = 256

// errClosed is returned to writers of a closed store.
var errClosed = errors.New("the store is closed")

// task is one closure waiting for its transaction.
type task struct {
	run   func(*tx) error
	err   error
	done  chan struct{}
	taken atomic.Bool // by the writer, or by a caller who gave up
}

// writer is the only one who writes. It commits waiting closures together, each
// inside its own savepoint: one that fails undoes itself alone.
type writer struct {
	tx      *tx
	tasks   chan *task
	quit    chan struct{}
	stopped chan struct{}
	once    sync.Once
}

func newWriter(conn *sql.Conn, sign AuditSigner) *writer {
	w := &writer{
		tx:      &tx{conn: conn, stmts: map[string]*sql.Stmt{}, sign: sign},
		tasks:   make(chan *task, maxGroup),
		quit:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go w.loop()
	return w
}

// write runs fn in a transaction and returns once it is committed, or undone.
// When ctx ends first, fn has not run and never will. fn must not use ctx's
// connection in any other way than through its tx.
func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	t := &task{run: fn, done: make(chan struct{})}
	select {
	case s.writes.tasks <- t:
	case <-s.writes.quit:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		if t.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
	case <-s.writes.stopped:
		if t.taken.CompareAndSwap(false, true) {
			return errClosed
		}
	}
	<-t.done
	return t.err
}

func (w *writer) loop() {
	defer close(w.stopped)
	for {
		select {
		case first := <-w.tasks:
			w.commit(w.group(first))
		case <-w.quit:
			return
		}
	}
}

// group collects what waits right now; it does not wait for more, because the
// time of the commit before is what lets a group gather.
func (w *writer) group(first *task) []*task {
	group := make([]*task, 0, 16)
	for t := first; ; {
		if t.taken.CompareAndSwap(false, true) {
			group = append(group, t)
		}
		if len(group) == maxGroup {
			return group
		}
		select {
		case t = <-w.tasks:
		default:
			return group
		}
	}
}

func (w *writer) commit(group []*task) {
	if len(group) == 0 {
		return
	}
	if err := w.attempt(group); err != nil {
		w.tx.exec(`ROLLBACK`) // the engine may have done it already
		for _, t := range group {
			t.err = err
		}
	}
	for _, t := range group {
		close(t.done)
	}
}

// attempt runs the group in one transaction. An error means that nothing of the
// group was committed; a closure's own error is kept in its task.
func (w *writer) attempt(group []*task) error {
	if _, err := w.tx.exec(`BEGIN IMMEDIATE`); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	for _, t := range group {
		if err := w.runOne(t); err != nil {
			return err
		}
	}
	if _, err := w.tx.exec(`COMMIT`); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

func (w *writer) runOne(t *task) error {
	if _, err := w.tx.exec(`SAVEPOINT one`); err != nil {
		return fmt.Errorf("open savepoint: %w", err)
	}
	if t.err = runSafely(t.run, w.tx); t.err != nil {
		if _, err := w.tx.exec(`ROLLBACK TO one`); err != nil {
			return fmt.Errorf("undo after %w: %w", t.err, err)
		}
	}
	if _, err := w.tx.exec(`RELEASE one`); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

// runSafely turns a panic of a closure into its error, so that the others of its
// group are not lost with it.
func runSafely(run func(*tx) error, t *tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write panicked: %v", r)
		}
	}()
	return run(t)
}

// close waits for the running group. Writers still waiting get errClosed.
func (w *writer) close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.stopped
	return w.tx.close()
}

// tx runs statements on the writing connection, each prepared once. Arguments
// are always bound.
type tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	sign  AuditSigner // nil = heads of the audit log are not signed
}

func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if stmt, ok := t.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := t.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	t.stmts[query] = stmt
	return stmt, nil
}

// exec returns the number of rows changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	stmt, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	res, err := stmt.Exec(args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row runs a query of at most one row and scans it; found is false without one.
func (t *tx) row(query string, args []any, dest ...any) (found bool, err error) {
	stmt, err := t.prepare(query)
	if err != nil {
		return false, err
	}
	return scanned(stmt.QueryRow(args...).Scan(dest...))
}

func (t *tx) query(query string, args ...any) (*sql.Rows, error) {
	stmt, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.Query(args...)
}

func (t *tx) close() error {
	var errs []error
	for _, stmt := range t.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, t.conn.Close())...)
}
