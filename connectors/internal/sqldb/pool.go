package sqldb

import (
	"context"
	"sync"
	"time"
)

// A Session is one connection to a server, used by one request at a time.
type Session interface {
	// Alive reports whether the session still works.
	Alive(ctx context.Context) bool
	// End closes it without waiting long.
	End()
}

const (
	maxIdle    = 26 // sessions per role: the highest level and one probe; idleFor trims
	idleFor    = time.Minute
	trustedFor = time.Second // an idle session is used without a look at it
)

// A Pool keeps the idle sessions of one connection, apart by what they are used
// for.
type Pool[R comparable, S Session] struct {
	mu     sync.Mutex
	idle   map[R][]idleSession[S]
	closed bool
}

type idleSession[S Session] struct {
	session S
	since   time.Time
}

// Take returns an idle session that works.
func (p *Pool[R, S]) Take(ctx context.Context, role R) (session S, ok bool) {
	for {
		found, ok := p.last(role)
		if !ok {
			return session, false
		}
		if time.Since(found.since) < trustedFor || found.session.Alive(ctx) {
			return found.session, true
		}
		found.session.End()
	}
}

func (p *Pool[R, S]) last(role R) (found idleSession[S], ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle[role])
	if n == 0 {
		return found, false
	}
	found = p.idle[role][n-1]
	p.idle[role] = p.idle[role][:n-1]
	return found, true
}

// Give keeps a session whose state is known to be good, and ends those that
// were idle for long.
func (p *Pool[R, S]) Give(role R, session S) {
	p.mu.Lock()
	if p.idle == nil {
		p.idle = map[R][]idleSession[S]{}
	}
	var old []S
	if p.closed || len(p.idle[role]) >= maxIdle {
		old = append(old, session)
	} else {
		p.idle[role] = append(p.idle[role], idleSession[S]{session, time.Now()})
	}
	for len(p.idle[role]) > 0 && time.Since(p.idle[role][0].since) > idleFor {
		old = append(old, p.idle[role][0].session)
		p.idle[role] = p.idle[role][1:]
	}
	p.mu.Unlock()
	for _, s := range old {
		s.End()
	}
}

// Close ends the idle sessions and those that are given from now on.
func (p *Pool[R, S]) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, sessions := range idle {
		for _, s := range sessions {
			s.session.End()
		}
	}
}
