package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errNoVault says why there is no Vault and how to get it.
var errNoVault = errors.New("the Vault core is not built yet; ROPEWAY_VAULT=1 builds it once, in 2 to 5 minutes")

// vaultBinary returns the program of tests/vaultcore. It is kept in the user's
// cache under the hash of its sources; without it, it is built when
// ROPEWAY_VAULT=1 says that the minutes may be spent.
func vaultBinary() (string, error) {
	source, err := vaultSource()
	if err != nil {
		return "", err
	}
	sum, err := hashFiles(source, "go.mod", "go.sum", "main.go", "registry.go")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "ropeway", "vaultcore-"+sum)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if os.Getenv("ROPEWAY_VAULT") != "1" {
		return "", errNoVault
	}
	return path, buildVault(source, path)
}

// vaultSource finds tests/vaultcore from the folder of the test that runs.
func vaultSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		source := filepath.Join(dir, "tests", "vaultcore")
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("tests/vaultcore is not above the working folder")
		}
		dir = parent
	}
}

func hashFiles(dir string, names ...string) (string, error) {
	sum := sha256.New()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(b))
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// buildVault builds the program; of several test binaries one does, the others
// wait for it.
func buildVault(source, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the build of the Vault core: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "testenv: building the Vault core")
	cmd := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", path+".new", ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the Vault core: %w: %s", err, lastLine(out))
	}
	return os.Rename(path+".new", path)
}
