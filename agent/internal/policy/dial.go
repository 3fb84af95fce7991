package policy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

const dialTimeout = 15 * time.Second

// Dialer is the only way a connector reaches the network. Every dial is checked
// again by the policy as it is then, first as written, then — inside the dial,
// after name resolution — by the address it really goes to.
func (g *Guard) Dialer(r Request) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "unix" {
			return g.dialSocket(ctx, r, address)
		}
		if !strings.HasPrefix(network, "tcp") {
			return nil, denied(r, "a connector may dial tcp only, not "+network)
		}
		asked := r
		if !sameTarget(r.Target, address) {
			asked.Target = address
		}
		if err := g.Check(asked.connect()); err != nil {
			return nil, err
		}
		d := net.Dialer{Timeout: dialTimeout, Control: func(_, resolved string, _ syscall.RawConn) error {
			return g.checkResolved(asked, resolved)
		}}
		return d.DialContext(ctx, network, address)
	}
}

// Dial dials address once for a request.
func (g *Guard) Dial(ctx context.Context, r Request, network, address string) (net.Conn, error) {
	return g.Dialer(r)(ctx, network, address)
}

func (g *Guard) dialSocket(ctx context.Context, r Request, address string) (net.Conn, error) {
	path, err := g.resolve(r, address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, "unix", path)
}

// connect is r without verb and statement: a dial is about the target, a pooled
// connection serves several verbs, and each request was checked on its own.
func (r Request) connect() Request {
	return Request{Connector: r.Connector, Target: r.Target, Route: r.Route}
}

// checkResolved looks at the address that a name has become. A host that is
// allowed as written may resolve to anything but the agent itself and addresses
// that no business system has.
func (g *Guard) checkResolved(r Request, resolved string) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return denied(r, "the address "+resolved+" is not an IP address and port")
	}
	at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	written := r.Target + r.Route
	if literal(written, at) {
		return nil
	}
	if why := special(at.Addr()); why != "" {
		return denied(r, fmt.Sprintf("%s resolves to %s, %s", written, at.Addr(), why)).
			WithFix(literalFix(r, at))
	}
	if g.own(at) {
		return denied(r, fmt.Sprintf("%s resolves to %s, where the agent itself listens", written, at)).
			WithFix(literalFix(r, at))
	}
	return nil
}

func literalFix(r Request, at netip.AddrPort) string {
	return fmt.Sprintf("if that is meant, write the address %s itself in the connection "+
		"and in the site's policy", at)
}

// literal reports whether the target as written is this very address.
func literal(written string, at netip.AddrPort) bool {
	host, port, err := net.SplitHostPort(written)
	if err != nil || port != fmt.Sprint(at.Port()) {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return at.Addr().IsLoopback()
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().WithZone("") == at.Addr()
}

// metadata are addresses by which clouds hand out credentials.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"),
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"),
	netip.MustParseAddr("192.0.0.192"),
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")

	compatible = netip.MustParseAddr("::1:0:0") // below it: the old IPv4-compatible form
)

// special says why an address is never dialled through a name, or nothing.
func special(ip netip.Addr) string {
	for _, m := range metadata {
		if ip == m {
			return "a cloud's metadata service"
		}
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip), localNAT64.Contains(ip):
		return special(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(ip):
		return special(netip.AddrFrom4([4]byte(b[2:6])))
	case ip.Is6() && ip.WithZone("").Less(compatible) && !ip.IsLoopback() && !ip.IsUnspecified():
		return special(netip.AddrFrom4([4]byte(b[12:]))) // the old IPv4-compatible form
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	case ip.IsMulticast():
		return "a multicast address"
	case ip.IsUnspecified():
		return "the unspecified address, which is this machine"
	case ip.Is4() && (b[12] == 0 || b[12] == 255):
		return "not an address of a host"
	}
	return ""
}

// own reports whether at is where the agent listens on this machine.
func (g *Guard) own(at netip.AddrPort) bool {
	for _, o := range g.config.Own() {
		if o.Port() != at.Port() {
			continue
		}
		ip := o.Addr().Unmap()
		if ip == at.Addr() || ip.IsUnspecified() && localAddress(at.Addr()) ||
			ip.IsLoopback() && at.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// localAddress reports whether ip belongs to this machine. When the machine does
// not tell, loopback counts.
func localAddress(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().WithZone("") == ip {
			return true
		}
	}
	return false
}
