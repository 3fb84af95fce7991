package tcp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"ropeway/protocol/tunnel"
)

// closeLimit is for the last words of Close.
const closeLimit = 500 * time.Millisecond

// session is a tunnel.Session over yamux.
type session struct {
	y    *yamux.Session
	link *link
	opt  Options
	info tunnel.Info
	log  *slog.Logger

	slots    chan struct{} // one per live stream opened by this side
	accepted chan *stream

	once   sync.Once
	err    error // set before done is closed
	done   chan struct{}
	finish sync.Once
	work   sync.WaitGroup
}

func newSession(conn *tls.Conn, opt Options, client bool) (*session, error) {
	state := conn.ConnectionState()
	if err := checkHandshake(state); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	s := &session{
		opt:      opt,
		log:      opt.Log,
		slots:    make(chan struct{}, opt.Streams),
		accepted: make(chan *stream, opt.Streams),
		done:     make(chan struct{}),
		info: tunnel.Info{
			Transport: "tcp",
			Local:     conn.LocalAddr().String(),
			Remote:    conn.RemoteAddr().String(),
			TLS:       state,
			Opened:    time.Now(),
		},
	}
	s.link = newLink(conn, opt, client, s.fail)
	s.link.table.freeLocal = func() { <-s.slots }
	if s.link.under != nil {
		if err := s.link.under.hold(true); err != nil {
			conn.Close()
			return nil, fmt.Errorf("make session: %w", err)
		}
	}
	make := yamux.Server
	if client {
		make = yamux.Client
	}
	y, err := make(s.link, yamuxConfig(opt))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("make session: %w", err)
	}
	s.y = y
	s.work.Go(s.link.flushLoop)
	s.work.Go(s.acceptLoop)
	s.work.Go(s.keepalive)
	return s, nil
}

// yamuxConfig turns off what the session does itself. yamux has one time limit
// for a turn in its send queue and for the answer to a ping; the queue may hold
// a frame of every stream, so it is long, and the flush deadline of the link
// ends a session that makes no progress.
func yamuxConfig(opt Options) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          opt.Streams,
		KeepAliveInterval:      time.Hour, // unused, must be set
		ConnectionWriteTimeout: time.Minute,
		MaxStreamWindowSize:    yamuxWindow,
		LogOutput:              io.Discard,
	}
}

// Open implements tunnel.Session.
func (s *session) Open(ctx context.Context) (tunnel.Stream, error) {
	select {
	case s.slots <- struct{}{}:
	case <-s.done:
		return nil, s.err
	case <-ctx.Done():
		return nil, fmt.Errorf("open stream: %w", context.Cause(ctx))
	}
	type result struct {
		y   *yamux.Stream
		err error
	}
	opened := make(chan result, 1)
	go func() {
		y, err := s.y.OpenStream()
		opened <- result{y, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, s.broken(r.err)
		}
		return newStream(s, r.y), nil
	case <-ctx.Done():
		go func() {
			if r := <-opened; r.err == nil {
				_ = newStream(s, r.y).Reset()
			}
		}()
		return nil, fmt.Errorf("open stream: %w", context.Cause(ctx))
	}
}

// Accept implements tunnel.Session. Streams that were reset before anybody
// asked for them are passed over.
func (s *session) Accept(ctx context.Context) (tunnel.Stream, error) {
	for {
		select {
		case st := <-s.accepted:
			if s.link.live(st.id) {
				return st, nil
			}
		case <-s.done:
			return nil, s.err
		case <-ctx.Done():
			return nil, fmt.Errorf("accept stream: %w", context.Cause(ctx))
		}
	}
}

func (s *session) acceptLoop() {
	for {
		y, err := s.y.AcceptStream()
		if err != nil {
			s.broken(err)
			return
		}
		select {
		case s.accepted <- newStream(s, y):
		case <-s.done:
			return
		}
	}
}

// keepalive asks the other side for a sign of life every opt.Keepalive and ends
// the session when nothing at all was heard for three of them. Any byte is a
// sign: on a slow link an answer may wait behind bulk, the bulk itself tells.
// Where only one direction is cut the side that hears nothing closes, and the
// other hears that.
//
// The dialling side lets the other speak first: a hub that refuses a certificate
// says so after the handshake, and unread bytes would make its kernel reset the
// connection before that was read.
func (s *session) keepalive() {
	tick := time.NewTicker(s.opt.Keepalive / 4)
	defer tick.Stop()
	first := 0
	if s.link.table.client {
		first = 1
	}
	for n := 0; ; n++ {
		if n%4 == first {
			s.work.Go(s.ping)
		}
		select {
		case <-tick.C:
		case <-s.done:
			return
		}
		silent := time.Since(time.Unix(0, s.link.heard.Load()))
		if silent > s.opt.dead() {
			s.fail(fmt.Errorf("%w for %s", tunnel.ErrDead, silent.Round(time.Millisecond)))
			return
		}
	}
}

func (s *session) ping() {
	if rtt, err := s.y.Ping(); err == nil {
		s.link.rtt.Store(int64(rtt))
	}
}

// Info implements tunnel.Session.
func (s *session) Info() tunnel.Info {
	info := s.info
	info.RTT = time.Duration(s.link.rtt.Load())
	return info
}

// Done implements tunnel.Session.
func (s *session) Done() <-chan struct{} { return s.done }

// Err implements tunnel.Session.
func (s *session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close implements tunnel.Session.
func (s *session) Close() error {
	s.finish.Do(func() {
		if s.end(tunnel.ErrClosed) {
			s.link.finish(closeLimit)
		}
		s.link.shut(tunnel.ErrClosed)
		_ = s.y.Close()
	})
	s.work.Wait()
	return nil
}

// fail ends the session and its connection; the first reason counts.
func (s *session) fail(err error) {
	if s.end(err) {
		s.log.Debug("tunnel session ended", "remote", s.info.Remote, "cause", err)
	}
	s.link.shut(err)
}

// end sets the reason why the session is over, unless there is one.
func (s *session) end(err error) (first bool) {
	s.once.Do(func() {
		first = true
		s.err = err
		close(s.done)
	})
	return first
}

// broken ends the session after an error of yamux that leaves it unusable, and
// returns the reason that counts.
func (s *session) broken(err error) error {
	s.fail(fmt.Errorf("tunnel broken: %w", err))
	<-s.done
	return s.err
}
