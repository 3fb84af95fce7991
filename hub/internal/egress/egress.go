// Package egress decides what steps that run in the hub may dial. It owns the
// list of forbidden networks and the check after name resolution; it knows no
// flows and no connectors.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ropeway/protocol/fault"
)

// dialTimeout bounds one connection attempt of a hub-side step.
const dialTimeout = 15 * time.Second

// Rules says what one tenant may reach from the hub.
type Rules struct {
	// Private allows loopback and private ranges; on for the first tenant of a
	// self-hosted hub, off for all others.
	Private bool
	// Own lists the hub's own listeners and engines (IP and port); they are never
	// dialled, whatever Private says.
	Own []netip.AddrPort
	// Files is the folder whose files file connectors may open; empty = none.
	Files string
}

// Dial connects to address. The check stands behind name resolution, on the
// address the kernel is about to connect to, so that a name that resolves
// differently the second time changes nothing.
func (r Rules) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var refused *fault.Error
	d := net.Dialer{Timeout: dialTimeout, Control: func(_, resolved string, _ syscall.RawConn) error {
		if refused = r.check(resolved); refused != nil {
			return refused
		}
		return nil
	}}
	conn, err := d.DialContext(ctx, network, address)
	switch {
	case refused != nil:
		return nil, refused
	case err != nil:
		return nil, fault.New("connection", "E_UNREACHABLE", "The target cannot be reached from the hub.").
			WithCause(fmt.Sprintf("dial %s: %v", address, err)).
			WithFix("Check host, port and firewall, or give the connection an agentGroup near the target.")
	}
	return conn, nil
}

// check refuses a resolved ip:port.
func (r Rules) check(resolved string) *fault.Error {
	ap, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return denied(resolved, "it is not an IP address and port")
	}
	ip := ap.Addr().Unmap().WithZone("")
	ap = netip.AddrPortFrom(ip, ap.Port())
	for _, own := range r.Own {
		if own.Port() == ap.Port() && (own.Addr().Unmap() == ip || own.Addr().IsUnspecified() && isOwnHost(ip)) {
			return denied(resolved, "it belongs to the hub itself")
		}
	}
	switch {
	case ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified():
		return denied(resolved, "link-local, multicast and metadata addresses are never dialled")
	case metadata.Contains(ip) || ip == metadata6:
		return denied(resolved, "cloud metadata addresses are never dialled")
	case !r.Private && (ip.IsLoopback() || ip.IsPrivate() || sharedSpace.Contains(ip) || special(ip)):
		return denied(resolved, "loopback and private ranges are closed for this tenant")
	}
	return nil
}

var (
	metadata    = netip.MustParsePrefix("169.254.0.0/16")
	metadata6   = netip.MustParseAddr("fd00:ec2::254")
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // carrier-grade NAT, RFC 6598
	nat64       = netip.MustParsePrefix("64:ff9b::/96")  // embeds an IPv4 address, RFC 6052
	sixToFour   = netip.MustParsePrefix("2002::/16")     // embeds an IPv4 address, RFC 3056
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
)

// special reports ranges that can lead to a private address by another spelling.
func special(ip netip.Addr) bool {
	return nat64.Contains(ip) || sixToFour.Contains(ip) || thisNetwork.Contains(ip)
}

func isOwnHost(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // cannot tell: treat as ours
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ip {
			return true
		}
	}
	return false
}

func denied(address, why string) *fault.Error {
	return fault.New("policy", "E_POLICY_DENIED", "The hub does not dial this address.").
		WithCause(address + ": " + why).
		WithFix("Run the connection on an agent (agentGroup), or ask the operator for `egress: private`.")
}

// Path resolves name for a file connector in the hub. Only files under Files are
// given out, links resolved; with no Files folder every path is refused.
func (r Rules) Path(name string) (string, error) {
	if r.Files == "" {
		return "", denied(name, "files of the hub are closed for this tenant")
	}
	root, err := filepath.EvalSymlinks(r.Files)
	if err != nil {
		return "", fmt.Errorf("resolve files folder: %w", err)
	}
	full := name
	if !filepath.IsAbs(full) {
		full = filepath.Join(root, name)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full))
	if err != nil {
		return "", denied(name, "its folder does not exist")
	}
	full = filepath.Join(dir, filepath.Base(full))
	if target, err := filepath.EvalSymlinks(full); err == nil {
		full = target
	}
	if rel, err := filepath.Rel(root, full); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", denied(name, "it lies outside the tenant's files")
	}
	return full, nil
}
