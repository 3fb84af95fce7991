package uplink

import (
	"context"
	"time"

	"ropeway/protocol/tunnel"
)

// moveRest is how long a session that was moved from still takes calls: what the
// hub sent on it before it knew of the new one arrives within that time.
const moveRest = time.Second

// keep waits until the uplink needs a new session, and returns the one that ended
// or makes way. Meanwhile it moves to a better one if there is any.
func (u *Uplink) keep(ctx context.Context, l *link) *link {
	for {
		seeking, stop := context.WithCancel(ctx)
		better := u.seek(seeking, l)
		select {
		case session := <-better:
			l = u.move(ctx, l, session)
		case <-l.yield:
			stop()
			return l
		case <-ctx.Done():
			stop()
			l.end(context.Cause(ctx))
			return l
		case <-u.drain:
			stop()
			return l
		}
		stop()
	}
}

// seek asks for a better session once the hub has taken l. It sends one at most,
// and closes one that nobody waits for any more.
func (u *Uplink) seek(ctx context.Context, l *link) <-chan tunnel.Session {
	better := make(chan tunnel.Session)
	if u.cfg.Better == nil {
		return better
	}
	u.mu.Lock()
	u.links.Add(1)
	u.mu.Unlock()
	go func() {
		defer u.links.Done()
		select {
		case <-l.taken:
		case <-ctx.Done():
			return
		}
		session, err := u.cfg.Better(ctx, l.session.Info())
		if err != nil {
			return
		}
		select {
		case better <- session:
		case <-ctx.Done():
			session.Close()
		}
	}()
	return better
}

// move makes before it breaks: the old session goes on until the hub has taken
// the new one, and then until its calls have ended. It returns the session to
// keep.
func (u *Uplink) move(ctx context.Context, old *link, session tunnel.Session) *link {
	next, err := u.begin(ctx, session)
	if err != nil {
		return old
	}
	select {
	case <-next.taken:
	case <-next.yield: // not taken: all is as it was
		u.log.Info("the hub did not take the better tunnel", "cause", next.reason())
		return old
	case <-old.yield: // nothing to lose any more
		return next
	case <-ctx.Done():
		return next
	case <-u.drain:
		return next
	}
	u.mu.Lock()
	u.links.Add(1)
	u.mu.Unlock()
	go func() {
		defer u.links.Done()
		rest := time.NewTimer(moveRest)
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-old.gone:
			return
		}
		leaving, cancel := context.WithTimeout(ctx, drainLimit)
		defer cancel()
		old.drain(leaving)
	}()
	return next
}
