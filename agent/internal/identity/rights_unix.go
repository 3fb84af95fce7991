//go:build unix

package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"ropeway/protocol/fault"
)

// checkRights refuses what another user owns, and what others may open.
func checkRights(path string, info fs.FileInfo, want fs.FileMode) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fault.Of("E_STATE").WithSentence(fmt.Sprintf("%s belongs to another user", path)).
			WithCause(fmt.Sprintf("its owner is uid %d, this program runs as uid %d", stat.Uid, os.Geteuid())).
			WithFix("run the program as the owner, or choose another state directory")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fault.Of("E_STATE").WithSentence(fmt.Sprintf("%s is open to other users", path)).
			WithCause(fmt.Sprintf("its mode is %04o, not %04o", mode, want)).
			WithFix(fmt.Sprintf("chmod %04o %s; if others could read it, rotate the key afterwards", want, path))
	}
	return nil
}

// A Lock keeps every other agent off a state directory while it is held. The
// kernel frees it when the process ends, however it ends.
type Lock struct{ file *os.File }

// Acquire takes the lock of a prepared directory, or says which process has it.
func Acquire(dir string) (*Lock, error) {
	path := dir + string(os.PathSeparator) + lockFile
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, stateFault(path, err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer file.Close()
		return nil, locked(dir, file)
	}
	if err == nil {
		err = note(file)
	}
	if err != nil {
		_ = file.Close()
		return nil, stateFault(path, err)
	}
	return &Lock{file}, nil
}

// Release frees the directory. The file stays: removing it would let two
// processes lock two files of one name.
func (l *Lock) Release() error {
	_ = l.file.Truncate(0)
	return l.file.Close()
}

// note writes this process's id into the lock file. A full disk must not keep an
// agent from starting, so only the lock itself counts.
func note(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return nil
}

func locked(dir string, file *os.File) error {
	text := make([]byte, 20)
	n, _ := file.ReadAt(text, 0)
	who := "another process"
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil {
		who = fmt.Sprintf("process %d", pid)
	}
	return fault.Of("E_STATE_LOCKED").WithCause(fmt.Sprintf("%s holds the lock of %s", who, dir))
}
