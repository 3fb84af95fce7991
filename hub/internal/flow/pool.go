package flow

import (
	"context"
	"errors"
	"sync"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// idleConnection is how long an unused connector connection stays open.
const idleConnection = 5 * time.Minute

// pool keeps the connector connections that run in this process open between
// requests: one per version of a connection and of its secret. An older version
// is closed as soon as its last request has ended.
type pool struct {
	mu     sync.Mutex
	closed bool
	open   map[poolKey]*pooled
}

type poolKey struct {
	connection      page.ID
	version, secret uint64
}

type pooled struct {
	key   poolKey
	ready chan struct{} // closed once conn or err is set
	conn  connectors.Conn
	err   error
	users int
	used  time.Time
	gone  bool // not handed out any more; the last user closes it
}

func newPool() *pool { return &pool{open: map[poolKey]*pooled{}} }

// take returns an open connection for ep, and how to give it back with the error
// that its request ended with: a connection that failed is not used again.
func (p *pool) take(ctx context.Context, e *Engine, ep *endpoint) (connectors.Conn, func(error), error) {
	_, secret, err := e.secret(ctx, ep)
	if err != nil {
		return nil, nil, err
	}
	key := poolKey{ep.object.ID, ep.object.Version, secret}
	for {
		c, mine, err := p.find(key)
		if err != nil {
			return nil, nil, err
		}
		if mine {
			c.conn, c.err = ep.typ.Open(ctx, e.env(ep), ep.settings)
			close(c.ready)
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
			p.give(c, nil)
			return nil, nil, context.Cause(ctx)
		}
		if c.err == nil {
			return c.conn, func(err error) { p.give(c, err) }, nil
		}
		err = c.err
		p.give(c, errNotOpen)
		if mine || ctx.Err() != nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, nil, err
		}
		// Whoever opened it gave up; that is not this request's trouble.
	}
}

var (
	errNotOpen   = errors.New("connection did not open")
	errPoolEnded = fault.Of("E_DRAINING").WithSource("hub")
)

// find counts a user of the key's connection in; mine says that it must be opened.
func (p *pool) find(key poolKey) (c *pooled, mine bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, errPoolEnded
	}
	for _, other := range p.open {
		if other.key.connection == key.connection && older(other.key, key) {
			p.remove(other)
		}
	}
	c = p.open[key]
	if c == nil {
		c, mine = &pooled{key: key, ready: make(chan struct{})}, true
		p.open[key] = c
	}
	c.users++
	return c, mine, nil
}

// older reports whether a was replaced by b. Requests that began before a change
// may still come with the older key; they open it once more.
func older(a, b poolKey) bool {
	return a.version < b.version || a.version == b.version && a.secret < b.secret
}

// remove takes c out of the pool, and closes it unless someone uses it. The caller
// holds the lock.
func (p *pool) remove(c *pooled) {
	c.gone = true
	if p.open[c.key] == c {
		delete(p.open, c.key)
	}
	if c.users == 0 && c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (p *pool) give(c *pooled, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
	c.used = time.Now()
	if c.gone || p.closed || spoils(err) {
		p.remove(c)
	}
}

// spoils reports whether an error makes a connection suspect.
func spoils(err error) bool {
	switch fault.ClassOf(err) {
	case fault.Connection, fault.Auth, fault.Internal:
		return true
	}
	return false
}

// expire closes connections that nobody used for a while, until ctx ends.
func (p *pool) expire(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.closeOlder(time.Now().Add(-idleConnection))
		}
	}
}

func (p *pool) closeOlder(limit time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		if c.users == 0 && c.used.Before(limit) {
			p.remove(c)
		}
	}
}

func (p *pool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.open {
		p.remove(c)
	}
}
