// Package tcp carries a tunnel over one TCP connection with TLS 1.3 and yamux.
// It owns what keeps such a link quick and honest: socket options, write
// buffers, credit of streams, keepalive, the check of every frame that comes in
// (see frame.go, table.go). It does not know certificates or what streams carry.
package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"ropeway/protocol/tunnel"
)

// Options change how a session behaves. The zero value is right for production.
type Options struct {
	// Streams is the cap of live streams in each direction; default 256.
	Streams int
	// Keepalive is the time between two pings; default 4 s. A session that hears
	// nothing for three of them ends with tunnel.ErrDead; one that cannot pass on
	// 64 KiB within two and a half ends with tunnel.ErrStalled.
	Keepalive time.Duration
	// Budget bounds the receive memory of a session beyond 256 KiB a stream, in
	// bytes; default 32 MiB. Within it the window of a stream grows by need up to
	// 4 MiB.
	Budget int64
	// Dial makes the TCP connection of Dial, for proxies; default net.Dialer with
	// a limit of 5 s.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
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
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// dead is how long nothing may be heard: with a check every quarter of a
// keepalive a silent death is noticed within 3.25 keepalives, 13 s by default.
func (o Options) dead() time.Duration { return 3 * o.Keepalive }

// stall is how long one flush of 64 KiB may take.
func (o Options) stall() time.Duration { return 5 * o.Keepalive / 2 }

// linger is how long the other side may take to end a stream that this side
// closed.
func (o Options) linger() time.Duration { return 5 * o.Keepalive / 2 }

const handshakeLimit = 10 * time.Second

// Dial connects to addr ("host:port"), shakes hands with cfg and returns the
// client side of a session. It takes at most 15 s, less if ctx ends.
func Dial(ctx context.Context, addr string, cfg *tls.Config, opt Options) (tunnel.Session, error) {
	opt = opt.withDefaults()
	raw, err := opt.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	cfg = cfg.Clone()
	cfg.DynamicRecordSizingDisabled = true // bulk; small first records gain nothing here
	if cfg.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			cfg.ServerName = host
		}
	}
	conn := tls.Client(Wrap(raw), cfg)
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("shake hands with %s: %w", addr, err)
	}
	return Client(conn, opt)
}

// Client makes the dialling side of a session from a connection whose handshake
// is done. It owns conn from here on, also when it returns an error.
func Client(conn *tls.Conn, opt Options) (tunnel.Session, error) {
	return newSession(conn, opt.withDefaults(), true)
}

// Server makes the listening side of a session from a connection whose handshake
// is done and whose ALPN sent it here. It owns conn from here on, also when it
// returns an error. Let conn stand on Wrap of the TCP connection.
func Server(conn *tls.Conn, opt Options) (tunnel.Session, error) {
	return newSession(conn, opt.withDefaults(), false)
}

// checkHandshake refuses a connection that is not a tunnel between known sides.
func checkHandshake(state tls.ConnectionState) error {
	switch {
	case !state.HandshakeComplete:
		return errors.New("make session: handshake is not complete")
	case state.Version != tls.VersionTLS13:
		return errors.New("make session: TLS version is not 1.3")
	case state.NegotiatedProtocol != tunnel.ALPN:
		return fmt.Errorf("make session: protocol is %.50q, want %q",
			state.NegotiatedProtocol, tunnel.ALPN)
	case len(state.PeerCertificates) == 0:
		return errors.New("make session: the other side showed no certificate")
	}
	return nil
}
