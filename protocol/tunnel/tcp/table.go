package tcp

import (
	"fmt"
	"time"
)

// maxWindow is the largest credit one stream may get. yamux is told twice as
// much, see yamuxWindow: it sends its own updates lazily, and what the table has
// granted must always be less than what yamux would take.
const (
	maxWindow   = 4 << 20
	yamuxWindow = 2 * maxWindow
)

// A table knows the live streams of a session from the frames that pass by. It
// is what yamux lacks: a cap over all live streams, a way to reset one, and
// receive credit that grows by need within a budget. Its user holds a lock.
type table struct {
	client    bool // this side dialled: its streams have odd numbers
	limit     int  // most streams opened by the other side
	remote    int  // live streams opened by the other side
	budget    int64
	streams   map[uint32]*entry
	freeLocal func() // called when a stream of this side has gone
}

type entry struct {
	local         bool
	ended, finOut bool // the other side, this side said FIN
	received      int64
	granted       int64 // what the other side may send in all
	consumed      int64 // what the reader took
	window        int64 // how far granted may run ahead of consumed
	lastGrant     time.Time
	linger        *time.Timer
}

func (t *table) add(id uint32, local bool) {
	t.streams[id] = &entry{local: local, granted: firstWindow, window: firstWindow}
	if !local {
		t.remote++
	}
}

func (t *table) remove(id uint32) {
	e := t.streams[id]
	if e == nil {
		return
	}
	delete(t.streams, id)
	t.budget += e.window - firstWindow
	if e.linger != nil {
		e.linger.Stop()
	}
	if e.local {
		t.freeLocal()
	} else {
		t.remote--
	}
}

// verdict is what happens to a frame.
type verdict int

const (
	pass   verdict = iota
	drop           // header and body
	refuse         // drop, and reset the stream
)

// out takes note of a frame that yamux sends and may change its header.
func (t *table) out(f *frame) verdict {
	if f.kind > typeWindow {
		return pass
	}
	if f.has(flagSYN) {
		t.add(f.stream, true)
	}
	e := t.streams[f.stream]
	if e == nil {
		return drop // reset a moment ago
	}
	if f.kind == typeWindow {
		if f.flags == 0 {
			return drop // credit is granted by grant
		}
		f.length = 0
	}
	if f.has(flagFIN) {
		e.finOut = true
	}
	if f.has(flagRST) || e.finOut && e.ended {
		t.remove(f.stream)
	}
	return pass
}

// in judges a frame of the other side.
func (t *table) in(f frame) (verdict, error) {
	if f.kind > typeWindow {
		return pass, nil
	}
	if f.has(flagSYN) {
		if v, err := t.opened(f.stream); v != pass || err != nil {
			return v, err
		}
	}
	e := t.streams[f.stream]
	if e == nil || e.ended && !f.has(flagRST) && (f.kind == typeData || f.has(flagFIN)) {
		return drop, nil // crossed with a reset, or said twice
	}
	if f.kind == typeWindow && f.length > 1<<30 {
		return drop, fmt.Errorf("%w: window update of %d bytes", errProtocol, f.length)
	}
	if f.kind == typeData {
		if e.received += int64(f.length); e.received > e.granted {
			return drop, fmt.Errorf("%w: stream %d sent more than its credit", errProtocol, f.stream)
		}
	}
	if f.has(flagFIN) {
		e.ended = true
	}
	if f.has(flagRST) || e.finOut && e.ended {
		t.remove(f.stream)
	}
	return pass, nil
}

func (t *table) opened(id uint32) (verdict, error) {
	odd := id%2 == 1
	switch {
	case odd == t.client:
		return drop, fmt.Errorf("%w: stream %d has a number of this side", errProtocol, id)
	case t.streams[id] != nil:
		return drop, fmt.Errorf("%w: stream %d opened twice", errProtocol, id)
	case t.remote >= t.limit:
		return refuse, nil
	}
	t.add(id, false)
	return pass, nil
}

// grant notes that the reader of a stream took n bytes and returns the credit to
// send, 0 for none. A window that was used up within two round trips is what
// holds the stream back, and doubles while the budget lasts.
func (t *table) grant(id uint32, n int, rtt time.Duration) uint32 {
	e := t.streams[id]
	if e == nil {
		return 0
	}
	e.consumed += int64(n)
	credit := e.consumed + e.window - e.granted
	if e.ended || credit < e.window/2 {
		return 0
	}
	now := time.Now()
	if now.Sub(e.lastGrant) < 2*rtt+time.Millisecond && e.window < maxWindow && t.budget >= e.window {
		t.budget -= e.window
		credit += e.window
		e.window *= 2
	}
	e.lastGrant = now
	e.granted += credit
	return uint32(credit)
}
