package flow

import (
	"context"
	"sync"

	"ropeway/protocol/page"
)

// maxWorkMemory bounds the opened pages that all lanes of a process work on.
const maxWorkMemory = 128 << 20

// inHand knows the messages that this process works on, by name. A message can
// be in the queue twice (a schedule and its original after a crash, a read that
// the sweep published again), and two executions of one read would take the chain
// from each other for ever.
type inHand struct {
	mu    sync.Mutex
	names map[string]struct{}
}

func newInHand() *inHand { return &inHand{names: map[string]struct{}{}} }

// begin is false when name is in hand already.
func (h *inHand) begin(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, here := h.names[name]; here {
		return false
	}
	h.names[name] = struct{}{}
	return true
}

func (h *inHand) end(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.names, name)
}

// workMemory bounds the bytes of the pages that are opened at a time. Each connection
// may always have one page open, so that a stalled target with a hundred pages in
// flight slows the others down to one page each, and never stops them.
type workMemory struct {
	limit int64

	mu      sync.Mutex
	used    int64
	pages   map[page.ID]int // open, by connection
	changed chan struct{}   // closed and replaced when one is given back
}

func newWorkMemory(limit int64) *workMemory {
	return &workMemory{limit: limit, pages: map[page.ID]int{}, changed: make(chan struct{})}
}

// take waits until n bytes of a page of a connection may be used, and returns how
// to give them back.
func (m *workMemory) take(ctx context.Context, connection page.ID, n int64) (give func(), err error) {
	for {
		m.mu.Lock()
		if m.pages[connection] == 0 || m.used+n <= m.limit {
			m.used += n
			m.pages[connection]++
			m.mu.Unlock()
			return func() { m.give(connection, n) }, nil
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (m *workMemory) give(connection page.ID, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	if m.pages[connection]--; m.pages[connection] == 0 {
		delete(m.pages, connection)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// weight is the memory that work on a page takes: the codec bytes as they came,
// as they leave, and both compressed.
func weight(h *page.Header, body int) int64 { return 3*int64(h.PayloadSize) + int64(body) }
