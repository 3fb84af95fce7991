package hub

import (
	"container/list"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what strangers may cost (PROMISES S8).
const (
	maxVisitors = 1024 // connections that have proved nothing yet
	// maxGreeting bounds the bytes of one handshake: a client hello and a chain
	// of four certificates with RSA keys need a quarter of it.
	maxGreeting = 32 << 10
	// graceOfVisitors is how long a connection is safe from being ended for
	// another: a handshake takes milliseconds, whoever waits is waiting.
	graceOfVisitors = time.Second
)

// visitors are the connections of peers that have proved nothing yet: no client
// certificate of an agent, no token. There is room for maxVisitors of them. When
// it is full, the network with the most of them gives way, so that a flood from
// one place keeps nobody else out.
type visitors struct {
	room int

	mu    sync.Mutex
	count int
	from  map[netip.Prefix]*list.List // of *visitor, oldest first
	byTLS map[net.Conn]*visitor
}

func newVisitors(room int) *visitors {
	return &visitors{room: room, from: map[netip.Prefix]*list.List{}, byTLS: map[net.Conn]*visitor{}}
}

// visitor is one of them. All methods may be called on a nil visitor.
type visitor struct {
	*net.TCPConn
	all   *visitors
	from  netip.Prefix
	since time.Time
	place *list.Element // nil once it has left
	tls   net.Conn
	idle  *time.Timer

	greeting atomic.Int64 // bytes that may still be read; below 0 = any
	asking   int          // requests under way, of a stranger
}

var errGreeting = errors.New("the handshake is longer than any agent or browser needs")

// Read bounds the handshake.
func (v *visitor) Read(b []byte) (int, error) {
	left := v.greeting.Load()
	if left < 0 {
		return v.TCPConn.Read(b)
	}
	if left == 0 {
		return 0, errGreeting
	}
	n, err := v.TCPConn.Read(b[:min(int64(len(b)), left)])
	v.greeting.CompareAndSwap(left, left-int64(n))
	return n, err
}

// enter takes a connection in, or returns nil when there is no room for it.
func (a *visitors) enter(raw *net.TCPConn) *visitor {
	v := &visitor{TCPConn: raw, all: a, from: networkOf(raw.RemoteAddr()), since: time.Now()}
	v.greeting.Store(maxGreeting)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count >= a.room && !a.makeRoom(v) {
		return nil
	}
	if a.from[v.from] == nil {
		a.from[v.from] = list.New()
	}
	v.place = a.from[v.from].PushBack(v)
	a.count++
	return v
}

// makeRoom ends the oldest connection of the network that has the most. Within
// one network the newcomer stays out instead, unless the oldest is idling: many
// agents behind one address must not push each other out of their handshakes.
func (a *visitors) makeRoom(for_ *visitor) bool {
	var busiest netip.Prefix
	most := 0
	for from, list := range a.from {
		if list.Len() > most {
			busiest, most = from, list.Len()
		}
	}
	if own := a.from[for_.from]; own != nil && own.Len() == most {
		busiest = for_.from
	}
	oldest := a.from[busiest].Front().Value.(*visitor)
	if busiest == for_.from && time.Since(oldest.since) < graceOfVisitors {
		return false
	}
	a.leave(oldest)
	_ = oldest.Close()
	return true
}

// leave forgets a visitor. The caller holds the lock.
func (a *visitors) leave(v *visitor) {
	if v.place == nil {
		return
	}
	a.count--
	list := a.from[v.from]
	list.Remove(v.place)
	if list.Len() == 0 {
		delete(a.from, v.from)
	}
	v.place = nil
	if v.tls != nil {
		delete(a.byTLS, v.tls)
	}
	if v.idle != nil {
		v.idle.Stop()
	}
}

// len is the number of visitors now.
func (a *visitors) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// of returns the visitor behind a TLS connection; nil when it is none any more.
func (a *visitors) of(conn net.Conn) *visitor {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byTLS[conn]
}

// shakenHands ends the bound of the handshake; the peer is a visitor still.
func (v *visitor) shakenHands(conn *tls.Conn) {
	v.greeting.Store(-1)
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	if v.place != nil {
		v.tls = conn
		v.all.byTLS[conn] = v
	}
}

// known says that the peer has proved who it is, or is gone: it takes no room
// of the strangers any more. Saying it again does nothing.
func (v *visitor) known() {
	if v == nil {
		return
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	v.all.leave(v)
}

// ask counts a request in. A stranger who asks for too much at once is shown the
// door: then it is false.
func (v *visitor) ask() bool {
	if v == nil {
		return true
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	v.asking++
	if v.place == nil || v.asking <= maxStrange {
		return true
	}
	_ = v.Close()
	return false
}

// isStrange reports whether nothing is proved yet.
func (v *visitor) isStrange() bool {
	if v == nil {
		return false
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	return v.place != nil
}

// answered counts a request out.
func (v *visitor) answered() {
	if v == nil {
		return
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	v.asking--
}

// waits ends the connection unless something happens on it in time.
func (v *visitor) waits(d time.Duration) {
	if v == nil {
		return
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	if v.place == nil {
		return
	}
	if v.idle == nil {
		v.idle = time.AfterFunc(d, func() { _ = v.Close() })
	} else {
		v.idle.Reset(d)
	}
}

// speaks says that something happens: whoever serves it bounds the time from now.
func (v *visitor) speaks() {
	if v == nil {
		return
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	if v.idle != nil {
		v.idle.Stop()
	}
}

// networkOf is what one customer usually has: an IPv4 address or an IPv6 /64.
func networkOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}
