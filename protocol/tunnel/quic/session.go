package quic

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"ropeway/protocol/tunnel"
)

// grace is how long a stream beyond the cap may wait for a place. Unlike over
// TCP, the end of an older stream may arrive after the beginning of a newer one.
const grace = 250 * time.Millisecond

// session is a tunnel.Session over one QUIC connection.
type session struct {
	conn    *quic.Conn
	opt     Options
	info    tunnel.Info
	log     *slog.Logger
	release func() // ends the socket of a dialled session

	slots    chan struct{} // one per live stream opened by this side
	places   chan struct{} // one per live stream opened by the other side
	accepted chan *stream
	byeSeen  chan struct{} // closed when the other side says goodbye

	mu      sync.Mutex
	streams map[*stream]struct{}
	opened  uint64        // streams that this side opened, ever
	arrived uint64        // streams that the other side opened, ever
	news    chan struct{} // closed and replaced when arrived grows
	err     error         // why it ended; set before done is closed
	done    chan struct{}

	finish sync.Once
	work   sync.WaitGroup
}

func newSession(conn *quic.Conn, opt Options, release func()) (*session, error) {
	state := conn.ConnectionState()
	if err := checkHandshake(state); err != nil {
		return nil, err
	}
	s := &session{
		conn:     conn,
		opt:      opt,
		log:      opt.Log,
		release:  release,
		slots:    make(chan struct{}, opt.Streams),
		places:   make(chan struct{}, opt.Streams),
		accepted: make(chan *stream, opt.Streams),
		byeSeen:  make(chan struct{}),
		streams:  map[*stream]struct{}{},
		news:     make(chan struct{}),
		done:     make(chan struct{}),
		info: tunnel.Info{
			Transport: "quic",
			Local:     conn.LocalAddr().String(),
			Remote:    conn.RemoteAddr().String(),
			TLS:       state.TLS,
			Opened:    time.Now(),
		},
	}
	s.work.Go(s.acceptLoop)
	s.work.Go(s.hearGoodbye)
	s.work.Go(s.watch)
	return s, nil
}

// watch ends the session with its connection.
func (s *session) watch() {
	<-s.conn.Context().Done()
	why := cause(context.Cause(s.conn.Context()))
	if s.end(why) {
		s.log.Debug("tunnel session ended", "remote", s.info.Remote, "cause", why)
	}
	if s.release != nil {
		s.release()
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
	q, err := s.conn.OpenStreamSync(ctx)
	if err != nil {
		<-s.slots
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open stream: %w", context.Cause(ctx))
		}
		return nil, s.broken()
	}
	s.mu.Lock()
	s.opened++
	s.mu.Unlock()
	st := newStream(s, q, true)
	// It fits into the first packet, so this does not wait.
	if _, err := q.Write([]byte{greeting}); err != nil {
		_ = st.Reset()
		return nil, st.translate(err)
	}
	return st, nil
}

// Accept implements tunnel.Session. Streams that were reset before anybody asked
// for them are passed over.
func (s *session) Accept(ctx context.Context) (tunnel.Stream, error) {
	for {
		select { // what came before the end goes first
		case st := <-s.accepted:
			if st.over() == nil {
				return st, nil
			}
			continue
		default:
		}
		select {
		case st := <-s.accepted:
			if st.over() == nil {
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
		q, err := s.conn.AcceptStream(context.Background())
		if err != nil {
			return // the connection has ended: watch says why
		}
		if s.place() {
			select {
			case s.accepted <- newStream(s, q, false):
			case <-s.done:
			}
		} else {
			q.CancelRead(codeReset)
			q.CancelWrite(codeReset)
		}
		s.mu.Lock()
		s.arrived++
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
}

// place takes one of the places for streams of the other side; false if there is
// none.
func (s *session) place() bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
	}
	wait := time.NewTimer(grace)
	defer wait.Stop()
	select {
	case s.places <- struct{}{}:
		return true
	case <-wait.C:
	case <-s.done:
	}
	return false
}

// Info implements tunnel.Session.
func (s *session) Info() tunnel.Info {
	info := s.info
	info.RTT = s.conn.ConnectionStats().LatestRTT
	return info
}

// Done implements tunnel.Session.
func (s *session) Done() <-chan struct{} { return s.done }

// Err implements tunnel.Session.
func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// end sets the reason why the session is over, unless there is one.
func (s *session) end(err error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.err = err
	close(s.done)
	return true
}

// broken waits for the reason why the connection failed.
func (s *session) broken() error {
	<-s.done
	return fmt.Errorf("stream broken: %w", s.err)
}

// spawn runs f beside the session; not any more once the session has ended.
func (s *session) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.work.Go(f)
	}
}

func (s *session) live() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		list = append(list, st)
	}
	return list
}
