package flow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// loginFresh is how long a login is taken for good after it last worked.
const loginFresh = time.Minute

// logins keeps bursts of rejected logins from accounts (SEMANTICS §3.7): while it
// is not known that a connection's credential works, one request tries it and the
// others of the connection wait for what comes of it.
type logins struct {
	clock func() time.Time

	mu  sync.Mutex
	all map[page.ID]*login
}

type login struct {
	version string    // of connection and secret
	worked  time.Time // last
	trying  bool
	changed chan struct{} // closed and replaced at the end of a try
}

func newLogins(clock func() time.Time) *logins {
	return &logins{clock: clock, all: map[page.ID]*login{}}
}

// enter waits until the connection's credential may be used. tries says that this
// caller tries it: it must call worked or leave. again says that the caller waited
// and should look at the connection again.
func (l *logins) enter(ctx context.Context, id page.ID, version string) (tries, again bool, err error) {
	l.mu.Lock()
	c := l.all[id]
	if c == nil {
		c = &login{changed: make(chan struct{})}
		l.all[id] = c
	}
	if c.version != version && !c.trying {
		c.version, c.worked = version, time.Time{}
	}
	changed := c.changed
	if c.version == version && l.clock().Sub(c.worked) < loginFresh {
		l.mu.Unlock()
		return false, false, nil
	}
	if !c.trying {
		c.trying = true
		l.mu.Unlock()
		return true, false, nil
	}
	l.mu.Unlock()
	select {
	case <-changed:
		return false, true, nil
	case <-ctx.Done():
		return false, false, context.Cause(ctx)
	}
}

// worked says that a request got past the login; others go on.
func (l *logins) worked(id page.ID, version string, tried bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.all[id]
	if c == nil {
		return
	}
	if c.version == version {
		c.worked = l.clock()
	}
	c.end(tried)
}

// leave ends a try of which nothing is known, or nothing good.
func (l *logins) leave(id page.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.all[id]; c != nil {
		c.end(true)
	}
}

// end lets those who wait look again. The caller holds the lock.
func (c *login) end(tried bool) {
	if tried {
		c.trying = false
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// rejected forgets that a login worked.
func (l *logins) rejected(id page.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.all[id]; c != nil {
		c.worked = time.Time{}
	}
}

// pastLogin reports whether a request that ended with err got past the login.
func pastLogin(err error) bool {
	switch c := fault.ClassOf(err); c {
	case "", fault.SchemaDrift:
		return true
	default:
		return c.Parks()
	}
}

// logIn is called before a request over ep. It returns when the request may use
// the credential; a connection that went offline meanwhile is errOffline. done is
// called with what came of the request, as soon as it is known; w.end ends what is
// left of it.
func (e *Engine) logIn(ctx context.Context, w *work, ep *endpoint) (done func(error), err error) {
	if ep.credential == nil {
		return func(error) {}, nil
	}
	id := ep.object.ID
	for {
		_, secret, err := e.secret(ctx, ep)
		if err != nil {
			return nil, err
		}
		version := fmt.Sprintf("%d/%d", ep.object.Version, secret)
		tries, again, err := e.logins.enter(ctx, id, version)
		if err != nil {
			return nil, err
		}
		if again {
			if err := e.online(ctx, w.scope, id); err != nil {
				return nil, err
			}
			continue
		}
		var once sync.Once
		if tries {
			// Not before the reaction: those who wait must find the connection offline.
			w.atEnd = append(w.atEnd, func() { once.Do(func() { e.logins.leave(id) }) })
		}
		return func(err error) {
			switch {
			case pastLogin(err):
				ran := false
				once.Do(func() { ran = true; e.logins.worked(id, version, tries) })
				if !ran {
					e.logins.worked(id, version, false)
				}
			case fault.ClassOf(err) == fault.Auth:
				e.logins.rejected(id)
			}
		}, nil
	}
}

// online is errOffline unless the connection is online.
func (e *Engine) online(ctx context.Context, s store.Scope, id page.ID) error {
	state, err := e.Connections.State(ctx, s, id)
	if err == nil && state.State != model.Online {
		err = errOffline
	}
	return err
}
