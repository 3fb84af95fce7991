// Package tunnel says what a tunnel is: an authenticated link between agent and
// hub that carries many streams both ways. It owns the words Session and Stream
// and the first bytes of every stream. It does not know sockets, TLS settings or
// what the streams carry; a transport (tunnel/tcp, tunnel/quic) brings it to life and
// tunneltest holds the contract that every transport passes.
package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"
)

// The protocols of the hub's port, chosen by ALPN.
const (
	ALPN       = "ropeway/1"        // tunnels of agents
	ALPNEnroll = "ropeway-enroll/1" // enrollment and renewal
	ALPNPeer   = "ropeway-peer/1"   // other replicas of the hub
)

// What can happen to streams and sessions. Transports return errors that
// errors.Is finds these in.
var (
	// ErrReset ends the reads and writes of a stream that either side reset.
	ErrReset = errors.New("stream reset")
	// ErrClosed is the end of a session that this side closed.
	ErrClosed = errors.New("session closed")
	// ErrPeerClosed is the end of a session that the other side closed.
	ErrPeerClosed = errors.New("session closed by the other side")
	// ErrDead is the end of a session whose other side was not heard of in time.
	ErrDead = errors.New("nothing heard from the other side")
	// ErrStalled is the end of a session whose connection took no more data.
	ErrStalled = errors.New("the other side takes no data")
)

// A Session is one tunnel. All methods may be called concurrently.
type Session interface {
	// Open starts a stream. It waits while the session is at its cap of streams,
	// until ctx ends. The other side sees the stream at once, before any data.
	Open(ctx context.Context) (Stream, error)
	// Accept waits for a stream that the other side opened.
	Accept(ctx context.Context) (Stream, error)
	// Info describes the session; RTT changes while it lives.
	Info() Info
	// Done is closed when the session has ended, whoever ended it.
	Done() <-chan struct{}
	// Err says why the session ended; nil while it lives.
	Err() error
	// Close sends what was written, ends all streams on both sides and returns
	// when nothing of the session runs any more.
	Close() error
}

// A Stream is one ordered flow of bytes each way. Reading and writing may go on
// at the same time; each by one goroutine.
//
// A stream that ends because its session broke never reports io.EOF: EOF means
// that the other side said CloseWrite or Close and that everything was read.
type Stream interface {
	io.Reader
	io.Writer
	// CloseWrite says that nothing more will be written. Reading goes on.
	CloseWrite() error
	// Close says that nothing more will be written or read. What was written
	// still arrives. A side that keeps writing into a closed stream gets ErrReset
	// after ten seconds.
	Close() error
	// Reset ends both directions on both sides at once; data under way is lost.
	Reset() error
	// SetDeadline bounds reads and writes as for net.Conn. A write that only
	// waits for the connection (not for the reader) is bounded by the session's
	// own stall limit instead.
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Info describes a session.
type Info struct {
	Transport string              // "tcp" or "quic"
	Local     string              // local address
	Remote    string              // address of the other side, or of its proxy
	TLS       tls.ConnectionState // who the other side is
	Opened    time.Time           // when the session was made
	RTT       time.Duration       // last measured round trip; 0 until the first
}
