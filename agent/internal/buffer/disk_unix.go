//go:build unix

package buffer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// quotaOf is the default quota: 2 GiB or a tenth of the disk.
func quotaOf(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return defaultQuota
	}
	return min(defaultQuota, int64(s.Blocks)*int64(s.Bsize)/10)
}

// syncDir makes the names of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
