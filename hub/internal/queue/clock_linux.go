package queue

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since boot including suspend: a lease must also end
// while the machine sleeps, which Go's monotonic clock does not see.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("queue: no CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
