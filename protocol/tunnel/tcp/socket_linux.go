package tcp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	userTimeout = 12_000    // ms until unacknowledged data ends the connection
	notSent     = 128 << 10 // bytes the kernel may hold unsent: pings overtake bulk
)

// tune sets what the kernel allows and leaves the rest: every option here makes
// a link better, none is needed for it to work.
func tune(raw net.Conn) {
	sc, ok := raw.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		s := int(fd)
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		_ = unix.SetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr")
	})
}
