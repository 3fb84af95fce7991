package powercut

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node shows one inode to the kernel. It keeps nothing of its own: a mount made
// before a cut holds the dead disk for ever and can only fail.
type node struct {
	fs.Inode
	disk  *disk
	inode *inode
}

var _ = interface {
	fs.NodeLookuper
	fs.NodeGetattrer
	fs.NodeSetattrer
	fs.NodeOpener
	fs.NodeReader
	fs.NodeWriter
	fs.NodeFsyncer
	fs.NodeFlusher
	fs.NodeStatfser
	fs.NodeReaddirer
	fs.NodeReadlinker
}(&node{})

func (n *node) lock(op Op) syscall.Errno {
	n.disk.mu.Lock()
	return n.disk.check(op)
}

func (n *node) unlock() { n.disk.mu.Unlock() }

func (n *node) attr(a *fuse.Attr) {
	i := n.inode
	a.Ino, a.Mode, a.Nlink = i.ino, i.mode, i.nlink
	a.Size = uint64(len(i.data) + len(i.link))
	a.Blocks = (a.Size + 511) / 512
	a.Blksize = 4096
	a.SetTimes(&i.mtime, &i.mtime, &i.mtime)
}

func (n *node) child(ctx context.Context, i *inode, out *fuse.EntryOut) *fs.Inode {
	c := &node{disk: n.disk, inode: i}
	c.attr(&out.Attr)
	return n.NewInode(ctx, c, fs.StableAttr{Ino: i.ino, Mode: i.mode & syscall.S_IFMT})
}

// Lookup finds a name in a directory.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	errno := n.lock(OpRead)
	defer n.unlock()
	if errno != 0 {
		return nil, errno
	}
	i, ok := n.inode.names[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, i, out), 0
}

// Getattr tells size, mode and times.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	errno := n.lock(OpRead)
	defer n.unlock()
	n.attr(&out.Attr)
	return errno
}

// Setattr changes size, mode and times. Modes and times survive a cut: no store
// builds on losing them.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	errno := n.lock(OpWrite)
	defer n.unlock()
	if errno != 0 {
		return errno
	}
	if size, ok := in.GetSize(); ok {
		if errno := n.disk.truncate(n.inode, int64(size)); errno != 0 {
			return errno
		}
	}
	if mode, ok := in.GetMode(); ok {
		n.inode.mode = n.inode.mode&syscall.S_IFMT | mode&^syscall.S_IFMT
	}
	if t, ok := in.GetMTime(); ok {
		n.inode.mtime = t
	}
	n.attr(&out.Attr)
	return 0
}

// Open needs no handle: reads and writes go to the inode.
func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	errno := n.lock(OpRead)
	defer n.unlock()
	return nil, fuse.FOPEN_KEEP_CACHE, errno
}

// Read reads what the program wrote, synced or not.
func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	errno := n.lock(OpRead)
	defer n.unlock()
	if errno != 0 {
		return nil, errno
	}
	if off >= int64(len(n.inode.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.inode.data[off:])]), 0
}

// Write changes the file; the change survives a cut only after a sync.
func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	errno := n.lock(OpWrite)
	defer n.unlock()
	if errno != 0 {
		return 0, errno
	}
	if errno := n.disk.write(n.inode, data, off); errno != 0 {
		return 0, errno
	}
	return uint32(len(data)), 0
}

// Fsync is fsync and fdatasync of a file, or fsync of a directory.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	errno := n.lock(OpSync)
	defer n.unlock()
	if errno == 0 {
		n.disk.sync(n.inode)
	}
	return errno
}

// Flush is close, which makes nothing durable.
func (n *node) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

// Statfs reports the limit, or plenty.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	errno := n.lock(OpRead)
	defer n.unlock()
	const block, plenty = 4096, 64 << 30
	total := int64(plenty)
	if n.disk.limit > 0 {
		total = n.disk.limit
	}
	out.Bsize, out.Frsize, out.NameLen = block, block, 255
	out.Blocks = uint64(total / block)
	out.Bfree = uint64(max(total-n.disk.used, 0) / block)
	out.Bavail = out.Bfree
	return errno
}

// Readdir lists a directory.
func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	errno := n.lock(OpRead)
	defer n.unlock()
	if errno != 0 {
		return nil, errno
	}
	list := make([]fuse.DirEntry, 0, len(n.inode.names))
	for name, i := range n.inode.names {
		list = append(list, fuse.DirEntry{Name: name, Ino: i.ino, Mode: i.mode & syscall.S_IFMT})
	}
	return fs.NewListDirStream(list), 0
}

// Readlink tells where a symbolic link points.
func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	errno := n.lock(OpRead)
	defer n.unlock()
	return []byte(n.inode.link), errno
}

func (n *node) touched() { n.inode.mtime = time.Now() }
