// Package quic carries a tunnel over QUIC (RFC 9000, quic-go). It owns what the
// contract of tunnel.Session asks beyond QUIC: streams that are seen at once, a
// cap that resets, an end that loses nothing, and what strangers may cost before
// they have proved who they are. It does not know certificates, what streams
// carry, or when QUIC is better than TCP.
package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"ropeway/protocol/tunnel"
)

// Options change how a session behaves. The zero value is right for production.
type Options struct {
	// Streams is the cap of live streams in each direction; default 256.
	Streams int
	// Keepalive is the time of silence after which a sign of life is asked for;
	// default 4 s. A session that hears nothing for three of them has ended with
	// tunnel.ErrDead. The other side gives up as early, but not before 5 s.
	Keepalive time.Duration
	// Budget bounds the receive memory of a session beyond 256 KiB a stream, in
	// bytes; default 32 MiB. Within it the window of a stream grows by need up to
	// 4 MiB. Windows that grew and then were not read any more count: once they
	// hold the whole budget, all streams wait for one of them to be read or ended.
	Budget int64
	// ResetKey lets a listener that was restarted tell the agents of its
	// predecessor at once that their sessions are gone; all replicas share it.
	// Without it they notice by silence. It is used by Listen only.
	ResetKey *[32]byte
	// Log gets protocol faults of the other side; default none.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Streams <= 0 {
		o.Streams = 256
	}
	if o.Keepalive <= 0 {
		o.Keepalive = 4 * time.Second
	}
	if o.Budget <= 0 {
		o.Budget = 32 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// linger is how long the other side may take to end a stream that this side
// closed.
func (o Options) linger() time.Duration { return 5 * o.Keepalive / 2 }

const (
	firstWindow = 256 << 10
	maxWindow   = 4 << 20
	// spareStreams are told to the other side beyond the cap, so that a stream
	// too many is answered with a reset and does not wait unseen.
	spareStreams = 32
	// handshakeSilence ends a handshake that gets no answer; twice of it ends any.
	handshakeSilence = 5 * time.Second
	connectionIDSize = 8
)

// config says the same to both sides. The window of the connection is as large
// as it may ever get from the start: were it smaller than the windows of its
// streams together, some that nobody reads would stop all others.
func (o Options) config() *quic.Config {
	all := uint64(o.Streams)*firstWindow + uint64(o.Budget)
	return &quic.Config{
		Versions:             []quic.Version{quic.Version1},
		HandshakeIdleTimeout: handshakeSilence,
		// An idle session asks after one keepalive, and what it sends then starts
		// the time of silence anew.
		MaxIdleTimeout:                   2 * o.Keepalive,
		KeepAlivePeriod:                  o.Keepalive,
		InitialStreamReceiveWindow:       firstWindow,
		MaxStreamReceiveWindow:           maxWindow,
		InitialConnectionReceiveWindow:   all,
		MaxConnectionReceiveWindow:       all,
		MaxIncomingStreams:               int64(o.Streams) + spareStreams,
		MaxIncomingUniStreams:            1, // the goodbye
		EnableStreamResetPartialDelivery: true,
	}
}

// Dial connects to addr ("host:port", UDP), shakes hands with cfg and returns the
// dialling side of a session. It takes at most 10 s, less if ctx ends. As always
// with TLS 1.3, a hub that refuses this side's certificate says so after Dial.
func Dial(ctx context.Context, addr string, cfg *tls.Config, opt Options) (tunnel.Session, error) {
	opt = opt.withDefaults()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	targets, err := resolve(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	session, err := race(ctx, targets, func(ctx context.Context, to netip.AddrPort) (*session, error) {
		return dialOne(ctx, to, cfg, opt)
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s over UDP: %w", addr, err)
	}
	return session, nil
}

// dialOne uses a socket of its own, which ends with the session.
func dialOne(ctx context.Context, to netip.AddrPort, cfg *tls.Config, opt Options) (*session, error) {
	family := "udp6"
	if to.Addr().Is4() {
		family = "udp4"
	}
	socket, err := net.ListenUDP(family, nil)
	if err != nil {
		return nil, err
	}
	quiet()
	transport := &quic.Transport{Conn: socket, ConnectionIDLength: connectionIDSize}
	release := func() {
		_ = transport.Close()
		_ = socket.Close()
	}
	conn, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(to), cfg, opt.config())
	if err != nil {
		release()
		return nil, dialCause(err)
	}
	s, err := newSession(conn, opt, release)
	if err != nil {
		_ = conn.CloseWithError(codeRefused, "")
		release()
		return nil, err
	}
	return s, nil
}

// dialCause words what people meet: mostly a firewall.
func dialCause(err error) error {
	var silence *quic.IdleTimeoutError
	if errors.As(err, &silence) {
		return fmt.Errorf("no answer within %s; UDP may be blocked on the way: %w", handshakeSilence, err)
	}
	return cause(err)
}

// quiet keeps the library from writing to standard error that the kernel gave it
// smaller socket buffers than it asked for. This switch is the only way.
var quiet = sync.OnceFunc(func() { _ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") })

// checkHandshake refuses a connection that is not a tunnel between known sides.
func checkHandshake(state quic.ConnectionState) error {
	switch {
	case state.TLS.NegotiatedProtocol != tunnel.ALPN:
		return fmt.Errorf("make session: protocol is %.50q, want %q", state.TLS.NegotiatedProtocol, tunnel.ALPN)
	case len(state.TLS.PeerCertificates) == 0:
		return errors.New("make session: the other side showed no certificate")
	case state.Used0RTT || state.TLS.DidResume:
		return errors.New("make session: a resumed connection is refused")
	case !state.SupportsStreamResetPartialDelivery.Remote:
		return errors.New("make session: the other side cannot end a stream without losing its data")
	}
	return nil
}
