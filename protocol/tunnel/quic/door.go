package quic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

// Bounds of handshakes under way (PROMISES S8). An agent that finds no room is
// refused at once and has TCP.
const (
	maxStrangers  = 512
	maxPerNetwork = 128
)

var errNoRoom = errors.New("too many handshakes are under way")

// A door counts the connections that have proved their address but not yet who
// they are, in all and by network.
type door struct {
	room, perNetwork int

	mu   sync.Mutex
	all  int
	from map[netip.Prefix]int
}

type leaveKey struct{}

// enter counts a connection in, until its handshake is done or has failed.
func (d *door) enter(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	network := networkOf(info.RemoteAddr)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= d.room || d.from[network] >= d.perNetwork {
		return ctx, errNoRoom
	}
	if d.from == nil {
		d.from = map[netip.Prefix]int{}
	}
	d.all++
	d.from[network]++
	leave := sync.OnceFunc(func() { d.leave(network) })
	context.AfterFunc(ctx, leave)
	return context.WithValue(ctx, leaveKey{}, leave), nil
}

func (d *door) leave(network netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.from[network]--; d.from[network] == 0 {
		delete(d.from, network)
	}
}

// known says that the handshake of a connection is done.
func known(ctx context.Context) {
	if leave, ok := ctx.Value(leaveKey{}).(func()); ok {
		leave()
	}
}

// networkOf is what one customer usually has: an IPv4 address or an IPv6 /64.
func networkOf(addr net.Addr) netip.Prefix {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := udp.AddrPort().Addr().Unmap().WithZone("")
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
