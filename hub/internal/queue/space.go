package queue

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ropeway/protocol/fault"
)

// DefaultMinFree is the free space in bytes that the queue leaves untouched. It
// covers what publishes under way may still write.
const DefaultMinFree = 512 << 20

// spaceEvery is how often the free space is read.
const spaceEvery = 250 * time.Millisecond

// space refuses new pages before the disk is full: after ENOSPC the engine would
// never acknowledge again (measured), and acks need room too.
type space struct {
	dir string
	min int64

	mu   sync.Mutex
	read time.Time
	err  error
}

func newSpace(c Config) *space {
	s := &space{dir: c.Dir, min: c.MinFree}
	if s.min == 0 {
		s.min = DefaultMinFree
	}
	return s
}

// check returns E_DISK while there is too little space.
func (s *space) check() error {
	if s.min < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < spaceEvery {
		return s.err
	}
	s.read = time.Now()
	s.err = s.measure()
	return s.err
}

func (s *space) measure() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("read free space of %s: %w", s.dir, err)
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	if free >= s.min {
		return nil
	}
	return fault.Of("E_DISK").WithSentence("the disk of the hub is almost full").
		WithCause(fmt.Sprintf("%d MiB are free, %d MiB must stay free", free>>20, s.min>>20)).
		WithFix("make space or enlarge the disk; intake goes on by itself").
		WithSource("hub").WithRetryAfter(5 * time.Second)
}

// Space says why the queue takes no new pages at the moment, or nothing.
func (q *Queue) Space() error { return q.engine.space.check() }
