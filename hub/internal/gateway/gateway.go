// Package gateway owns the sessions of agents at this replica: who is here, as
// which process, and how a step gets to an agent and its pages and answer back.
// It does not know flows, queues or the store; its user hands it what a page or
// a resume means, and it hands back what the agent said.
package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ropeway/certs"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Config is what a gateway needs from the hub.
type Config struct {
	Log     *slog.Logger
	Version string // of the hub, told to agents
	// Hello looks an agent up and issues the epoch of its process: the same for
	// the same process, a higher one for each new process. An error refuses the
	// session; a class auth keeps the agent away for longer.
	Hello func(ctx context.Context, id certs.Identity, process []byte) (AgentInfo, error)
	// OnChange is told, outside of any lock, when an agent came, went or drains;
	// nil if nobody cares.
	OnChange func(tenant, environment, group page.ID)
}

// AgentInfo is what the hub knows about an agent when it says hello.
type AgentInfo struct {
	Name      string
	Group     page.ID
	GroupName string
	Epoch     uint64 // of the process
}

// A Presence describes one session.
type Presence struct {
	Tenant, Environment, Agent page.ID
	Name                       string
	Group                      page.ID
	GroupName                  string
	Transport, Remote          string
	Since                      time.Time
	Epoch                      uint64
	Version                    string
	OS, Arch, Hostname         string
	Connectors                 []string
	RTT                        time.Duration
	Running                    int // calls
	Draining                   bool
	Buffer                     Buffer
}

// Buffer is what waits in an agent's buffer, as it last said.
type Buffer struct {
	Pages, Bytes, Unacked, Quota uint64
	Oldest                       time.Time // zero when it is empty
}

// Gateway owns the sessions. Its methods may be called concurrently.
type Gateway struct {
	cfg Config
	log *slog.Logger

	mu       sync.Mutex
	arriving map[*peer]struct{}  // sessions that are being looked up
	groups   map[page.ID][]*peer // living sessions
	epochs   map[page.ID]uint64  // highest epoch seen of each agent
	ran      affinity
	draining bool
	changed  chan struct{} // replaced and closed when a call or session ends
}

// New makes a gateway without sessions.
func New(cfg Config) *Gateway {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(_, _, _ page.ID) {}
	}
	return &Gateway{
		cfg:      cfg,
		log:      cfg.Log,
		arriving: map[*peer]struct{}{},
		groups:   map[page.ID][]*peer{},
		epochs:   map[page.ID]uint64{},
		changed:  make(chan struct{}),
	}
}

// Online reports whether an agent of the group would take work now.
func (g *Gateway) Online(group page.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.draining && slices.ContainsFunc(g.groups[group], (*peer).takesWork)
}

// Agents lists the sessions, by name.
func (g *Gateway) Agents() []Presence {
	var list []Presence
	for _, p := range g.peers(func(*peer) bool { return true }) {
		list = append(list, p.presence())
	}
	slices.SortFunc(list, func(a, b Presence) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since))
	})
	return list
}

// Close ends all sessions of an agent and tells it why, those too that were
// looked up before and are not registered yet. Its running calls end with
// E_TUNNEL_CUT. It may come back unless Hello or TLS refuses it.
func (g *Gateway) Close(agent page.ID, cause error) {
	g.mu.Lock()
	var list []*peer
	for p := range g.arriving {
		if p.id.Agent == agent {
			list = append(list, p)
		}
	}
	for _, group := range g.groups {
		for _, p := range group {
			if p.id.Agent == agent {
				list = append(list, p)
			}
		}
	}
	g.mu.Unlock()
	for _, p := range list {
		p.dismiss(fault.From(cause))
	}
}

// Settled tells the agents of a group that every page of a chain below seq has
// run through its whole flow. Marks of one chain that have not left yet are
// replaced by the newest.
func (g *Gateway) Settled(group page.ID, chain page.Chain, epoch page.Epoch, seq uint64) {
	for _, p := range g.peers(func(p *peer) bool { return p.info.Group == group }) {
		p.settle(&control.Settled{Job: chain.Job[:], Step: chain.Step, Epoch: epoch[:], Seq: seq})
	}
}

// Drain asks all agents to connect elsewhere, takes no new sessions or calls,
// waits until no call runs or ctx ends, and closes the sessions.
func (g *Gateway) Drain(ctx context.Context) {
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	everybody := func(*peer) bool { return true }
	for _, p := range g.peers(everybody) {
		p.send(&control.ToAgent{Message: &control.ToAgent_Drain{Drain: &control.Drain{RetryAfterMs: 1000}}})
	}
	for g.waitChange(ctx, func() bool { return g.runningLocked() > 0 }) {
	}
	for _, p := range g.peers(everybody) {
		p.end(fault.Of("E_DRAINING"))
	}
}

// waitChange waits for one change while busy says so; false when it is over.
func (g *Gateway) waitChange(ctx context.Context, busy func() bool) bool {
	g.mu.Lock()
	changed, more := g.changed, busy()
	g.mu.Unlock()
	if !more {
		return false
	}
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *Gateway) runningLocked() (n int) {
	for _, group := range g.groups {
		for _, p := range group {
			n += p.running()
		}
	}
	return n
}

func (g *Gateway) peers(want func(*peer) bool) []*peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*peer
	for _, group := range g.groups {
		for _, p := range group {
			if want(p) {
				list = append(list, p)
			}
		}
	}
	return list
}

func (g *Gateway) signal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.changed)
	g.changed = make(chan struct{})
}
