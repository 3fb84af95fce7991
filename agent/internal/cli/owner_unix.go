//go:build unix

package cli

import (
	"fmt"
	"os"
	"syscall"

	"ropeway/protocol/fault"
)

// actAsOwner gives up being root when the state directory belongs to somebody
// else, as that of a packaged service does: what a command then makes belongs to
// the service, and whatever it reads from outside it reads without root's rights.
func actAsOwner(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || os.Geteuid() != 0 || !info.IsDir() {
		return nil // missing or not ours to judge; who uses it says so
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{int(stat.Gid)}) },
		func() error { return syscall.Setgid(int(stat.Gid)) },
		func() error { return syscall.Setuid(int(stat.Uid)) },
	} {
		if err := step(); err != nil {
			return fault.Of("E_STATE").WithSentence(fmt.Sprintf("%s belongs to another user", dir)).
				WithCause(fmt.Sprintf("root cannot act as its owner, uid %d: %v", stat.Uid, err))
		}
	}
	return nil
}
