// Package egress decides what steps that run in the hub may dial. It owns the
// list of forbidden networks and the check after name resolution; it knows no
// flows and no connectors.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	spelled := ap.Addr().Unmap().WithZone("")
	ip := inner(spelled)
	for _, own := range r.Own {
		if own.Port() == ap.Port() && (own.Addr().Unmap() == ip || own.Addr().IsUnspecified() && isOwnHost(ip)) {
			return denied(resolved, "it belongs to the hub itself")
		}
	}
	switch {
	case ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified():
		return denied(resolved, "link-local, multicast and metadata addresses are never dialled")
	case slices.Contains(metadata, ip):
		return denied(resolved, "cloud metadata addresses are never dialled")
	case within(ip, nowhere):
		return denied(resolved, "it is no address of a host")
	case !r.Private && (ip != spelled || ip.IsLoopback() || ip.IsPrivate() || within(ip, private)):
		return denied(resolved, "loopback and private ranges are closed for this tenant")
	}
	return nil
}

// metadata are addresses by which clouds hand out credentials, beside the
// link-local ones.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

var (
	private = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT, RFC 6598
		netip.MustParsePrefix("192.0.0.0/24"),  // RFC 6890
		netip.MustParsePrefix("198.18.0.0/15"), // RFC 2544
		netip.MustParsePrefix("fec0::/10"),     // site-local, RFC 3879
	}
	nowhere = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("240.0.0.0/4"), // and broadcast
	}

	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052: IPv4 in the last 4 bytes
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056: IPv4 in bytes 2 to 5
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291, obsolete: IPv4 in the last 4 bytes
)

// inner is the IPv4 address that a translator or tunnel on the way makes of an
// IPv6 address; else ip itself.
func inner(ip netip.Addr) netip.Addr {
	b := ip.As16()
	switch {
	case ip.Is4() || ip.IsLoopback() || ip.IsUnspecified():
		return ip
	case nat64.Contains(ip), localNAT64.Contains(ip), compatible.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

func within(ip netip.Addr, list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
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
		return "", denied(name, "the operator has made no folder for this tenant's files")
	}
	if strings.ContainsRune(name, 0) {
		return "", denied("the path", "it contains a NUL character")
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
	} else if _, err := os.Lstat(full); err == nil {
		return "", denied(name, "it is a link to nothing")
	}
	if rel, err := filepath.Rel(root, full); err != nil || !filepath.IsLocal(rel) || rel == "." {
		return "", denied(name, "it lies outside the tenant's files")
	}
	if info, err := os.Lstat(full); err == nil && !info.Mode().IsRegular() {
		return "", denied(name, "it is not a regular file")
	}
	return full, nil
}
