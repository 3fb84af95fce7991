package quic

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"

	"github.com/quic-go/quic-go"

	"ropeway/protocol/tunnel"
)

// Listener takes sessions on one UDP socket.
type Listener struct {
	socket    net.PacketConn
	transport *quic.Transport
	listener  *quic.Listener
	opt       Options
	close     sync.Once
}

// Listen takes sessions on socket, which it owns from here on, also when it
// returns an error. Who dials must prove its address first (a Retry, RFC 9000
// section 8.1.2), shake hands within 10 s and find room among the strangers: see
// door.
func Listen(socket net.PacketConn, cfg *tls.Config, opt Options) (*Listener, error) {
	opt = opt.withDefaults()
	quiet()
	strangers := &door{room: maxStrangers, perNetwork: maxPerNetwork}
	transport := &quic.Transport{
		Conn:                socket,
		ConnectionIDLength:  connectionIDSize,
		VerifySourceAddress: func(net.Addr) bool { return true },
		ConnContext:         strangers.enter,
	}
	if opt.ResetKey != nil {
		key := quic.StatelessResetKey(*opt.ResetKey)
		transport.StatelessResetKey = &key
	}
	l, err := transport.Listen(cfg, opt.config())
	if err != nil {
		_ = transport.Close()
		_ = socket.Close()
		return nil, fmt.Errorf("listen for tunnels: %w", err)
	}
	return &Listener{socket: socket, transport: transport, listener: l, opt: opt}, nil
}

// Accept waits for the next session; its handshake is done and its certificate
// verified by the TLS configuration. It ends with net.ErrClosed after Close.
// Sessions that wait for their Accept are few: hand them on at once.
func (l *Listener) Accept(ctx context.Context) (tunnel.Session, error) {
	for {
		conn, err := l.listener.Accept(ctx)
		if err != nil {
			return nil, fmt.Errorf("accept tunnel: %w", err)
		}
		known(conn.Context())
		s, err := newSession(conn, l.opt, nil)
		if err != nil {
			l.opt.Log.Debug("connection refused", "remote", conn.RemoteAddr().String(), "cause", err)
			go func() { _ = conn.CloseWithError(codeRefused, "") }()
			continue
		}
		return s, nil
	}
}

// Addr is the address of the socket.
func (l *Listener) Addr() net.Addr { return l.socket.LocalAddr() }

// Close ends the listener and its socket, and with it the sessions that still
// live, without a word to the other sides.
func (l *Listener) Close() error {
	l.close.Do(func() {
		_ = l.listener.Close()
		_ = l.transport.Close()
		_ = l.socket.Close()
	})
	return nil
}
