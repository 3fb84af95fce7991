package rig

import "runtime"

// pinned runs functions on one thread that never ends while the program lives.
func pinned(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}
