// Package identity owns the agent's state directory and what makes this agent
// itself: the key made on this host, its certificate and root, what enrollment
// said, and the lock that keeps a second agent out. It knows the hub's pin but
// not how to reach the hub; other packages keep their own files in the directory.
package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ropeway/protocol/fault"
)

// Files in a state directory.
const (
	bundleFile = "identity.pem"      // private key, certificate, intermediate, root
	nextFile   = "identity.next.pem" // key of a rotation that is not finished
	factsFile  = "enrollment.json"
	lockFile   = "lock"
)

// Prepare makes the state directory (0700) when it is missing, and refuses one
// that another user owns or may enter.
func Prepare(dir string) error {
	if dir == "" {
		return fault.Of("E_STATE").WithCause("no state directory is named").WithFix("name one with --state DIR")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return stateFault(dir, err)
	}
	return Check(dir)
}

// Check refuses a state directory that is missing or has the wrong rights.
func Check(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return stateFault(dir, err)
	}
	if !info.IsDir() {
		return stateFault(dir, errors.New("it is not a directory"))
	}
	return checkRights(dir, info, 0o700)
}

// readPrivate reads a file that only its owner may touch. A link is refused.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, stateFault(path, errors.New("it is not a regular file"))
	}
	if info.Size() > 1<<20 {
		return nil, stateFault(path, fmt.Errorf("it has %d bytes", info.Size()))
	}
	if err := checkRights(path, info, 0o600); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// writePrivate replaces a file (0600) so that a crash or a full disk leaves the
// old contents or the new ones, never a mixture.
func writePrivate(path string, contents []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return stateFault(path, err)
	}
	_, err = file.Write(contents)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return stateFault(path, err)
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return stateFault(path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return stateFault(path, err)
	}
	return nil
}

func stateFault(path string, err error) error {
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		return f
	}
	var at *os.PathError
	cause := err.Error()
	if errors.As(err, &at) {
		cause = at.Err.Error()
	}
	return fault.Of("E_STATE").WithSentence(fmt.Sprintf("%s cannot be used", path)).WithCause(cause).Wrap(err)
}
