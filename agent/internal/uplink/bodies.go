package uplink

import (
	"sync"
	"time"

	"ropeway/protocol/tunnel"
)

const (
	orphanLimit = 30 * time.Second // a body whose step does not come
	maxOrphans  = 64
	maxEnded    = 1024
)

// bodies match body streams with their steps by ID; either may come first.
type bodies struct {
	mu      sync.Mutex
	waiting map[uint64]*body
	orphans int
	ended   map[uint64]struct{} // calls that ended: their late bodies are refused
	order   []uint64            // of ended
	closed  bool
}

// A body is the place of one body stream.
type body struct {
	here     chan struct{} // closed when stream is set, or never will be
	stream   tunnel.Stream
	expected bool
	orphan   *time.Timer
}

// arrived takes in a stream.
func (b *bodies) arrived(id uint64, st tunnel.Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.waiting[id]
	_, late := b.ended[id]
	if b.closed || late || e != nil && e.stream != nil || e == nil && b.orphans >= maxOrphans {
		_ = st.Reset()
		return
	}
	if e == nil {
		e = &body{here: make(chan struct{})}
		b.waiting[id] = e
		b.orphans++
		e.orphan = time.AfterFunc(orphanLimit, func() { b.dropOrphan(id, e) })
	}
	e.stream = st
	close(e.here)
}

func (b *bodies) dropOrphan(id uint64, e *body) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[id] == e && !e.expected {
		delete(b.waiting, id)
		b.orphans--
		_ = e.stream.Reset()
	}
}

// expect gives the place of the body of a step that has come.
func (b *bodies) expect(id uint64) *body {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.waiting[id]
	if e == nil {
		e = &body{here: make(chan struct{})}
		b.waiting[id] = e
		if b.closed {
			close(e.here)
		}
	}
	if e.orphan != nil {
		e.orphan.Stop()
		e.orphan = nil
		b.orphans--
	}
	e.expected = true
	return e
}

// forget closes the body of a step that is done.
func (b *bodies) forget(id uint64) {
	b.mu.Lock()
	e := b.waiting[id]
	delete(b.waiting, id)
	if b.ended == nil {
		b.ended = map[uint64]struct{}{}
	}
	b.ended[id] = struct{}{}
	if b.order = append(b.order, id); len(b.order) > maxEnded {
		delete(b.ended, b.order[0])
		b.order = b.order[1:]
	}
	b.mu.Unlock()
	if e != nil && e.stream != nil {
		e.stream.Close()
	}
}

// close refuses all bodies to come. The streams end with their session.
func (b *bodies) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for id, e := range b.waiting {
		if e.orphan != nil {
			e.orphan.Stop()
			delete(b.waiting, id)
			b.orphans--
		}
	}
}
