package powercut

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

var _ = interface {
	fs.NodeCreater
	fs.NodeMkdirer
	fs.NodeUnlinker
	fs.NodeRmdirer
	fs.NodeRenamer
	fs.NodeLinker
	fs.NodeSymlinker
}(&node{})

// add puts i under name. The caller holds the lock.
func (n *node) add(name string, i *inode) {
	n.inode.names[name] = i
	n.touched()
}

// drop takes name away and gives its bytes back. The caller holds the lock.
func (n *node) drop(name string) {
	i := n.inode.names[name]
	delete(n.inode.names, name)
	n.touched()
	if i.nlink--; i.nlink == 0 || i.isDir() {
		n.disk.used -= int64(len(i.data))
	}
}

// Create makes a file whose name survives a cut once the directory is synced.
func (n *node) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (
	*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	errno := n.lock(OpName)
	defer n.unlock()
	if errno != 0 {
		return nil, nil, 0, errno
	}
	i, ok := n.inode.names[name]
	if !ok {
		i = n.disk.newInode(syscall.S_IFREG | mode&0o7777)
		n.add(name, i)
	}
	return n.child(ctx, i, out), nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (
	*fs.Inode, syscall.Errno) {
	return n.make(ctx, name, n.disk.newDir(mode), out)
}

// Symlink makes a symbolic link.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (
	*fs.Inode, syscall.Errno) {
	return n.make(ctx, name, n.disk.newLink(target), out)
}

func (d *disk) newDir(mode uint32) func() *inode {
	return func() *inode { return d.newInode(syscall.S_IFDIR | mode&0o7777) }
}

func (d *disk) newLink(target string) func() *inode {
	return func() *inode {
		i := d.newInode(syscall.S_IFLNK | 0o777)
		i.link = target
		return i
	}
}

func (n *node) make(ctx context.Context, name string, what func() *inode, out *fuse.EntryOut) (
	*fs.Inode, syscall.Errno) {
	errno := n.lock(OpName)
	defer n.unlock()
	if errno != 0 {
		return nil, errno
	}
	if _, ok := n.inode.names[name]; ok {
		return nil, syscall.EEXIST
	}
	i := what()
	n.add(name, i)
	return n.child(ctx, i, out), 0
}

// Link gives a file a second name.
func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (
	*fs.Inode, syscall.Errno) {
	errno := n.lock(OpName)
	defer n.unlock()
	other, ok := target.(*node)
	switch {
	case errno != 0:
		return nil, errno
	case !ok:
		return nil, syscall.EXDEV
	case n.inode.names[name] != nil:
		return nil, syscall.EEXIST
	}
	other.inode.nlink++
	n.add(name, other.inode)
	return n.child(ctx, other.inode, out), 0
}

// Unlink takes a file's name away; open handles keep the bytes.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	errno := n.lock(OpName)
	defer n.unlock()
	if errno != 0 {
		return errno
	}
	if n.inode.names[name] == nil {
		return syscall.ENOENT
	}
	n.drop(name)
	return 0
}

// Rmdir removes an empty directory.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	errno := n.lock(OpName)
	defer n.unlock()
	i := n.inode.names[name]
	switch {
	case errno != 0:
		return errno
	case i == nil:
		return syscall.ENOENT
	case len(i.names) > 0:
		return syscall.ENOTEMPTY
	}
	n.drop(name)
	return 0
}

const renameNoReplace = 1 // RENAME_NOREPLACE of renameat2(2)

// Rename moves a name; the move survives a cut once both directories are synced.
func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	errno := n.lock(OpName)
	defer n.unlock()
	to, ok := parent.(*node)
	i := n.inode.names[name]
	switch {
	case errno != 0:
		return errno
	case !ok || flags&^renameNoReplace != 0:
		return syscall.EINVAL
	case i == nil:
		return syscall.ENOENT
	}
	if old := to.inode.names[newName]; old != nil {
		if flags&renameNoReplace != 0 {
			return syscall.EEXIST
		}
		if old == i {
			return 0
		}
		if len(old.names) > 0 {
			return syscall.ENOTEMPTY
		}
		to.drop(newName)
	}
	delete(n.inode.names, name)
	n.touched()
	to.add(newName, i)
	return 0
}
