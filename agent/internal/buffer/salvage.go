package buffer

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"ropeway/protocol/page"
)

// salvage is what happens when SQLite says that its file is broken: the file is
// set aside and every page that still proves itself, by its seal, is put into a
// new one. It runs on the writing goroutine, or before that has started.
func (b *Buffer) salvage(ctx context.Context, cause error) error {
	aside := b.path() + ".damaged-" + b.config.Clock().UTC().Format("20060102T150405.000000")
	b.config.Log.Error("buffer database is damaged", "error", cause, "set_aside", aside)
	old := b.database
	if old != nil {
		_ = old.close()
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Rename(b.path()+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set damaged buffer aside: %w", err)
		}
	}
	if _, err := prepareFile(b.path()); err != nil {
		return err
	}
	if err := b.connect(ctx); err != nil {
		return err
	}
	kept, lost, err := b.rescue(ctx, aside)
	b.config.Log.Error("buffer database made anew", "pages", kept, "unreadable_rows", lost, "error", err)
	return b.connectAgain(ctx)
}

// connectAgain counts what the rescue has written.
func (b *Buffer) connectAgain(ctx context.Context) error {
	n, err := b.database.count(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n.evicted = b.count.evicted
	b.count = n
	return nil
}

// rescue copies what can be read. A row is looked up by its own id, so that a
// broken part of the file only loses what lies in it.
func (b *Buffer) rescue(ctx context.Context, from string) (kept, lost int, err error) {
	if err := b.mend(ctx, from); err != nil {
		b.config.Log.Error("damaged buffer not mended", "error", err)
	}
	source, err := sql.Open("sqlite3", dsn(from, map[string][]string{}))
	if err != nil {
		return 0, 0, err
	}
	defer source.Close()
	source.SetMaxOpenConns(1)
	top := highest(ctx, source)
	for id := int64(1); id <= top; id++ {
		var sealed []byte
		err := source.QueryRowContext(ctx, "SELECT sealed FROM bodies WHERE id = ?", id).Scan(&sealed)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err == nil {
			err = b.keep(ctx, source, id, sealed)
		}
		if err != nil {
			b.config.Log.Error("buffered page is lost", "row", id, "error", err)
			lost++
			continue
		}
		kept++
	}
	return kept, lost, b.rescueExecutions(ctx, source)
}

// highest is the highest id that may be in use.
func highest(ctx context.Context, source *sql.DB) int64 {
	top := int64(0)
	for _, query := range []string{"SELECT max(id) FROM pages", "SELECT max(id) FROM bodies",
		"SELECT seq FROM sqlite_sequence WHERE name = 'pages'"} {
		var n sql.NullInt64
		if err := source.QueryRowContext(ctx, query).Scan(&n); err == nil {
			top = max(top, n.Int64)
		}
	}
	return top
}

// keep puts a rescued page into the new database. Its state is unacked when the
// old one cannot tell: sending it again is harmless.
func (b *Buffer) keep(ctx context.Context, source *sql.DB, id int64, sealed []byte) error {
	p, _, err := page.OpenPage(sealed, b.keys)
	if err != nil {
		return err
	}
	state, at := Unacked, b.config.Clock().UnixMicro()
	var s State
	var when int64
	row := source.QueryRowContext(ctx, "SELECT state, at FROM pages WHERE id = ?", id)
	if row.Scan(&s, &when) == nil && s != Damaged {
		state, at = s, when
	}
	name, hash := p.Header.Name(), p.Header.Hash()
	res, err := b.database.conn.ExecContext(ctx, `
		INSERT INTO pages (name, seq, hash, state, bytes, records, at, sum)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, name, int64(p.Header.Seq), hash[:], state, len(sealed),
		p.Header.Records, at, checksum(name, sealed))
	if err != nil {
		return err
	}
	fresh, err := res.LastInsertId()
	if err != nil {
		return err
	}
	_, err = b.database.conn.ExecContext(ctx, "INSERT INTO bodies (id, sealed) VALUES (?, ?)", fresh, sealed)
	return err
}

func (b *Buffer) rescueExecutions(ctx context.Context, source *sql.DB) error {
	rows, err := source.QueryContext(ctx, "SELECT name, chain, epoch, at FROM executions")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, chain string
		var epoch []byte
		var at int64
		if err := rows.Scan(&name, &chain, &epoch, &at); err != nil {
			return err
		}
		_, err := b.database.conn.ExecContext(ctx, insertExecution, name, chain, epoch, at)
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

const (
	blockSize = 16384 // SQLite's page size, see setUp
	magic     = "SQLite format 3\x00"
)

// mend makes a file readable whose first block is destroyed or whose end is cut
// off; without that SQLite would read nothing of it.
func (b *Buffer) mend(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < 2*blockSize {
		return err
	}
	head := make([]byte, 32)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	if string(head[:len(magic)]) != magic {
		return errors.Join(b.mendFirst(ctx, f, info.Size()), f.Sync())
	}
	size := int64(binary.BigEndian.Uint32(head[28:])) * blockSize
	if size > info.Size() && size < info.Size()+maxMissing {
		return errors.Join(f.Truncate(size), f.Sync()) // grows: the missing blocks are empty
	}
	return nil
}

// maxMissing bounds what a damaged header can make of a file.
const maxMissing = 64 << 30

// mendFirst writes the first block of a new database over a destroyed one: it
// holds the tables' definitions, which are the same in every buffer.
func (b *Buffer) mendFirst(ctx context.Context, f *os.File, size int64) error {
	if _, err := b.database.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	fresh, err := os.ReadFile(b.path())
	if err != nil || len(fresh) < blockSize {
		return err
	}
	first := fresh[:blockSize]
	binary.BigEndian.PutUint32(first[28:], uint32((size+blockSize-1)/blockSize)) // blocks
	binary.BigEndian.PutUint64(first[32:], 0)                                    // none of them free
	_, err = f.WriteAt(first, 0)
	return err
}
