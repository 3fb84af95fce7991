package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// private makes whatever this process creates readable by its owner only,
// engines that choose their own modes included.
func private() { unix.Umask(0o077) }

// open are the files in the data folder that others may read.
var open = map[string]bool{"ca.pem": true}

// checkData refuses a data folder that others could change: who can do that puts
// links and keys of his own in place of the hub's. What is in it and was left
// readable, by a restore for example, is closed.
func checkData(dir string, log *slog.Logger) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data folder: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("data folder %s belongs to uid %d, this hub runs as uid %d; chown it", dir, stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("data folder %s may be written by others (mode %04o); chmod 0700 it and look through what is in it",
			dir, info.Mode().Perm())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data folder: %w", err)
	}
	for _, e := range entries {
		if err := closeEntry(filepath.Join(dir, e.Name()), log); err != nil {
			return err
		}
	}
	return nil
}

// closeEntry takes the rights of others from one entry. Links are followed by
// nothing here: an operator may keep a part of the data elsewhere.
func closeEntry(path string, log *slog.Logger) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	name := filepath.Base(path)
	ours := info.IsDir() || info.Mode().IsRegular() && !open[name] && !strings.HasPrefix(name, ".")
	if !ours || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	log.Warn("others could read a part of the data; closed", "path", path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	if err := os.Chmod(path, info.Mode().Perm()&0o700); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	return nil
}
