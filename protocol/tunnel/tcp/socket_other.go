//go:build !linux

package tcp

import "net"

// tune does nothing here: keepalive and the stall limit of the session do what
// TCP_USER_TIMEOUT does on Linux.
func tune(net.Conn) {}
