package tcp

import (
	"net"
	"sync"
)

// flushSize is how much gathers above and under TLS before it is written.
const flushSize = 64 << 10

// buffers are shared by all sessions, so that an idle one holds none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 2*flushSize+flushSize/4)
	return &b
}}

// Wrap prepares a TCP connection for a tunnel: it sets the socket options and
// puts a write buffer under TLS, so that the four records of 64 KiB leave in one
// system call. Until a session starts the buffer passes everything through.
func Wrap(raw net.Conn) net.Conn {
	if _, done := raw.(*buffered); done {
		return raw
	}
	tune(raw)
	return &buffered{Conn: raw}
}

// buffered gathers writes while holding is set; flush sends them.
type buffered struct {
	net.Conn
	mu      sync.Mutex
	holding bool
	buf     *[]byte
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.holding {
		return b.Conn.Write(p)
	}
	if b.buf == nil {
		b.buf = buffers.Get().(*[]byte)
	}
	*b.buf = append(*b.buf, p...)
	if len(*b.buf) < flushSize+flushSize/8 {
		return len(p), nil
	}
	return len(p), b.flushLocked()
}

func (b *buffered) hold(on bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding = on
	return b.flushLocked()
}

func (b *buffered) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flushLocked()
}

func (b *buffered) flushLocked() error {
	if b.buf == nil {
		return nil
	}
	_, err := b.Conn.Write(*b.buf)
	*b.buf = (*b.buf)[:0]
	buffers.Put(b.buf)
	b.buf = nil
	return err
}
