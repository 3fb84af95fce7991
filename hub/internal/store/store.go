package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
	"github.com/pressly/goose/v3"
)

//go:embed schema/*.sql
var schema embed.FS

// readerCount is the size of the pool of reading connections.
const readerCount = 4

// Store is the hub's database. All methods are safe for concurrent use. A write
// returns after its commit is on disk; what a reader sees was committed.
type Store struct {
	writes  *writer
	writeDB *sql.DB
	readDB  *sql.DB
	opt     options
	path    string

	mu    sync.Mutex
	reads map[string]*sql.Stmt

	closing sync.Once
	closed  error
}

// Open opens or creates the database named by rawURL, "sqlite:PATH", and brings
// its schema up to date. It refuses an engine that would not sync each commit.
func Open(ctx context.Context, rawURL string, opts ...Option) (*Store, error) {
	path, ok := strings.CutPrefix(rawURL, "sqlite:")
	if !ok || path == "" {
		return nil, fmt.Errorf("open store: %q is not of the form sqlite:PATH", redactURL(rawURL))
	}
	s := &Store{opt: defaults(), path: path, reads: map[string]*sql.Stmt{}}
	for _, o := range opts {
		o(&s.opt)
	}
	if err := s.open(ctx, path); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	if err := createPrivate(path); err != nil {
		return err
	}
	var err error
	if s.writeDB, err = sql.Open("sqlite3", s.dsn(path, false)); err != nil {
		return err
	}
	s.writeDB.SetMaxOpenConns(1)
	if err := migrate(ctx, s.writeDB); err != nil {
		return err
	}
	conn, err := s.writeDB.Conn(ctx)
	if err != nil {
		return err
	}
	s.writes = newWriter(conn, s.opt.sign)
	if err := s.assertDurable(ctx, conn); err != nil {
		return err
	}
	if s.readDB, err = sql.Open("sqlite3", s.dsn(path, true)); err != nil {
		return err
	}
	s.readDB.SetMaxOpenConns(readerCount)
	s.readDB.SetMaxIdleConns(readerCount)
	return s.readDB.PingContext(ctx)
}

// Close waits for running writes and closes the database. Closing it again does
// nothing.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = s.close() })
	return s.closed
}

func (s *Store) close() error {
	var errs []error
	if s.writes != nil {
		errs = append(errs, s.writes.close())
	}
	s.mu.Lock()
	for _, stmt := range s.reads {
		errs = append(errs, stmt.Close())
	}
	s.reads = map[string]*sql.Stmt{}
	s.mu.Unlock()
	if s.readDB != nil {
		errs = append(errs, s.readDB.Close())
	}
	if s.writeDB != nil {
		errs = append(errs, s.writeDB.Close())
	}
	return errors.Join(errs...)
}

// Health reports whether the database answers and takes writes.
func (s *Store) Health(ctx context.Context) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO meta (name, value) VALUES ('health', ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, time.Now().UTC().Format(time.RFC3339))
		return err
	})
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	return nil
}

// Backup writes a consistent copy of the database to path, which must not exist.
func (s *Store) Backup(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite3", s.dsn(s.path, false))
	if err == nil {
		_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
		err = errors.Join(err, db.Close())
	}
	if err == nil {
		err = syncPrivate(path)
	}
	if err != nil {
		return fmt.Errorf("back up store to %s: %w", path, err)
	}
	return nil
}

// dsn builds the driver's URI. Every setting is named here, none comes from rawURL.
func (s *Store) dsn(path string, readOnly bool) string {
	q := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {s.opt.synchronous},
		"_foreign_keys": {"on"},
		"_busy_timeout": {"10000"},
	}
	if readOnly {
		q.Set("_query_only", "on")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	return u.String()
}

// assertDurable reads back what the engine really does at a commit.
func (s *Store) assertDurable(ctx context.Context, conn *sql.Conn) error {
	var journal string
	var level int
	if err := conn.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&journal); err != nil {
		return fmt.Errorf("read journal mode: %w", err)
	}
	if err := conn.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&level); err != nil {
		return fmt.Errorf("read synchronous: %w", err)
	}
	want := map[string]int{"FULL": 2, "OFF": 0}[s.opt.synchronous]
	if journal != "wal" || level != want {
		return fmt.Errorf("the engine runs with journal_mode=%s synchronous=%d, want wal and %d",
			journal, level, want)
	}
	return nil
}

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(schema, "schema")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	return nil
}

// syncPrivate makes a written file durable and readable by its owner only.
func syncPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
}

// createPrivate makes the database file readable by its owner only; the engine
// gives its side files the same mode.
func createPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// redactURL keeps what may be shown of a URL: everything after the scheme could
// hold a password.
func redactURL(raw string) string {
	scheme, _, found := strings.Cut(raw, ":")
	if !found {
		return "…"
	}
	return scheme + ":…"
}

// options are the settings of a Store; each has an Option.
type options struct {
	log          *slog.Logger
	maxPages     int64         // outstanding per chain (DELIVERY §1.3)
	maxBytes     int64         // outstanding per chain
	tryWindow    time.Duration // between two tries of a paused job
	readStale    time.Duration // age of a published read that is offered again
	synchronous  string
	sign         AuditSigner
	receiptApart bool
	noClaims     bool
}

func defaults() options {
	return options{
		log:         slog.New(slog.DiscardHandler),
		maxPages:    64,
		maxBytes:    64 << 20,
		tryWindow:   15 * time.Second,
		readStale:   10 * time.Minute,
		synchronous: "FULL",
	}
}

// Option changes a setting of a Store.
type Option func(*options)

// WithLog sends state changes of the store to log.
func WithLog(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithAuditSigner signs the head of each tenant's audit log, and checks it.
func WithAuditSigner(sign AuditSigner) Option { return func(o *options) { o.sign = sign } }

// WithReadLimits sets how much of one chain may be published and not settled
// before its next read waits (default 64 pages, 64 MiB).
func WithReadLimits(pages int, bytes int64) Option {
	return func(o *options) { o.maxPages, o.maxBytes = int64(pages), bytes }
}

// WithReadStale sets after which age a published read request without receipt is
// offered again by PendingReads (default 10 min). Publishing it twice is harmless.
func WithReadStale(d time.Duration) Option { return func(o *options) { o.readStale = d } }

// WithTryWindow sets the time between two tries of a paused job (default 15 s).
func WithTryWindow(d time.Duration) Option { return func(o *options) { o.tryWindow = d } }

// MutationNoSync runs without syncing commits. For mutation tests only: it shows
// that the durability tests notice.
func MutationNoSync() Option { return func(o *options) { o.synchronous = "OFF" } }

// MutationReceiptApart writes a receipt in another transaction than what it
// counts. For mutation tests only: it shows that open sums are noticed.
func MutationReceiptApart() Option { return func(o *options) { o.receiptApart = true } }

// MutationNoClaims takes the answers of stale owners. For mutation tests only.
func MutationNoClaims() Option { return func(o *options) { o.noClaims = true } }
