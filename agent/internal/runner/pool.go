package runner

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// connection says which endpoint account a step uses. Steps with the same key
// share one open connection; a changed setting or secret makes another.
type connection struct {
	key        connKey
	credential credential
}

type connKey struct {
	id         page.ID
	settings   [32]byte
	credential [32]byte
}

func newConnection(id page.ID, m *control.Connection) (connection, error) {
	c, err := newCredential(m.GetCredential())
	if err != nil {
		return connection{}, err
	}
	return connection{credential: c, key: connKey{
		id:         id,
		settings:   sha256.Sum256(append([]byte(m.GetConnector()+"\x00"), m.GetSettingsJson()...)),
		credential: c.hash(),
	}}, nil
}

// hash tells credentials apart without keeping them.
func (c credential) hash() [32]byte {
	h := sha256.New()
	for _, k := range append([]string{c.site}, slices.Sorted(maps.Keys(c.fields))...) {
		h.Write([]byte(k))
		h.Write([]byte{0})
		h.Write([]byte(c.fields[k]))
		h.Write([]byte{0})
	}
	return [32]byte(h.Sum(nil))
}

// pool keeps connections open between requests.
type pool struct {
	log *slog.Logger

	mu     sync.Mutex
	closed bool
	open   map[connKey]*pooled
}

// pooled is one connection, being opened or open.
type pooled struct {
	ready chan struct{} // closed when conn or err is set
	conn  connectors.Conn
	err   error
	users int
	idle  *time.Timer
	gone  bool // not handed out any more; the last user closes it
}

func newPool(log *slog.Logger) *pool { return &pool{log: log, open: map[connKey]*pooled{}} }

// opener opens a connection.
type opener func(context.Context) (connectors.Conn, error)

// take returns an open connection of k and how to give it back, with the error
// that its request ended with: a connection that failed is not used again.
func (p *pool) take(ctx context.Context, k connKey, open opener) (connectors.Conn, func(error), error) {
	for {
		c, mine, err := p.find(k)
		if err != nil {
			return nil, nil, err
		}
		if mine {
			c.conn, c.err = open(ctx)
			close(c.ready)
		}
		back := func(err error) { p.back(k, c, err) }
		select {
		case <-c.ready:
		case <-ctx.Done():
			back(nil)
			return nil, nil, context.Cause(ctx)
		}
		if c.err == nil {
			return c.conn, back, nil
		}
		err = c.err
		back(errOpen)
		if mine || !errors.Is(err, context.Canceled) || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}

// errOpen spoils a connection that never opened.
var errOpen = errors.New("connection did not open")

// find counts a user of k's connection in; mine says that it must be opened.
func (p *pool) find(k connKey) (c *pooled, mine bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, errClosing()
	}
	c, ok := p.open[k]
	if !ok {
		c = &pooled{ready: make(chan struct{})}
		p.open[k] = c
	}
	c.users++
	if c.idle != nil {
		c.idle.Stop()
		c.idle = nil
	}
	return c, !ok, nil
}

func (p *pool) back(k connKey, c *pooled, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
	if spoils(err) || p.closed {
		p.remove(k, c)
	}
	switch {
	case c.users > 0:
	case c.gone:
		p.shut(c)
	default:
		c.idle = time.AfterFunc(idleClose, func() { p.expire(k, c) })
	}
}

// spoils reports whether an error makes a connection suspect.
func spoils(err error) bool {
	switch fault.ClassOf(err) {
	case fault.Connection, fault.Auth, fault.Intermittent, fault.Internal, fault.Policy:
		return true
	}
	return false
}

func (p *pool) expire(k connKey, c *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.users > 0 || c.gone {
		return
	}
	p.remove(k, c)
	p.shut(c)
}

// remove takes c out of the pool. The caller holds the lock.
func (p *pool) remove(k connKey, c *pooled) {
	c.gone = true
	if p.open[k] == c {
		delete(p.open, k)
	}
}

// shut closes c, which nobody uses. The caller holds the lock.
func (p *pool) shut(c *pooled) {
	if c.conn == nil {
		return
	}
	conn := c.conn
	c.conn = nil
	if err := conn.Close(); err != nil {
		p.log.Warn("connection not closed cleanly", "error", fault.From(err))
	}
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for k, c := range p.open {
		if c.idle != nil {
			c.idle.Stop()
		}
		p.remove(k, c)
		if c.users == 0 && c.conn != nil {
			errs = append(errs, c.conn.Close())
			c.conn = nil
		}
	}
	return errors.Join(errs...)
}

// connect takes the connection of a step. The policy stands inside every dial
// and every path of it, for as long as it is open.
func (r *Runner) connect(ctx context.Context, s *step) (connectors.Conn, func(error), error) {
	wish := s.wish()
	env := connectors.Env{
		Dial: r.config.Policy.Dialer(wish),
		Path: r.config.Policy.Path(wish),
		Secret: func(ctx context.Context) (map[string]string, error) {
			return r.secret(ctx, s.connection.credential)
		},
		Clock: r.config.Clock,
		Log:   r.config.Log.With("connection", s.connection.key.id.String()),
	}
	return r.conns.take(ctx, s.connection.key, func(ctx context.Context) (connectors.Conn, error) {
		return s.connector.Open(ctx, env, s.settings)
	})
}

func (r *Runner) secret(ctx context.Context, c credential) (map[string]string, error) {
	if c.site == "" {
		return maps.Clone(c.fields), nil
	}
	if r.config.Site == nil {
		return nil, fault.Of("E_NO_CREDENTIAL").WithSource("agent").WithCause("this agent keeps no credentials")
	}
	return r.config.Site(ctx, c.site)
}
