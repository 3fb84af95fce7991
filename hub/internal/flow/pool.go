package flow

import (
	"context"
	"strconv"
	"sync"
	"time"

	"ropeway/connectors"
)

// idleConnection is how long an unused connector connection stays open.
const idleConnection = 5 * time.Minute

// pool keeps the connector connections that run in this process open between
// requests: one per version of a connection and of its secret.
type pool struct {
	mu   sync.Mutex
	open map[string]*pooled
}

type pooled struct {
	ready chan struct{} // closed once conn or err is set
	conn  connectors.Conn
	err   error
	users int
	used  time.Time
}

func newPool() *pool { return &pool{open: map[string]*pooled{}} }

// take returns an open connection for ep; release gives it back. A connection
// that could not be opened is forgotten, so that the next request tries again.
func (p *pool) take(ctx context.Context, e *Engine, ep *endpoint) (connectors.Conn, func(), error) {
	_, version, err := e.secret(ctx, ep)
	if err != nil {
		return nil, nil, err
	}
	key := ep.object.ID.String() + "/" + strconv.FormatUint(ep.object.Version, 10) + "/" +
		strconv.FormatUint(version, 10)
	p.mu.Lock()
	c, found := p.open[key]
	if !found {
		c = &pooled{ready: make(chan struct{})}
		p.open[key] = c
	}
	c.users++
	p.mu.Unlock()
	if !found {
		c.conn, c.err = ep.typ.Open(ctx, e.env(ep), ep.settings)
		close(c.ready)
	}
	select {
	case <-c.ready:
	case <-ctx.Done():
		p.give(key, c)
		return nil, nil, ctx.Err()
	}
	if c.err != nil {
		p.forget(key, c)
		return nil, nil, c.err
	}
	return c.conn, func() { p.give(key, c) }, nil
}

func (p *pool) give(_ string, c *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
	c.used = time.Now()
}

func (p *pool) forget(key string, c *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] == c {
		delete(p.open, key)
	}
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
	for key, c := range p.open {
		if c.users == 0 && c.conn != nil && c.used.Before(limit) {
			c.conn.Close()
			delete(p.open, key)
		}
	}
}

func (p *pool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, c := range p.open {
		if c.conn != nil {
			c.conn.Close()
		}
		delete(p.open, key)
	}
}
