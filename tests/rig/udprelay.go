package rig

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// UDPRelay passes datagrams between agents and a hub, all on loopback, until it
// is told to drop them.
type UDPRelay struct {
	near   *net.UDPConn
	target *net.UDPAddr
	drop   atomic.Bool
	work   sync.WaitGroup

	mu  sync.Mutex
	far map[string]*net.UDPConn // a socket to the hub for each agent
}

// NewUDPRelay listens on the address listen (that of a Relay: agents find both
// under one port number) and forwards to target.
func NewUDPRelay(listen, target string) (*UDPRelay, error) {
	here, err := net.ResolveUDPAddr("udp", listen)
	if err != nil {
		return nil, err
	}
	r := &UDPRelay{far: map[string]*net.UDPConn{}}
	if r.target, err = net.ResolveUDPAddr("udp", target); err != nil {
		return nil, err
	}
	if r.near, err = net.ListenUDP("udp", here); err != nil {
		return nil, err
	}
	_ = r.near.SetReadBuffer(4 << 20)
	r.work.Go(r.outward)
	return r, nil
}

// Drop lets nothing pass any more, without any sign of it.
func (r *UDPRelay) Drop() { r.drop.Store(true) }

// Pass lets datagrams through again.
func (r *UDPRelay) Pass() { r.drop.Store(false) }

// Close ends the relay.
func (r *UDPRelay) Close() {
	r.near.Close()
	r.mu.Lock()
	for _, socket := range r.far {
		socket.Close()
	}
	r.far = nil
	r.mu.Unlock()
	r.work.Wait()
}

func (r *UDPRelay) outward() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.near.ReadFromUDP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || r.drop.Load() {
			continue
		}
		if socket := r.socketOf(from); socket != nil {
			_, _ = socket.Write(buf[:n])
		}
	}
}

func (r *UDPRelay) socketOf(from *net.UDPAddr) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if socket := r.far[from.String()]; socket != nil || r.far == nil {
		return socket
	}
	socket, err := net.DialUDP("udp", nil, r.target)
	if err != nil {
		return nil
	}
	_ = socket.SetReadBuffer(4 << 20)
	r.far[from.String()] = socket
	r.work.Go(func() { r.homeward(socket, from) })
	return socket
}

func (r *UDPRelay) homeward(socket *net.UDPConn, to *net.UDPAddr) {
	buf := make([]byte, 64<<10)
	for {
		n, err := socket.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && !r.drop.Load() { // an error is a hub that does not listen now
			_, _ = r.near.WriteToUDP(buf[:n], to)
		}
	}
}
