package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// postgresBinaries finds the directory of the newest PostgreSQL server. It
// installs the package when it may: as root, with CI=true or RW_INSTALL=1.
func postgresBinaries() (string, error) {
	if dir := findPostgres(); dir != "" {
		return dir, nil
	}
	if os.Getenv("CI") != "true" && os.Getenv("RW_INSTALL") != "1" {
		return "", errors.New("no PostgreSQL server is installed (RW_INSTALL=1 as root installs it)")
	}
	if err := installPackage("postgresql"); err != nil {
		return "", err
	}
	if dir := findPostgres(); dir != "" {
		return dir, nil
	}
	return "", errors.New("the package postgresql brought no server")
}

func findPostgres() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	slices.Sort(found)
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	for _, name := range []string{"/usr/pgsql-*/bin/postgres", "/usr/local/pgsql/bin/postgres"} {
		if found, _ := filepath.Glob(name); len(found) > 0 {
			return filepath.Dir(found[len(found)-1])
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if _, err := exec.LookPath("initdb"); err == nil {
			return filepath.Dir(path)
		}
	}
	return ""
}

// installPackage installs a Debian package without letting it start services.
func installPackage(name string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("package %s is missing and only root may install it", name)
	}
	const policy = "/usr/sbin/policy-rc.d"
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return fmt.Errorf("keep packages from starting services: %w", err)
		}
		defer os.Remove(policy)
	}
	for _, args := range [][]string{
		{"update", "-qq"},
		{"install", "-y", "-qq", "--no-install-recommends", name},
	} {
		fmt.Fprintf(os.Stderr, "testenv: apt-get %s %s\n", args[0], name)
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLine(out))
		}
	}
	return nil
}
