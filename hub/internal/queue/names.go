package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// mtimeGrain is more than the grain of a directory's modification time: a change
// younger than this may be followed by another one with the same time.
const mtimeGrain = 50 * time.Millisecond

// names makes the names of the engine's files durable. The engine syncs what it
// writes into a file but not the directory that names a new one; many file
// systems do that along, POSIX does not ask them to.
type names struct {
	root string // folder of the engine
	off  bool   // mutation run without syncs

	mu   sync.Mutex
	dirs map[string]*blockDir
}

// blockDir is the folder of a stream's message blocks.
type blockDir struct {
	mu     sync.Mutex
	synced time.Time // modification time that a sync has covered for sure
}

func newNames(c Config) *names {
	return &names{root: engineDir(c), off: !c.SyncAlways, dirs: map[string]*blockDir{}}
}

func engineDir(c Config) string { return filepath.Join(c.Dir, "engine") }

func (n *names) streamDir(stream string) string {
	return filepath.Join(n.root, "jetstream", "$G", "streams", stream)
}

// tree syncs the directories of a stream and those above it, after it was made.
func (n *names) tree(stream string) error {
	if n.off {
		return nil
	}
	dir := n.streamDir(stream)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // of a consumer that has just gone
		case err != nil:
			return err
		case d.IsDir():
			return syncDir(path)
		}
		return nil
	})
	for up := filepath.Dir(n.root); err == nil && dir != filepath.Dir(up); {
		dir = filepath.Dir(dir)
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("sync folders of stream %s: %w", stream, err)
	}
	return nil
}

// blocks syncs the folder of a stream's blocks if a name in it may have changed
// since the last time. It costs one stat when nothing did.
func (n *names) blocks(stream string) error {
	if n.off {
		return nil
	}
	path := filepath.Join(n.streamDir(stream), "msgs")
	n.mu.Lock()
	d := n.dirs[path]
	if d == nil {
		d = &blockDir{}
		n.dirs[path] = d
	}
	n.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("sync blocks of stream %s: %w", stream, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if info.ModTime().Equal(d.synced) {
		return nil
	}
	start := time.Now()
	if err := syncDir(path); err != nil {
		return fmt.Errorf("sync blocks of stream %s: %w", stream, err)
	}
	if start.Sub(info.ModTime()) > mtimeGrain {
		d.synced = info.ModTime()
	}
	return nil
}

// syncNames does for the engine's own writes (schedules that fire) what Publish
// does for its own.
func (q *Queue) syncNames() {
	for sleep(q.closing, time.Second) {
		for _, p := range q.known.all() {
			err := q.engine.names.blocks(p.stream())
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				q.log.Warn("queue files", "error", err)
			}
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
