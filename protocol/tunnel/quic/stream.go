package quic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"ropeway/protocol/tunnel"
)

// greeting is the first byte on a stream, by the side that opened it. A stream of
// QUIC exists for the other side only once a byte of it has arrived.
const greeting = 0

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

// stream is a tunnel.Stream. It keeps its slot or place until both directions
// are over on this side.
type stream struct {
	s       *session
	q       *quic.Stream
	local   bool
	forget  func() bool   // stops listening for a reset
	reading chan struct{} // held while somebody reads q
	writing sync.Mutex    // held while somebody writes q

	mu             sync.Mutex
	closed, reset  bool
	wrote, read    bool // this direction is over
	gone           bool
	deadlineLocked bool // takeIn bounds the reading now

	// below: whoever holds reading
	greeted bool
	memory  *bytes.Reader // what was taken in at the end of the session
	last    error         // what comes after it; nil = the end of the session
}

func newStream(s *session, q *quic.Stream, local bool) *stream {
	st := &stream{s: s, q: q, local: local, reading: make(chan struct{}, 1), greeted: local}
	s.mu.Lock()
	s.streams[st] = struct{}{}
	s.mu.Unlock()
	st.mu.Lock()
	st.forget = context.AfterFunc(q.Context(), st.writingEnded)
	st.mu.Unlock()
	return st
}

// writingEnded looks whether the other side has reset the stream: then it is over
// although nobody here has noticed.
func (st *stream) writingEnded() {
	var why *quic.StreamError
	if errors.As(context.Cause(st.q.Context()), &why) && why.Remote && why.ErrorCode == codeReset {
		_ = st.Reset()
	}
}

func (st *stream) Read(p []byte) (int, error) {
	st.reading <- struct{}{}
	defer func() { <-st.reading }()
	if err := st.over(); err != nil || len(p) == 0 {
		return 0, err
	}
	if st.memory != nil {
		return st.remember(p)
	}
	n, err := st.fetch(p)
	if err != nil {
		err = st.readError(err)
	}
	return n, err
}

// fetch reads what the other side wrote, without its greeting.
func (st *stream) fetch(p []byte) (int, error) {
	if !st.greeted {
		var b [1]byte
		if _, err := io.ReadFull(st.q, b[:]); err != nil {
			return 0, err
		}
		if b[0] != greeting {
			return 0, fmt.Errorf("%w: it does not begin as one", tunnel.ErrReset)
		}
		st.greeted = true
	}
	return st.q.Read(p)
}

func (st *stream) readError(err error) error {
	var reset *quic.StreamError
	if errors.Is(err, io.EOF) || errors.As(err, &reset) {
		st.endRead()
	}
	return st.translate(err)
}

// translate words an error of the library. What this side did itself goes first.
func (st *stream) translate(err error) error {
	if over := st.over(); over != nil {
		return over
	}
	var reset *quic.StreamError
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.As(err, &reset):
		if ended := st.s.Err(); ended != nil {
			return fmt.Errorf("stream broken: %w", ended)
		}
		return tunnel.ErrReset
	case errors.Is(err, tunnel.ErrReset):
		_ = st.Reset()
		return err
	case errors.Is(err, quic.ErrStreamClosed):
		return net.ErrClosed
	}
	return st.s.broken()
}

// remember reads from memory after the end of the session.
func (st *stream) remember(p []byte) (int, error) {
	if st.memory.Len() > 0 {
		return st.memory.Read(p)
	}
	if st.last != nil {
		return 0, st.last
	}
	return 0, st.s.broken()
}

// takeIn moves what is left to read into memory.
func (st *stream) takeIn(deadline time.Time) {
	wait := time.NewTimer(time.Until(deadline))
	defer wait.Stop()
	select {
	case st.reading <- struct{}{}:
		defer func() { <-st.reading }()
	case <-wait.C:
		return
	}
	st.mu.Lock()
	if st.closed || st.reset || st.read {
		st.mu.Unlock()
		return
	}
	st.deadlineLocked = true
	_ = st.q.SetReadDeadline(deadline)
	st.mu.Unlock()
	var all bytes.Buffer
	_, err := all.ReadFrom(io.LimitReader(reader(st.fetch), 2*maxWindow))
	// ReadFrom hides the end of file; where it is not the limit it is the sender's.
	if err == nil {
		err = io.EOF
	}
	st.memory = bytes.NewReader(all.Bytes())
	switch {
	case errors.Is(err, io.EOF) && all.Len() < 2*maxWindow:
		st.last = io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded), all.Len() >= 2*maxWindow:
		// it did not end in time: cut
	default:
		var reset *quic.StreamError
		if errors.As(err, &reset) && reset.ErrorCode == codeReset {
			st.last = tunnel.ErrReset
		}
	}
	st.endRead()
}

type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

func (st *stream) Write(p []byte) (int, error) {
	st.writing.Lock()
	defer st.writing.Unlock()
	if err := st.over(); err != nil {
		return 0, err
	}
	if ended := st.s.Err(); ended != nil {
		return 0, fmt.Errorf("stream broken: %w", ended)
	}
	n, err := st.q.Write(p)
	if err != nil {
		var reset *quic.StreamError
		if errors.As(err, &reset) {
			st.endWrite()
		}
		return n, st.translate(err)
	}
	return n, nil
}

// over says why the stream cannot be used any more on this side.
func (st *stream) over() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.reset:
		return tunnel.ErrReset
	case st.closed:
		return net.ErrClosed
	}
	return nil
}

func (st *stream) CloseWrite() error {
	if err := st.over(); err != nil {
		return err
	}
	st.sayEnd()
	return nil
}

// sayEnd ends this side's writing after what was written.
func (st *stream) sayEnd() {
	st.writing.Lock()
	_ = st.q.Close() // fails only for a stream that is reset
	st.writing.Unlock()
	st.endWrite()
}

func (st *stream) Close() error {
	st.mu.Lock()
	again := st.closed || st.reset
	st.closed = true
	read := st.read
	if !again {
		_ = st.q.SetDeadline(past)
	}
	st.mu.Unlock()
	if again {
		return nil
	}
	st.sayEnd()
	if !read {
		st.s.spawn(st.lingerThenStop)
	}
	return nil
}

// lingerThenStop throws away what the other side still writes into a closed
// stream, and tells it to stop when that takes too long.
func (st *stream) lingerThenStop() {
	st.reading <- struct{}{}
	defer func() { <-st.reading }()
	_ = st.q.SetReadDeadline(time.Now().Add(st.s.opt.linger()))
	_, _ = io.Copy(io.Discard, st.q)
	st.q.CancelRead(codeClosed)
	st.endRead()
}

func (st *stream) Reset() error {
	st.mu.Lock()
	if st.reset || st.gone {
		st.mu.Unlock()
		return nil
	}
	st.reset = true
	st.mu.Unlock()
	st.q.CancelRead(codeReset)
	st.q.CancelWrite(codeReset)
	st.endRead()
	st.endWrite()
	return nil
}

// abandon ends a stream with its session: what was written still arrives, and is
// followed by an error if the end was not said before.
func (st *stream) abandon() {
	st.mu.Lock()
	wrote := st.wrote
	st.mu.Unlock()
	if !wrote {
		st.q.SetReliableBoundary()
		st.q.CancelWrite(codeEnding)
	}
	st.q.CancelRead(codeEnding)
}

func (st *stream) endRead()  { st.ended(&st.read) }
func (st *stream) endWrite() { st.ended(&st.wrote) }

// ended notes that a direction is over; with the second the stream is gone.
func (st *stream) ended(direction *bool) {
	st.mu.Lock()
	*direction = true
	last := st.read && st.wrote && !st.gone
	if last {
		st.gone = true
		st.forget()
	}
	st.mu.Unlock()
	if !last {
		return
	}
	st.s.mu.Lock()
	delete(st.s.streams, st)
	st.s.mu.Unlock()
	if st.local {
		<-st.s.slots
	} else {
		<-st.s.places
	}
}

func (st *stream) SetDeadline(t time.Time) error {
	if err := st.SetReadDeadline(t); err != nil {
		return err
	}
	return st.SetWriteDeadline(t)
}

func (st *stream) SetReadDeadline(t time.Time) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.reset || st.deadlineLocked {
		return nil
	}
	return st.q.SetReadDeadline(t)
}

func (st *stream) SetWriteDeadline(t time.Time) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.reset {
		return nil
	}
	return st.q.SetWriteDeadline(t)
}
