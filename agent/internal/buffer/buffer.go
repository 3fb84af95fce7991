// Package buffer keeps pages on disk until the hub has settled them. It knows
// page names, chains and sealing; it does not know flows, tunnels or what a
// record means. Whoever puts a page returns after the disk has it.
package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Config says where a buffer lives and how much it may hold.
type Config struct {
	Dir   string           // state directory; holds buffer.db and buffer.key
	Quota int64            // bytes of sealed pages; 0 = 2 GiB or a tenth of the disk, whichever is smaller
	Clock func() time.Time // nil = time.Now
	Log   *slog.Logger     // nil = silent
}

const (
	databaseFile = "buffer.db"
	keyFile      = "buffer.key"
	defaultQuota = 2 << 30
)

// Option changes what only tests may change.
type Option func(*settings)

type settings struct {
	synchronous string
}

// MutationNoFull commits without waiting for the disk. It exists so that the
// power-cut test can be seen to fail; a buffer opened so loses pages.
func MutationNoFull() Option { return func(s *settings) { s.synchronous = "NORMAL" } }

// Buffer is one open buffer. Its methods may be called from any goroutine; one
// goroutine writes, and everybody who waits for it shares its commits.
type Buffer struct {
	config   Config
	settings settings
	key      *page.Key
	database *database

	ops    chan *op
	quit   chan struct{}
	done   chan struct{}
	finish sync.Once

	mu    sync.Mutex
	count counts // as committed
}

// Open opens the buffer of c.Dir, making it at the first time. A second process
// on the same directory is kept out by the agent's state lock, not by this.
// A damaged database is set aside and what can be read of it is kept.
func Open(ctx context.Context, c Config, options ...Option) (*Buffer, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	b := &Buffer{config: c, settings: settings{synchronous: "FULL"},
		ops: make(chan *op, 64), quit: make(chan struct{}), done: make(chan struct{})}
	for _, o := range options {
		o(&b.settings)
	}
	if b.config.Quota <= 0 {
		b.config.Quota = quotaOf(c.Dir)
	}
	if err := b.open(ctx); err != nil {
		return nil, fmt.Errorf("open buffer %s: %w", b.path(), err)
	}
	go b.write()
	return b, nil
}

func (b *Buffer) open(ctx context.Context) error {
	fresh, err := prepareFile(b.path())
	if err != nil {
		return err
	}
	if b.key, err = loadKey(filepath.Join(b.config.Dir, keyFile), fresh); err != nil {
		return err
	}
	err = b.connect(ctx)
	if damaged(err) {
		err = b.salvage(ctx, err)
	}
	return err
}

// connect opens the database and counts what is in it.
func (b *Buffer) connect(ctx context.Context) error {
	d, err := openDatabase(ctx, b.path(), b.settings.synchronous)
	if err != nil {
		return err
	}
	n, err := d.count(ctx)
	if err != nil {
		return errors.Join(err, d.close())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n.evicted = b.count.evicted
	b.database, b.count = d, n
	return nil
}

func (b *Buffer) path() string { return filepath.Join(b.config.Dir, databaseFile) }

// prepareFile makes an empty database file that only its owner may read, and
// reports whether it was not there before.
func prepareFile(path string) (fresh bool, err error) {
	info, err := os.Lstat(path)
	if err == nil {
		if !info.Mode().IsRegular() {
			return false, fmt.Errorf("%s is not a regular file", path)
		}
		return info.Size() == 0, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	return true, errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

// Close waits for the commit under way and closes the database. Calls after it
// fail; calling it again does nothing.
func (b *Buffer) Close() error {
	var err error
	b.finish.Do(func() {
		close(b.quit)
		<-b.done
		err = b.database.close()
	})
	return err
}

// errClosed answers calls after Close.
func errClosed() error {
	return fault.New(fault.Intermittent, "E_DRAINING", "the agent's buffer is closed").WithSource("agent")
}

// Stats is what people see of a buffer.
type Stats struct {
	Pages   int       `json:"pages"`
	Bytes   int64     `json:"bytes"` // of sealed pages
	Quota   int64     `json:"quota"`
	Oldest  time.Time `json:"oldest"` // when the oldest page was put; zero when there is none
	Unacked int       `json:"unacked"`
	Evicted uint64    `json:"evicted"` // acked pages given up to make room, since the start
	Damaged int       `json:"damaged"` // set aside, still on disk
}

// Stats tells what is buffered. Damaged pages are counted apart.
func (b *Buffer) Stats(ctx context.Context) (Stats, error) {
	b.mu.Lock()
	n := b.count
	b.mu.Unlock()
	s := Stats{Pages: n.pages, Bytes: n.bytes, Quota: b.config.Quota, Unacked: n.unacked,
		Evicted: n.evicted, Damaged: n.damaged}
	if n.pages == 0 {
		return s, nil
	}
	var err error
	s.Oldest, err = oldest(ctx, b.readers())
	return s, explain(err)
}
