// Package uplink keeps one tunnel session from this agent to its hub and never
// gives up. It owns when to connect, the control service on the session and the
// life of each call; it hands steps to a handler and knows nothing of
// connectors, buffers or how a tunnel is dialled.
package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// Causes that end the context of a call (context.Cause).
var (
	// ErrCut says that the session broke. The execution should live on: the hub
	// will run the step again, here if it can, and the new call joins it.
	ErrCut = errors.New("the tunnel to the hub was cut")
	// ErrCancelled says that the hub does not want the result any more.
	ErrCancelled = errors.New("the hub cancelled the step")
)

// Config is what an uplink needs from the agent.
type Config struct {
	// Dial makes a session. It is called again and again; it ends in some
	// seconds at most.
	Dial func(ctx context.Context) (tunnel.Session, error)
	// Better waits until there is a better session than the one described, which
	// works, and returns it; it is asked again when the hub does not take that
	// one. An error says that there never will be. Nil: the first is the best.
	Better func(ctx context.Context, now tunnel.Info) (tunnel.Session, error)
	Hub    string // its address, for State and the log
	Log    *slog.Logger
	// Hello describes the agent. Process, start time and formats are filled in.
	Hello *control.AgentHello
	// Run does a step and returns its answer. Each call has a goroutine of its
	// own; it ends soon after its context does, see ErrCut and ErrCancelled.
	Run func(ctx context.Context, c Call) *control.StepDone
	// Welcome and Settled are told what the hub says, in order; they must be
	// quick. Nil if nobody cares.
	Welcome func(*control.Welcome)
	Settled func(*control.Settled)
	// Buffer gives what to report about the buffer, every BufferEvery (5 s) when
	// it has changed; nil for nothing.
	Buffer      func() *control.BufferState
	BufferEvery time.Duration
	// Health answers the hub's question; nil for "ready".
	Health func() *control.HealthReport
}

// State describes the uplink for people.
type State struct {
	Connected    bool // and welcomed
	Transport    string
	Hub          string
	Since        time.Time // of Connected or of its contrary
	LastError    *fault.Error
	RTT          time.Duration
	ProcessEpoch uint64 // 0 until the first welcome
	Running      int    // calls
}

// Uplink keeps the session.
type Uplink struct {
	cfg   Config
	log   *slog.Logger
	hello *control.AgentHello
	links sync.WaitGroup

	mu       sync.Mutex
	current  *link
	live     map[*link]struct{}
	state    State
	drain    chan struct{} // closed by Drain
	draining bool
}

// New makes an uplink; Run starts it.
func New(cfg Config) *Uplink {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.BufferEvery <= 0 {
		cfg.BufferEvery = 5 * time.Second
	}
	hello := &control.AgentHello{}
	if cfg.Hello != nil {
		hello = proto.Clone(cfg.Hello).(*control.AgentHello)
	}
	if len(hello.Process) == 0 {
		hello.Process = make([]byte, 16)
		_, _ = rand.Read(hello.Process)
	}
	if hello.StartedUs == 0 {
		hello.StartedUs = time.Now().UnixMicro()
	}
	hello.PageFormats = []uint32{control.PageFormat}
	hello.ControlFormats = []uint32{control.Format}
	return &Uplink{
		cfg:   cfg,
		log:   cfg.Log.With("hub", cfg.Hub),
		hello: hello,
		live:  map[*link]struct{}{},
		state: State{Hub: cfg.Hub, Since: time.Now()},
		drain: make(chan struct{}),
	}
}

// Run connects, and connects again, until ctx ends or Drain is done; it returns
// nil. It waits for the calls it started.
func (u *Uplink) Run(ctx context.Context) error {
	defer u.links.Wait()
	var retry backoff
	for {
		if !u.pause(ctx, retry.next()) {
			return nil
		}
		l, err := u.connect(ctx)
		if err != nil {
			retry.failed(err)
			u.down(nil, err)
			continue
		}
		l = u.keep(ctx, l)
		retry.lived(l.welcomed(), l.reason())
	}
}

// pause waits d; false when there is nothing to connect for any more.
func (u *Uplink) pause(ctx context.Context, d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return ctx.Err() == nil && !u.isDraining()
	case <-ctx.Done():
		return false
	case <-u.drain:
		return false
	}
}

// connect makes a session and serves it in the background.
func (u *Uplink) connect(ctx context.Context) (*link, error) {
	session, err := u.cfg.Dial(ctx)
	if err != nil {
		return nil, dialFault(err)
	}
	return u.begin(ctx, session)
}

// begin serves a session in the background.
func (u *Uplink) begin(ctx context.Context, session tunnel.Session) (*link, error) {
	l := newLink(u, session)
	u.mu.Lock()
	if u.draining {
		u.mu.Unlock()
		session.Close()
		return nil, fault.Of("E_DRAINING")
	}
	u.live[l] = struct{}{}
	u.links.Add(1)
	u.mu.Unlock()
	go func() {
		defer u.links.Done()
		l.serve(ctx)
		u.down(l, l.reason())
	}()
	return l, nil
}

// up notes that the hub has welcomed a session.
func (u *Uplink) up(l *link, w *control.Welcome) {
	u.mu.Lock()
	u.current = l
	u.state.Connected, u.state.Since, u.state.LastError = true, time.Now(), nil
	u.state.Transport = l.session.Info().Transport
	u.state.ProcessEpoch = w.GetProcessEpoch()
	u.mu.Unlock()
	u.log.Info("tunnel up", "transport", l.session.Info().Transport, "epoch", w.GetProcessEpoch())
	if u.cfg.Welcome != nil {
		u.cfg.Welcome(w)
	}
}

// down notes that a session has ended, or that none could be made (l nil). The
// end of a session that was replaced changes nothing but its own calls.
func (u *Uplink) down(l *link, err error) {
	f := fault.From(err)
	u.mu.Lock()
	defer u.mu.Unlock()
	if l != nil {
		delete(u.live, l)
	}
	replaced := u.current != nil && u.current != l
	if replaced {
		return
	}
	if u.state.Connected {
		u.state.Since = time.Now()
		u.log.Warn("tunnel down", "cause", f)
	} else if u.state.LastError == nil || u.state.LastError.Error() != f.Error() {
		u.log.Warn("no tunnel", "cause", f)
	}
	u.current = nil
	u.state.Connected, u.state.LastError, u.state.Transport = false, f, ""
}

// State describes the uplink now.
func (u *Uplink) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.state
	if u.current != nil {
		s.RTT = u.current.session.Info().RTT
	}
	for l := range u.live {
		s.Running += l.running()
	}
	return s
}

// drainLimit is how long running calls may take to end.
const drainLimit = 30 * time.Second

// Drain tells the hub that nothing new may start here, waits for the running
// calls (until ctx ends, 30 s at most), closes the session and lets Run end.
func (u *Uplink) Drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	u.mu.Lock()
	if !u.draining {
		u.draining = true
		close(u.drain)
	}
	live := make([]*link, 0, len(u.live))
	for l := range u.live {
		live = append(live, l)
	}
	u.mu.Unlock()
	var closing sync.WaitGroup
	for _, l := range live {
		closing.Go(func() { l.drain(ctx) })
	}
	closing.Wait()
}

func (u *Uplink) isDraining() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.draining
}
