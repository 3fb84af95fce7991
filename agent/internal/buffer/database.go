package buffer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"ropeway/protocol/fault"
)

// State is where a buffered page stands.
type State int

// The states of a page. A settled page is deleted.
const (
	Unacked State = 0 // only here: never given up
	Acked   State = 1 // the hub's queue has it
	Damaged State = 2 // its bytes are not what was put; set aside
)

// String is the state's word.
func (s State) String() string {
	switch s {
	case Unacked:
		return "unacked"
	case Acked:
		return "acked"
	case Damaged:
		return "damaged"
	}
	return "unknown"
}

// minSQLite is SQLite 3.51.3: before it a WAL reset could lose a commit.
const minSQLite = 3051003

// The database's page size trades system calls against the cost of a small
// commit; measured with 64 KiB pages.
const schema = `
CREATE TABLE IF NOT EXISTS pages (
	id      INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival, which is the order within a chain
	name    TEXT NOT NULL UNIQUE,
	seq     INTEGER NOT NULL,
	hash    BLOB NOT NULL,    -- page hash
	state   INTEGER NOT NULL,
	bytes   INTEGER NOT NULL, -- of the sealed page
	records INTEGER NOT NULL,
	at      INTEGER NOT NULL, -- µs UTC
	sum     INTEGER NOT NULL  -- CRC-32C of name and sealed page
);
CREATE INDEX IF NOT EXISTS unacked ON pages (id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS acked ON pages (id) WHERE state = 1;
CREATE TABLE IF NOT EXISTS bodies (
	id     INTEGER PRIMARY KEY,
	sealed BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
	listener BLOB NOT NULL,
	key      BLOB NOT NULL, -- SHA-256
	payload  BLOB NOT NULL, -- payload hash
	at       INTEGER NOT NULL,
	PRIMARY KEY (listener, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE TABLE IF NOT EXISTS executions (
	name  TEXT PRIMARY KEY,
	chain TEXT NOT NULL,
	epoch BLOB NOT NULL,
	at    INTEGER NOT NULL
) WITHOUT ROWID;
`

// database is one open file: a connection that writes and a few that read.
type database struct {
	writer  *sql.DB
	readers *sql.DB
	conn    *sql.Conn // of writer; used by the writing goroutine alone
	stmts   statements
	toClose []*sql.Stmt // all of stmts: database/sql leaves them to whoever holds the conn
}

type statements struct {
	begin, commit, rollback          *sql.Stmt
	insertPage, insertBody           *sql.Stmt
	hashOf, ack, remove, removeBody  *sql.Stmt
	setAside, oldestAcked, stateOf   *sql.Stmt
	insertEvent, eventOf, pruneEvent *sql.Stmt
}

func openDatabase(ctx context.Context, path, synchronous string) (*database, error) {
	if _, number, _ := sqlite3.Version(); number < minSQLite {
		return nil, fmt.Errorf("SQLite %d is older than %d", number, minSQLite)
	}
	d := &database{}
	var err error
	defer func() {
		if err != nil {
			_ = d.close()
		}
	}()
	d.writer, err = sql.Open("sqlite3", dsn(path, url.Values{"_synchronous": {synchronous}}))
	if err != nil {
		return nil, err
	}
	d.writer.SetMaxOpenConns(1)
	if d.conn, err = d.writer.Conn(ctx); err != nil {
		return nil, err
	}
	if err = d.setUp(ctx, synchronous); err != nil {
		return nil, err
	}
	if err = d.prepare(ctx); err != nil {
		return nil, err
	}
	d.readers, err = sql.Open("sqlite3", dsn(path, url.Values{"_query_only": {"1"}}))
	if err != nil {
		return nil, err
	}
	d.readers.SetMaxOpenConns(2)
	return d, nil
}

func dsn(path string, more url.Values) string {
	more.Set("_busy_timeout", "10000")
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: more.Encode()}
	return u.String()
}

// setUp makes the tables and asserts what durability rests on: the driver's own
// default is to lose the last commits at a power cut.
func (d *database) setUp(ctx context.Context, synchronous string) error {
	for _, pragma := range []string{
		"PRAGMA page_size = 16384", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = " + synchronous,
		"PRAGMA wal_autocheckpoint = 2000", "PRAGMA journal_size_limit = 67108864",
		"PRAGMA cell_size_check = ON", "PRAGMA trusted_schema = OFF",
	} {
		if _, err := d.conn.ExecContext(ctx, pragma); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(pragma), err)
		}
	}
	want := map[string]string{"FULL": "2", "NORMAL": "1"}[synchronous]
	for _, c := range [][2]string{{"journal_mode", "wal"}, {"synchronous", want}} {
		var got string
		if err := d.conn.QueryRowContext(ctx, "PRAGMA "+c[0]).Scan(&got); err != nil {
			return fmt.Errorf("read pragma %s: %w", c[0], err)
		}
		if got != c[1] {
			return fmt.Errorf("pragma %s is %q, not %q: the buffer would not survive a power cut", c[0], got, c[1])
		}
	}
	if _, err := d.conn.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	return nil
}

func (d *database) prepare(ctx context.Context) error {
	for to, text := range map[**sql.Stmt]string{
		&d.stmts.begin:    "BEGIN IMMEDIATE",
		&d.stmts.commit:   "COMMIT",
		&d.stmts.rollback: "ROLLBACK",
		&d.stmts.insertPage: `INSERT INTO pages (name, seq, hash, state, bytes, records, at, sum)
			VALUES (?, ?, ?, 0, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING`,
		&d.stmts.insertBody:  "INSERT INTO bodies (id, sealed) VALUES (?, ?)",
		&d.stmts.hashOf:      "SELECT hash, state FROM pages WHERE name = ?",
		&d.stmts.stateOf:     "SELECT id, state, bytes FROM pages WHERE name = ?",
		&d.stmts.ack:         "UPDATE pages SET state = 1 WHERE name = ? AND state = 0",
		&d.stmts.remove:      "DELETE FROM pages WHERE id = ?",
		&d.stmts.removeBody:  "DELETE FROM bodies WHERE id = ?",
		&d.stmts.setAside:    "UPDATE pages SET state = 2 WHERE id = ? AND state = ?",
		&d.stmts.oldestAcked: "SELECT id, bytes FROM pages WHERE state = 1 ORDER BY id LIMIT 16",
		&d.stmts.insertEvent: "INSERT INTO events (listener, key, payload, at) VALUES (?, ?, ?, ?)",
		&d.stmts.eventOf:     "SELECT payload FROM events WHERE listener = ? AND key = ? AND at > ?",
		&d.stmts.pruneEvent:  "DELETE FROM events WHERE at <= ?",
	} {
		s, err := d.conn.PrepareContext(ctx, text)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", text, err)
		}
		*to = s
		d.toClose = append(d.toClose, s)
	}
	return nil
}

// close closes everything; the last connection moves the write-ahead log into
// the file.
func (d *database) close() error {
	var errs []error
	for _, s := range d.toClose {
		errs = append(errs, s.Close())
	}
	if d.readers != nil {
		errs = append(errs, d.readers.Close())
	}
	if d.conn != nil {
		errs = append(errs, d.conn.Close())
	}
	if d.writer != nil {
		errs = append(errs, d.writer.Close())
	}
	return errors.Join(errs...)
}

func (d *database) count(ctx context.Context) (counts, error) {
	var n counts
	rows, err := d.readers.QueryContext(ctx, "SELECT state, count(*), sum(bytes) FROM pages GROUP BY state")
	if err != nil {
		return n, err
	}
	defer rows.Close()
	for rows.Next() {
		var state State
		var pages int
		var bytes int64
		if err := rows.Scan(&state, &pages, &bytes); err != nil {
			return n, err
		}
		n.add(state, pages, bytes)
	}
	return n, rows.Err()
}

// oldest is when the oldest page that is not damaged was put.
func oldest(ctx context.Context, readers *sql.DB) (time.Time, error) {
	var at sql.NullInt64
	err := readers.QueryRowContext(ctx, "SELECT at FROM pages WHERE state <> 2 ORDER BY id LIMIT 1").Scan(&at)
	if errors.Is(err, sql.ErrNoRows) || !at.Valid {
		return time.Time{}, nil
	}
	return time.UnixMicro(at.Int64).UTC(), err
}

// damaged reports whether SQLite says that its file is broken.
func damaged(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB ||
		e.ExtendedCode == sqlite3.ErrIoErrShortRead)
}

// diskTrouble reports whether the disk, not the database, refused.
func diskTrouble(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrFull || e.Code == sqlite3.ErrIoErr ||
		e.Code == sqlite3.ErrReadonly || e.Code == sqlite3.ErrCantOpen)
}

// explain turns an error of SQLite into what people can act on.
func explain(err error) error {
	var e sqlite3.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return err
	case e.Code == sqlite3.ErrFull:
		return fault.New(fault.Intermittent, "E_BUFFER_FULL", "the disk of the agent's buffer is full").
			WithCause(e.Error()).WithSource("agent").Wrap(err)
	case diskTrouble(err):
		return fault.New(fault.Intermittent, "E_DISK", "the disk of the agent's buffer does not work").
			WithCause(e.Error()).WithSource("agent").Wrap(err)
	}
	return fault.New(fault.Internal, "E_INTERNAL", "the agent's buffer does not work").
		WithCause(e.Error()).WithSource("agent").Wrap(err)
}
