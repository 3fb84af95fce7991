package tcp

import (
	"net"
	"time"

	"ropeway/protocol/tunnel"
)

// finish sends what was written, says the end, and waits shortly for the other
// side to say it too, so that nothing under way is cut off.
func (l *link) finish(limit time.Duration) {
	deadline := time.Now().Add(limit)
	stop := time.AfterFunc(limit, func() { l.shut(tunnel.ErrClosed) })
	defer stop.Stop()
	l.mu.Lock()
	l.closing = true
	l.space.Broadcast()
	for l.err == nil && (l.buf != nil || l.writing) {
		l.space.Wait()
	}
	broken := l.err != nil
	l.mu.Unlock()
	if broken {
		return
	}
	_ = l.conn.CloseWrite()
	raw := l.conn.NetConn()
	if l.under != nil {
		_ = l.under.hold(false)
		raw = l.under.Conn
	}
	if half, ok := raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	wait := time.NewTimer(time.Until(deadline))
	defer wait.Stop()
	select {
	case <-l.ended:
	case <-wait.C:
	}
}

// shut closes the connection at once; err is what writers get.
func (l *link) shut(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	close(l.quit)
	for _, e := range l.table.streams {
		if e.linger != nil {
			e.linger.Stop()
		}
	}
	l.space.Broadcast()
	l.mu.Unlock()
	raw := l.conn.NetConn()
	if l.under != nil {
		raw = l.under.Conn
	}
	_ = raw.Close()
}

// Close is called by yamux when it ends.
func (l *link) Close() error {
	l.shut(net.ErrClosed)
	return nil
}
