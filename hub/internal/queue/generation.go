package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// generations hands out the first half of claims: a number for each consumer
// ever made here, in unix nanoseconds where the clock allows it, and always
// greater than all before. Claims are compared over years, so a clock that was
// set back must not make the claims of a new consumer look stale.
type generations struct {
	path string

	mu       sync.Mutex
	last     int64
	reserved int64 // durable: everything handed out is at most this
}

// reserve is how far ahead the file is written, so that a start with many
// connections costs one write.
const reserve = 10 * time.Second

func openGenerations(path string) (*generations, error) {
	g := &generations{path: path}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read generation: %w", err)
	case len(b) == 8:
		g.reserved = int64(binary.BigEndian.Uint64(b))
		g.last = g.reserved
	}
	return g, nil
}

// atLeast makes the next generation greater than n, for consumers that are
// found although the file was lost.
func (g *generations) atLeast(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = max(g.last, n)
}

func (g *generations) next() (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := max(time.Now().UnixNano(), g.last+1)
	if n > g.reserved {
		if err := g.write(n + int64(reserve)); err != nil {
			return 0, fmt.Errorf("write generation: %w", err)
		}
		g.reserved = n + int64(reserve)
	}
	g.last = n
	return n, nil
}

func (g *generations) write(n int64) error {
	tmp := g.path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, g.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(g.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
