package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// querier is what the writer's transaction and the readers have in common, so
// that one query serves both.
type querier interface {
	row(query string, args []any, dest ...any) (found bool, err error)
	query(query string, args ...any) (*sql.Rows, error)
}

// reader runs queries on the pool of readers within one context.
type reader struct {
	s   *Store
	ctx context.Context
}

func (s *Store) read(ctx context.Context) reader { return reader{s, ctx} }

func (r reader) row(query string, args []any, dest ...any) (bool, error) {
	stmt, err := r.s.readStmt(r.ctx, query)
	if err != nil {
		return false, err
	}
	return scanned(stmt.QueryRowContext(r.ctx, args...).Scan(dest...))
}

func (r reader) query(query string, args ...any) (*sql.Rows, error) {
	stmt, err := r.s.readStmt(r.ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(r.ctx, args...)
}

// snapshot reads several statements as of one moment.
type snapshot struct {
	reader
	tx *sql.Tx
}

// readSnapshot runs fn on one moment of the database.
func (s *Store) readSnapshot(ctx context.Context, fn func(q querier) error) error {
	tx, err := s.readDB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing was written
	return fn(snapshot{s.read(ctx), tx})
}

func (q snapshot) row(query string, args []any, dest ...any) (bool, error) {
	return scanned(q.tx.QueryRowContext(q.ctx, query, args...).Scan(dest...))
}

func (q snapshot) query(query string, args ...any) (*sql.Rows, error) {
	return q.tx.QueryContext(q.ctx, query, args...)
}

// readStmt keeps one prepared statement per query text. Texts are few: values
// are bound, and optional conditions come from a short fixed list.
func (s *Store) readStmt(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt, ok := s.reads[query]; ok {
		return stmt, nil
	}
	stmt, err := s.readDB.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.reads[query] = stmt
	return stmt, nil
}

func scanned(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// rowScanner is the current row of a result.
type rowScanner interface{ Scan(dest ...any) error }

// each calls scan for every row and closes them.
func each(rows *sql.Rows, err error, scan func(rowScanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// micros is how times are kept: microseconds UTC, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func microsOf(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return micros(*t)
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func timePtr(us int64) *time.Time {
	if us == 0 {
		return nil
	}
	t := timeOf(us)
	return &t
}

// idText is how optional ids are kept: empty for none.
func idText(id page.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// idScan scans an id column; empty is the zero id.
type idScan struct{ to *page.ID }

// Scan implements sql.Scanner.
func (s idScan) Scan(v any) error {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("id column holds %T", v)
	}
	if text == "" {
		*s.to = page.ID{}
		return nil
	}
	id, err := page.ParseID(text)
	*s.to = id
	return err
}

// bytesScan scans a column of a fixed number of bytes; empty is all zero.
type bytesScan struct{ to []byte }

// Scan implements sql.Scanner.
func (s bytesScan) Scan(v any) error {
	b, ok := v.([]byte)
	if text, isText := v.(string); isText {
		b, ok = []byte(text), true
	}
	if v != nil && !ok {
		return fmt.Errorf("bytes column holds %T", v)
	}
	if len(b) == 0 {
		clear(s.to)
		return nil
	}
	if len(b) != len(s.to) {
		return fmt.Errorf("bytes column holds %d bytes, want %d", len(b), len(s.to))
	}
	copy(s.to, b)
	return nil
}

// blob keeps absent bytes apart from a NULL, which no column allows.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// nilIfEmpty gives absent bytes back as nil.
func nilIfEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func faultText(f *fault.Error) (string, error) {
	if f == nil {
		return "", nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encode fault %s: %w", f.Code, err)
	}
	return string(b), nil
}

func faultOf(text string) (*fault.Error, error) {
	if text == "" {
		return nil, nil
	}
	f := new(fault.Error)
	if err := json.Unmarshal([]byte(text), f); err != nil {
		return nil, fmt.Errorf("decode fault: %w", err)
	}
	return f, nil
}
