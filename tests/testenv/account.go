package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is who a server runs as: this process's user, or the server's own
// when that is root, whom servers refuse.
type account struct {
	home     string // a directory that it can be in
	uid, gid int    // -1 = this process's own
}

func serverAccount() (account, error) { return accountOf("postgres") }

// accountOf is the account of a server that runs as the user name when this
// process is root.
func accountOf(name string) (account, error) {
	if os.Geteuid() != 0 {
		return account{home: "/", uid: -1, gid: -1}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("find the user that runs the server: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return account{home: "/", uid: uid, gid: gid}, errors.Join(err1, err2)
}

// attributes make a child run as the account, in its own process group (so
// that Ctrl-C reaches it through us), and die with the thread that starts it.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if a.uid >= 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// reachable makes dir for the account, or a stand-in among the temporary files
// when a directory above it shuts the account out.
func (a account) reachable(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if a.uid >= 0 && !a.passes(filepath.Dir(dir)) {
		sum := sha256.Sum256([]byte(dir))
		dir = filepath.Join(os.TempDir(), "ropeway-pg-"+hex.EncodeToString(sum[:6]))
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	return dir, a.own(dir)
}

// passes reports whether the account may go through every directory of path.
func (a account) passes(path string) bool {
	for {
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o001 == 0 && !a.owns(info) {
			return false
		}
		parent := filepath.Dir(path)
		if parent == path {
			return true
		}
		path = parent
	}
}

func (a account) owns(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == a.uid && info.Mode().Perm()&0o100 != 0
}

func (a account) own(path string) error {
	if a.uid < 0 {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// writeFile makes a file that only the account can read.
func (a account) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return a.own(path)
}
