package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

// handshakeTimeout bounds the TLS handshake (PROMISES S8).
const handshakeTimeout = 10 * time.Second

// port is the one TCP port of the hub. It finishes each TLS handshake in time
// and hands the connection to its owner by the protocol that was agreed on.
type port struct {
	listener net.Listener
	tunnel   *tls.Config // ropeway/1: client certificate required
	enroll   *tls.Config // ropeway-enroll/1
	web      *tls.Config // h2, http/1.1
	onTunnel func(ctx context.Context, conn *tls.Conn)
	onEnroll func(ctx context.Context, conn *tls.Conn)
	webConns *webListener
	visitors *visitors
	log      *slog.Logger

	work sync.WaitGroup
}

// choose picks the TLS configuration by what the client offers. A client that
// offers a tunnel gets the tunnel's rules, whatever else it offers.
func (p *port) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	switch {
	case slices.Contains(hello.SupportedProtos, tunnel.ALPN):
		return p.tunnel, nil
	case slices.Contains(hello.SupportedProtos, tunnel.ALPNEnroll):
		return p.enroll, nil
	}
	return p.web, nil
}

// run accepts connections until ctx ends, then waits for those it handed on.
func (p *port) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	config := &tls.Config{GetConfigForClient: p.choose, MinVersion: tls.VersionTLS12}
	for {
		raw, err := p.listener.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			closeIfAny(raw)
			p.work.Wait()
			return unlessEnded(ctx, err)
		}
		if err != nil {
			// Out of file descriptors, or a peer that left at once: neither ends a hub.
			p.log.Warn("connection not accepted", "error", err)
			pause(ctx, acceptPause)
			continue
		}
		conn, ok := raw.(*net.TCPConn)
		if !ok {
			return fmt.Errorf("accept %T: the port serves TCP only", raw)
		}
		v := p.visitors.enter(conn)
		if v == nil {
			raw.Close() // full: an agent comes back by itself
			continue
		}
		p.work.Go(func() { p.handshake(ctx, v, tls.Server(tcp.Wrap(v), config)) })
	}
}

// acceptPause keeps an accept that fails from burning a core.
const acceptPause = 50 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// unlessEnded is err while ctx goes on: nobody closes the listener but its end.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func closeIfAny(conn net.Conn) {
	if conn != nil {
		conn.Close()
	}
}

// handshake ends within its time-out. An agent's certificate makes it known;
// who enrolls or speaks HTTP stays a visitor until it has proved something.
func (p *port) handshake(ctx context.Context, v *visitor, conn *tls.Conn) {
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := conn.HandshakeContext(limited)
	cancel()
	if err != nil {
		v.known()
		p.log.Debug("handshake refused", "remote", conn.RemoteAddr().String(), "error", err)
		conn.Close()
		return
	}
	v.shakenHands(conn)
	switch conn.ConnectionState().NegotiatedProtocol {
	case tunnel.ALPN:
		v.known()
		p.onTunnel(ctx, conn)
	case tunnel.ALPNEnroll:
		defer v.known()
		p.onEnroll(ctx, conn)
	default:
		p.webConns.give(conn)
	}
}

// webListener hands finished connections to the HTTP server.
type webListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newWebListener(addr net.Addr) *webListener {
	return &webListener{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

func (l *webListener) give(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.done:
		conn.Close()
	}
}

// Accept returns the next connection; net.ErrClosed after Close.
func (l *webListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *webListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is the address of the port.
func (l *webListener) Addr() net.Addr { return l.addr }

// listen opens the port and says in one sentence what is in the way if it cannot.
func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	var op *net.OpError
	if errors.As(err, &op) {
		return nil, errors.New("listen on " + addr + ": " + op.Err.Error() + "; choose another address with --listen")
	}
	return l, err
}
