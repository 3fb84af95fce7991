// Package powercut is a file system that can lose its power. It keeps what
// programs write in memory and lets only synced bytes and synced names survive
// Cut, so a test can prove what a store promises. It knows no store and no page.
package powercut

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Op names a call that a fault may hit.
type Op string

// The calls that SetFault sees.
const (
	OpRead  Op = "read"
	OpWrite Op = "write"
	OpSync  Op = "sync"
	OpName  Op = "name" // create, remove, rename
)

// FS is one simulated disk, mounted at a directory. Its methods may be called
// from any goroutine; Cut, Remount and Close exclude each other by the caller.
type FS struct {
	dir    string
	disk   *disk
	server *fuse.Server

	connection uint32 // the kernel's number of this mount
}

// Missing says why this machine cannot run power-cut tests, or nothing.
func Missing() string {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return "no FUSE here: " + err.Error()
	}
	_ = f.Close()
	if os.Geteuid() != 0 {
		return "mounting a FUSE file system needs root"
	}
	return ""
}

// Mount mounts an empty disk at dir, which must exist and be empty.
func Mount(dir string) (*FS, error) {
	f := &FS{dir: dir, disk: newDisk()}
	if err := f.mount(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *FS) mount() error {
	zero := time.Duration(0)
	server, err := fs.Mount(f.dir, &node{disk: f.disk, inode: f.disk.root}, &fs.Options{
		EntryTimeout: &zero, AttrTimeout: &zero, NegativeTimeout: &zero,
		RootStableAttr: &fs.StableAttr{Ino: f.disk.root.ino, Mode: syscall.S_IFDIR},
		MountOptions: fuse.MountOptions{
			FsName: "powercut", Name: "powercut", DirectMount: true, AllowOther: true,
			DisableXAttrs: true, MaxWrite: 1 << 20,
		},
	})
	if err != nil {
		return fmt.Errorf("mount power-cut disk at %s: %w", f.dir, err)
	}
	var info unix.Stat_t
	if err := unix.Stat(f.dir, &info); err != nil {
		return fmt.Errorf("look at power-cut disk: %w", err)
	}
	f.server, f.connection = server, unix.Minor(info.Dev)
	return nil
}

// Dir is where the disk is mounted.
func (f *FS) Dir() string { return f.dir }

// Cut takes the power away: what no sync covered is forgotten and every later
// call on this mount fails with EIO, until Remount.
func (f *FS) Cut() { f.cut(nil) }

// CutTorn is Cut on a disk that had begun to write: each unsynced write survives
// or not by r, whole or in its first sectors. It is what real disks do.
func (f *FS) CutTorn(r *rand.Rand) { f.cut(r) }

func (f *FS) cut(torn *rand.Rand) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.dead = true
	next := f.disk.afterCut(torn)
	f.disk = next
}

// Remount boots again after Cut: the same directory shows what survived. The
// processes that used the old mount should have ended; it is detached from them.
func (f *FS) Remount() error {
	if err := f.Close(); err != nil {
		return err
	}
	return f.mount()
}

// Close unmounts. The disk's content is gone with the FS. Whoever still has
// files open on it gets errors from then on: the kernel's connection is aborted,
// for a process that serves its own open files could never exit.
func (f *FS) Close() error {
	if f.server == nil {
		return nil
	}
	err := f.server.Unmount()
	if err != nil {
		err = errors.Join(f.abort(), syscall.Unmount(f.dir, syscall.MNT_DETACH))
	}
	if err != nil {
		return fmt.Errorf("unmount power-cut disk at %s: %w", f.dir, err)
	}
	f.server.Wait()
	f.server = nil
	return nil
}

// abort ends the kernel's connection through a fusectl of our own.
func (f *FS) abort() error {
	dir, err := os.MkdirTemp("", "fusectl-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := syscall.Mount("none", dir, "fusectl", 0, ""); err != nil {
		return fmt.Errorf("mount fusectl: %w", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	return os.WriteFile(fmt.Sprintf("%s/%d/abort", dir, f.connection), []byte("1"), 0)
}

// SetFault makes every later call ask fault first; a non-zero answer is what the
// program gets. Nil takes the fault away. A failed sync keeps nothing.
func (f *FS) SetFault(fault func(Op) syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.fault = fault
}

// SetLimit bounds the bytes of all files; writes above it answer ENOSPC. 0 = none.
func (f *FS) SetLimit(bytes int64) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.limit = bytes
}

// Syncs is the number of syncs since the last Mount or Remount.
func (f *FS) Syncs() int {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.syncs
}
