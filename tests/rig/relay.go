package rig

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Relay is a TCP relay on loopback between an agent and its hub. It can be cut:
// open connections break and new ones are refused until it is mended.
type Relay struct {
	listener net.Listener
	target   string

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]struct{}
	work sync.WaitGroup
}

// NewRelay listens on a free port of loopback and forwards to target.
func NewRelay(target string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{listener: l, target: target, open: map[net.Conn]struct{}{}}
	r.work.Add(1)
	go r.accept()
	return r, nil
}

// Addr is where the agent dials.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Cut breaks all connections and refuses new ones.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for c := range r.open {
		c.Close()
	}
}

// Mend lets connections through again.
func (r *Relay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = false
}

// Close ends the relay and all its connections.
func (r *Relay) Close() {
	r.listener.Close()
	r.Cut()
	r.work.Wait()
}

func (r *Relay) accept() {
	defer r.work.Done()
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.work.Add(1)
		go func() {
			defer r.work.Done()
			r.forward(c)
		}()
	}
}

// hold registers a connection; false when the relay is cut.
func (r *Relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *Relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	c.Close()
}

func (r *Relay) forward(from net.Conn) {
	defer r.drop(from)
	if !r.hold(from) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var d net.Dialer
	to, err := d.DialContext(ctx, "tcp", r.target)
	if err != nil {
		return
	}
	defer r.drop(to)
	if !r.hold(to) {
		return
	}
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Add(1)
		go func() {
			defer both.Done()
			_, _ = io.Copy(pair[1], pair[0])
			if half, ok := pair[1].(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
		}()
	}
	both.Wait()
}
