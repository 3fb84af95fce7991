package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

const (
	welcomeLimit = 20 * time.Second // from the session to the hub's welcome
	openingLimit = 10 * time.Second // for the first bytes of a stream
)

// A link is one session and what runs on it.
type link struct {
	u       *Uplink
	session tunnel.Session
	log     *slog.Logger
	server  *grpc.Server
	conns   *streamListener
	out     *control.Outbox[*control.ToHub]
	bodies  bodies
	yield   chan struct{} // closed when the uplink should make a new session
	gone    chan struct{} // closed when the session has ended
	taken   chan struct{} // closed at the hub's welcome

	mu         sync.Mutex
	working    bool // the Work call came
	welcomedAt time.Time
	draining   bool
	yielded    bool
	cause      error
	calls      map[uint64]*call
	idle       chan struct{} // closed and replaced when a call ends
	work       sync.WaitGroup
}

func newLink(u *Uplink, session tunnel.Session) *link {
	l := &link{
		u:       u,
		session: session,
		log:     u.log,
		conns:   newStreamListener(session.Info()),
		out:     control.NewOutbox[*control.ToHub](),
		yield:   make(chan struct{}),
		gone:    make(chan struct{}),
		taken:   make(chan struct{}),
		calls:   map[uint64]*call{},
		idle:    make(chan struct{}),
	}
	l.bodies.waiting = map[uint64]*body{}
	l.server = grpc.NewServer(
		grpc.MaxRecvMsgSize(control.MaxMessage),
		grpc.MaxConcurrentStreams(16),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(openingLimit),
		grpc.ReadBufferSize(8<<10),
		grpc.WaitForHandlers(true),
	)
	control.RegisterAgentServer(l.server, &service{link: l})
	return l
}

// serve runs the session until it ends.
func (l *link) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
	defer stop()
	welcome := time.AfterFunc(welcomeLimit, func() {
		if l.welcomed().IsZero() {
			l.end(fault.New(fault.Connection, "E_UNREACHABLE", "the hub took the connection and said nothing"))
		}
	})
	defer welcome.Stop()
	l.work.Go(func() { _ = l.server.Serve(l.conns) })
	l.work.Go(l.reportBuffer)
	for {
		st, err := l.session.Accept(context.Background())
		if err != nil {
			l.end(l.broken())
			break
		}
		l.work.Go(func() { l.dispatch(st) })
	}
	l.session.Close()
	l.server.Stop()
	l.bodies.close()
	l.work.Wait()
}

// broken reads why the session ended.
func (l *link) broken() error {
	err := l.session.Err()
	if l.welcomed().IsZero() {
		return dialFault(err)
	}
	return fault.New(fault.Connection, "E_TUNNEL_CUT", "the tunnel to the hub was cut").
		WithSource("agent").WithCause(err)
}

// dispatch reads what a stream is and hands it on. Only the hub opens streams,
// and only of the two kinds that an agent expects.
func (l *link) dispatch(st tunnel.Stream) {
	_ = st.SetReadDeadline(time.Now().Add(openingLimit))
	o, err := tunnel.ReadOpening(st)
	if err != nil {
		l.log.Debug("stream refused", "cause", err)
		_ = st.Reset()
		return
	}
	_ = st.SetReadDeadline(time.Time{})
	switch o.Kind {
	case tunnel.Control:
		l.conns.give(tunnel.NetConn(st, l.session.Info()))
	case tunnel.Step:
		l.bodies.arrived(o.ID, st)
	default:
		l.log.Debug("stream refused", "kind", o.Kind)
		_ = st.Reset()
	}
}

// end ends the session; the first cause counts. Calls are told that they were
// cut.
func (l *link) end(cause error) {
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return
	}
	l.cause = cause
	close(l.gone)
	for _, c := range l.calls {
		c.cancel(fmt.Errorf("%w: %w", ErrCut, cause))
	}
	l.yieldLocked()
	l.mu.Unlock()
	go l.session.Close()
}

func (l *link) yieldLocked() {
	if !l.yielded {
		l.yielded = true
		close(l.yield)
	}
}

// reason is why the session ended, nil while it lives.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// welcomed is when the hub took the session; zero if it has not.
func (l *link) welcomed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.welcomedAt
}

func (l *link) isDraining() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

func (l *link) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls)
}

// drain lets the calls end and closes the session.
func (l *link) drain(ctx context.Context) {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	l.out.Put(&control.ToHub{Message: &control.ToHub_Draining{Draining: &control.Draining{}}})
	for l.waitIdle(ctx) {
	}
	l.out.Close() // Work returns when all answers are sent
	stopped := make(chan struct{})
	go func() { defer close(stopped); l.server.GracefulStop() }()
	select {
	case <-stopped:
	case <-l.gone:
	case <-time.After(2 * time.Second):
	}
	l.end(fault.Of("E_DRAINING").WithSource("agent"))
}

// waitIdle waits until one call ends; false when none runs or time is up.
func (l *link) waitIdle(ctx context.Context) bool {
	l.mu.Lock()
	idle, running := l.idle, len(l.calls)
	l.mu.Unlock()
	if running == 0 {
		return false
	}
	select {
	case <-idle:
		return true
	case <-l.gone:
	case <-ctx.Done():
	}
	return false
}

// A streamListener feeds gRPC the control streams of one session.
type streamListener struct {
	info  tunnel.Info
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newStreamListener(info tunnel.Info) *streamListener {
	return &streamListener{info: info, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (s *streamListener) give(c net.Conn) {
	select {
	case s.conns <- c:
	case <-s.done:
		c.Close()
	}
}

func (s *streamListener) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, errors.New("session ended")
	}
}

func (s *streamListener) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *streamListener) Addr() net.Addr { return tunnel.NetConn(nil, s.info).LocalAddr() }
