package tcp

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ropeway/protocol/tunnel"
)

// most that may wait to be sent before the session is given up: yamux itself is
// held back at flushSize, so only answers to a flood get this far.
const maxPending = 1 << 20

// A link stands between yamux and TLS. Outwards it gathers frames and lets one
// goroutine write them, with a deadline. Inwards it checks each frame header
// before yamux sees it. Both ways the table of streams learns from it, and it
// adds frames of its own: credit and resets.
type link struct {
	conn  *tls.Conn
	under *buffered // nil if the caller did not use Wrap
	stall time.Duration
	fail  func(error) // ends the session
	wake  chan struct{}

	mu      sync.Mutex
	space   sync.Cond
	table   table
	buf     *[]byte // frames to write; nil when none
	own     []byte  // own frames that wait for the end of a frame of yamux
	outLeft uint32  // body bytes of yamux's frame still to come
	outDrop bool    // they are dropped
	inject  []frame // resets for the yamux of this side
	writing bool
	closing bool          // what yamux still writes is dropped
	err     error         // set once the link is shut
	quit    chan struct{} // closed with it

	rtt   atomic.Int64 // ns
	heard atomic.Int64 // unix ns of the last bytes from the other side

	// below: only the goroutine that reads
	in      *bufio.Reader
	head    [headerSize]byte
	pending []byte // of head
	inLeft  uint32
	pings   pingLimit
	ended   chan struct{} // closed when reading has ended
}

func newLink(conn *tls.Conn, opt Options, client bool, fail func(error)) *link {
	l := &link{
		conn:  conn,
		stall: opt.stall(),
		fail:  fail,
		wake:  make(chan struct{}, 1),
		in:    bufio.NewReader(conn),
		quit:  make(chan struct{}),
		ended: make(chan struct{}),
		table: table{client: client, limit: opt.Streams, budget: opt.Budget, streams: map[uint32]*entry{}},
	}
	l.space.L = &l.mu
	l.under, _ = conn.NetConn().(*buffered)
	l.heard.Store(time.Now().UnixNano())
	return l
}

// Write takes a header or a body from yamux, which writes one after the other
// from a single goroutine.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && !l.closing && l.buf != nil && len(*l.buf) >= flushSize {
		l.space.Wait()
	}
	if l.err != nil {
		return 0, l.err
	}
	if l.closing {
		return len(p), nil
	}
	if l.outLeft > 0 {
		l.outLeft -= min(l.outLeft, uint32(len(p)))
		if !l.outDrop {
			l.appendLocked(p)
		}
	} else if err := l.headerLocked(p); err != nil {
		return 0, err
	}
	if l.outLeft == 0 && len(l.own) > 0 {
		l.appendLocked(l.own)
		l.own = l.own[:0]
	}
	return len(p), nil
}

func (l *link) headerLocked(p []byte) error {
	if len(p) != headerSize {
		return fmt.Errorf("yamux wrote a header of %d bytes", len(p))
	}
	f, err := parseFrame((*[headerSize]byte)(p))
	if err != nil {
		return err
	}
	v := l.table.out(&f)
	l.outLeft, l.outDrop = f.body(), v != pass
	if v == pass {
		var b [headerSize]byte
		l.appendLocked(f.append(b[:0]))
	}
	return nil
}

func (l *link) appendLocked(p []byte) {
	if l.buf == nil {
		l.buf = buffers.Get().(*[]byte)
	}
	*l.buf = append(*l.buf, p...)
	l.wakeLocked()
}

func (l *link) wakeLocked() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sendLocked adds a frame of our own between those of yamux.
func (l *link) sendLocked(f frame) {
	if l.err != nil || l.closing {
		return
	}
	var b [headerSize]byte
	if l.outLeft > 0 {
		l.own = f.append(l.own)
		return
	}
	l.appendLocked(f.append(b[:0]))
}

// flushLoop writes what gathers until the link is shut.
func (l *link) flushLoop() {
	for {
		select {
		case <-l.wake:
			if err := l.flushAll(); err != nil {
				l.fail(err)
				return
			}
		case <-l.quit:
			return
		}
	}
}

func (l *link) flushAll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.buf != nil && l.err == nil {
		b := l.buf
		l.buf = nil
		l.writing = true
		l.space.Broadcast()
		l.mu.Unlock()
		err := l.flush(*b)
		*b = (*b)[:0]
		if cap(*b) <= 4*flushSize {
			buffers.Put(b)
		}
		l.mu.Lock()
		l.writing = false
		l.space.Broadcast()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link) flush(b []byte) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.stall))
	_, err := l.conn.Write(b)
	if err == nil && l.under != nil {
		err = l.under.flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w for %s", tunnel.ErrStalled, l.stall)
	}
	if err != nil {
		return fmt.Errorf("write to tunnel: %w", err)
	}
	return nil
}

// Read gives yamux checked frames. Only its receiving goroutine calls it.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.read(p)
	if err != nil {
		select {
		case <-l.ended:
		default:
			close(l.ended)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			l.fail(tunnel.ErrPeerClosed)
		} else {
			l.fail(fmt.Errorf("read from tunnel: %w", err))
		}
	}
	return n, err
}

func (l *link) read(p []byte) (int, error) {
	for {
		if len(l.pending) > 0 {
			n := copy(p, l.pending)
			l.pending = l.pending[n:]
			return n, nil
		}
		if l.inLeft > 0 {
			n, err := l.in.Read(p[:min(uint64(len(p)), uint64(l.inLeft))])
			l.inLeft -= uint32(n)
			l.heard.Store(time.Now().UnixNano())
			return n, err
		}
		if f, ok := l.injected(); ok {
			l.pending = f.append(l.head[:0])
			continue
		}
		if err := l.next(); err != nil {
			return 0, err
		}
	}
}

// next reads one header and decides what becomes of its frame.
func (l *link) next() error {
	if _, err := io.ReadFull(l.in, l.head[:]); err != nil {
		return err
	}
	l.heard.Store(time.Now().UnixNano())
	f, err := parseFrame(&l.head)
	if err != nil {
		return err
	}
	if f.kind == typePing && f.has(flagSYN) && !l.pings.allow(time.Now()) {
		return fmt.Errorf("%w: flood of pings", errProtocol)
	}
	v, err := l.judge(f)
	if err != nil {
		return err
	}
	if v == pass {
		l.pending, l.inLeft = l.head[:], f.body()
		return nil
	}
	_, err = io.CopyN(io.Discard, l.in, int64(f.body()))
	return err
}

func (l *link) judge(f frame) (verdict, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, err := l.table.in(f)
	if v == refuse {
		l.sendLocked(frame{kind: typeWindow, flags: flagRST, stream: f.stream})
	}
	if l.buf != nil && len(*l.buf)+len(l.own) > maxPending {
		return v, tunnel.ErrStalled
	}
	return v, err
}

func (l *link) injected() (frame, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.inject) == 0 {
		return frame{}, false
	}
	f := l.inject[0]
	l.inject = l.inject[1:]
	return f, true
}

// consumed grants the other side credit for n bytes that a reader took.
func (l *link) consumed(id uint32, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if credit := l.table.grant(id, n, time.Duration(l.rtt.Load())); credit > 0 {
		l.sendLocked(frame{kind: typeWindow, stream: id, length: credit})
	}
}

// reset ends a stream on both sides. The other side hears of it at once; the
// yamux of this side, which has no call for it, reads it as if the other side
// had said so: with the next frame that comes in, a ping at the latest.
func (l *link) reset(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table.streams[id] == nil {
		return
	}
	l.table.remove(id)
	rst := frame{kind: typeWindow, flags: flagRST, stream: id}
	l.sendLocked(rst)
	l.inject = append(l.inject, rst)
}

// entry finds a live stream; nil if it was reset in the meantime.
func (l *link) entry(id uint32) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table.streams[id]
}

// saidEnd reports whether the other side said that it writes no more.
func (l *link) saidEnd(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return e != nil && e.ended
}

// live reports whether a stream has not ended both ways.
func (l *link) live(id uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table.streams[id] != nil
}

// lingerThenReset resets a stream that the other side does not end in time.
func (l *link) lingerThenReset(id uint32, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.table.streams[id]; e != nil && e.linger == nil {
		e.linger = time.AfterFunc(after, func() { l.reset(id) })
	}
}
