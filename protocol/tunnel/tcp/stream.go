package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"ropeway/protocol/tunnel"
)

// maxFrame is the most that one frame carries: streams take turns after it.
const maxFrame = 64 << 10

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

// stream is a tunnel.Stream. The Close of yamux is a half close; Close and Reset
// here add what yamux has no call for.
type stream struct {
	s  *session
	y  *yamux.Stream
	id uint32
	e  *entry

	mu     sync.Mutex
	closed bool
	reset  bool
}

func newStream(s *session, y *yamux.Stream) *stream {
	id := y.StreamID()
	return &stream{s: s, y: y, id: id, e: s.link.entry(id)}
}

func (st *stream) Read(p []byte) (int, error) {
	if err := st.over(); err != nil {
		return 0, err
	}
	n, err := st.y.Read(p)
	if n > 0 {
		st.s.link.consumed(st.id, n)
	}
	if err != nil {
		err = st.translate(err)
	}
	return n, err
}

func (st *stream) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := st.over(); err != nil {
			return written, err
		}
		if cause := st.s.Err(); cause != nil {
			return written, fmt.Errorf("stream broken: %w", cause)
		}
		n, err := st.y.Write(p[written:min(len(p), written+maxFrame)])
		written += n
		if err != nil {
			return written, st.translate(err)
		}
		if written == len(p) {
			return written, nil
		}
	}
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

func (st *stream) translate(err error) error {
	if over := st.over(); over != nil {
		return over
	}
	if errors.Is(err, io.EOF) && st.s.link.saidEnd(st.e) {
		return io.EOF
	}
	// yamux also calls a stream of a broken session ended; that one was cut.
	if cause := st.s.Err(); cause != nil {
		return fmt.Errorf("stream broken: %w", cause)
	}
	switch {
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrConnectionReset):
		return tunnel.ErrReset
	case errors.Is(err, yamux.ErrStreamClosed):
		return net.ErrClosed
	}
	return fmt.Errorf("stream broken: %w", st.s.broken(err))
}

func (st *stream) CloseWrite() error {
	if err := st.over(); err != nil {
		return err
	}
	return st.y.Close()
}

func (st *stream) Close() error {
	st.mu.Lock()
	again := st.closed || st.reset
	st.closed = true
	st.mu.Unlock()
	if again {
		return nil
	}
	err := st.y.Close()
	_ = st.y.SetDeadline(past)
	st.s.link.lingerThenReset(st.id, st.s.opt.linger())
	return err
}

func (st *stream) Reset() error {
	st.mu.Lock()
	st.reset = true
	st.mu.Unlock()
	st.s.link.reset(st.id)
	return st.y.SetDeadline(past)
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
	if st.closed || st.reset {
		return nil
	}
	return st.y.SetReadDeadline(t)
}

func (st *stream) SetWriteDeadline(t time.Time) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.reset {
		return nil
	}
	return st.y.SetWriteDeadline(t)
}
