//go:build !linux

package queue

import "time"

var processStart = time.Now()

// bootTime is the monotonic time since start. It may stand still while the
// machine sleeps, so a hub that promises anything runs on Linux.
func bootTime() time.Duration { return time.Since(processStart) }
