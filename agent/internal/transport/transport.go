// Package transport chooses what the tunnel runs over: TCP, QUIC, or TCP first
// and QUIC once it is known to work. It owns that choice and what was learned of
// each network; it knows neither how a tunnel is dialled nor who keeps it.
package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// The settings an administrator may choose from.
const (
	Auto = "auto"
	TCP  = "tcp"
	QUIC = "quic"
)

// Dial makes a session over one transport.
type Dial func(ctx context.Context) (tunnel.Session, error)

// Config is what a choice is made of.
type Config struct {
	Setting   string // Auto, TCP or QUIC
	TCP, QUIC Dial
	Log       *slog.Logger
}

// Times of Auto.
const (
	// settle is how long a new TCP session is left alone before QUIC is tried,
	// up to three times of it: after a restart of the hub all agents come at once.
	settle = time.Second
	// After a failure QUIC is left alone for retryFirst, then twice as long each
	// time. A QUIC session that ended before steady was a failure too.
	retryFirst = time.Minute
	retryMost  = time.Hour
	steady     = 10 * time.Minute
	// maxNetworks bounds what is remembered.
	maxNetworks = 64
)

// Choice makes sessions by the setting. Its methods may be called concurrently.
type Choice struct {
	cfg Config

	mu       sync.Mutex
	networks map[string]*network
	last     *trial // the QUIC session handed out last, until it has been judged
}

// network is what is known about QUIC where this machine has a certain address.
type network struct {
	failures int
	notUntil time.Time
}

type trial struct {
	network string
	began   time.Time
}

// New makes a choice; it dials nothing.
func New(cfg Config) *Choice {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Choice{cfg: cfg, networks: map[string]*network{}}
}

// Dial makes a session: the quickest way to a tunnel that works.
func (c *Choice) Dial(ctx context.Context) (tunnel.Session, error) {
	if c.cfg.Setting != QUIC {
		return c.cfg.TCP(ctx)
	}
	session, err := c.cfg.QUIC(ctx)
	if err != nil {
		return nil, forced(err)
	}
	return session, nil
}

// forced words the failure of the only transport allowed. What the hub itself
// said stays as it is.
func forced(err error) error {
	var known *fault.Error
	var alert *net.OpError
	if errors.As(err, &known) || errors.As(err, &alert) && alert.Op == "remote error" {
		return err
	}
	return fault.New(fault.Connection, "E_UNREACHABLE", "the hub cannot be reached over QUIC").WithSource("agent").
		WithCause(err).WithFix("let UDP through to the port of the hub, or choose --transport auto or tcp")
}

// Better waits until there is a better session than the one described: under Auto
// a QUIC session for one over TCP. A session over QUIC, or a forced one, is never
// bettered; then Better waits for the end of ctx, which is its only error.
func (c *Choice) Better(ctx context.Context, now tunnel.Info) (tunnel.Session, error) {
	if c.cfg.Setting != Auto || now.Transport != TCP {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	c.judge()
	here := networkOf(now.Local)
	wait := settle + rand.N(2*settle)
	for {
		if err := pause(ctx, max(wait, c.rest(here))); err != nil {
			return nil, err
		}
		wait = 0
		session, err := c.cfg.QUIC(ctx)
		if ctx.Err() != nil {
			if err == nil {
				session.Close()
			}
			return nil, context.Cause(ctx)
		}
		if err == nil {
			c.begin(here)
			return session, nil
		}
		next := c.failed(here)
		c.cfg.Log.Info("quic does not work here; staying with tcp", "cause", err, "again", next.Round(time.Second))
	}
}

// begin notes that a QUIC session was handed out.
func (c *Choice) begin(network string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = &trial{network: network, began: time.Now()}
}

// judge looks back at the last QUIC session. Being asked for a better one than
// TCP means that it has ended, or was never taken.
func (c *Choice) judge() {
	c.mu.Lock()
	last := c.last
	c.last = nil
	if last != nil && time.Since(last.began) >= steady {
		delete(c.networks, last.network) // it did well: this is a first failure
	}
	c.mu.Unlock()
	if last == nil {
		return
	}
	lived := time.Since(last.began).Round(time.Second)
	next := c.failed(last.network)
	c.cfg.Log.Info("quic has ended; going on with tcp", "lived", lived, "again", next.Round(time.Second))
}

// failed counts a failure and returns how long QUIC is left alone.
func (c *Choice) failed(name string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.networks[name]
	if n == nil {
		c.makeRoom()
		n = &network{}
		c.networks[name] = n
	}
	n.failures++
	wait := retryMost
	if n.failures < 8 {
		wait = min(retryMost, retryFirst<<(n.failures-1))
	}
	wait += rand.N(wait / 5)
	n.notUntil = time.Now().Add(wait)
	return wait
}

// makeRoom forgets the network whose rest ends first.
func (c *Choice) makeRoom() {
	if len(c.networks) < maxNetworks {
		return
	}
	first := ""
	for name, n := range c.networks {
		if first == "" || n.notUntil.Before(c.networks[first].notUntil) {
			first = name
		}
	}
	delete(c.networks, first)
}

// rest is how long QUIC is still left alone in a network.
func (c *Choice) rest(name string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.networks[name]; n != nil {
		return time.Until(n.notUntil)
	}
	return 0
}

// networkOf tells networks apart by the address this machine has there.
func networkOf(local string) string {
	host, _, err := net.SplitHostPort(local)
	if err != nil {
		return local
	}
	return host
}

func pause(ctx context.Context, d time.Duration) error {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
