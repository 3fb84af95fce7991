package powercut

import (
	"maps"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// disk is what the simulated machine remembers: for every file the bytes that
// reached the platter and the writes that did not yet, for every directory the
// names of both kinds. One lock guards all of it; the tree is small.
type disk struct {
	mu    sync.Mutex
	root  *inode
	next  uint64
	dead  bool  // the power is gone; every call fails
	used  int64 // bytes of all files as the program sees them
	limit int64 // 0 = no limit; above it writes answer ENOSPC
	fault func(Op) syscall.Errno
	syncs int
}

// change is one write or truncation that no sync has covered.
type change struct {
	off  int64
	data []byte
	size int64 // a truncation to size when data is nil
}

// inode is a file, directory or symbolic link.
type inode struct {
	ino   uint64
	mode  uint32 // type and permission bits
	nlink uint32
	mtime time.Time
	link  string

	data    []byte   // what the program reads
	durable []byte   // what survives a cut
	pending []change // data = durable + pending

	names        map[string]*inode
	durableNames map[string]*inode
}

func newDisk() *disk {
	d := &disk{}
	d.root = d.newInode(syscall.S_IFDIR | 0o755)
	d.root.durableNames = map[string]*inode{}
	return d
}

func (d *disk) newInode(mode uint32) *inode {
	d.next++
	n := &inode{ino: d.next, mode: mode, nlink: 1, mtime: time.Now()}
	if n.isDir() {
		n.nlink = 2
		n.names = map[string]*inode{}
		n.durableNames = map[string]*inode{}
	}
	return n
}

func (n *inode) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// check answers whether op may go on. The caller holds the lock.
func (d *disk) check(op Op) syscall.Errno {
	if d.dead {
		return syscall.EIO
	}
	if d.fault != nil {
		return d.fault(op)
	}
	return 0
}

func (d *disk) write(n *inode, data []byte, off int64) syscall.Errno {
	grow := off + int64(len(data)) - int64(len(n.data))
	if grow > 0 && d.limit > 0 && d.used+grow > d.limit {
		return syscall.ENOSPC
	}
	d.used += max(grow, 0)
	c := change{off: off, data: append([]byte(nil), data...)}
	n.data = c.apply(n.data)
	n.pending = append(n.pending, c)
	n.mtime = time.Now()
	return 0
}

func (d *disk) truncate(n *inode, size int64) syscall.Errno {
	grow := size - int64(len(n.data))
	if grow > 0 && d.limit > 0 && d.used+grow > d.limit {
		return syscall.ENOSPC
	}
	d.used += grow
	c := change{size: size}
	n.data = c.apply(n.data)
	n.pending = append(n.pending, c)
	n.mtime = time.Now()
	return 0
}

// apply returns b after the change.
func (c change) apply(b []byte) []byte {
	size := c.size
	if c.data != nil {
		size = max(int64(len(b)), c.off+int64(len(c.data)))
	}
	b = resize(b, size)
	if c.data != nil {
		copy(b[c.off:], c.data)
	}
	return b
}

func resize(b []byte, size int64) []byte {
	old := int64(len(b))
	if size <= int64(cap(b)) {
		b = b[:size]
		if size > old {
			clear(b[old:])
		}
		return b
	}
	grown := make([]byte, size, size+size/2)
	copy(grown, b)
	return grown
}

// sync makes a file's bytes, or a directory's names, survive a cut.
func (d *disk) sync(n *inode) {
	d.syncs++
	if n.isDir() {
		n.durableNames = maps.Clone(n.names)
		return
	}
	for _, c := range n.pending {
		n.durable = c.apply(n.durable)
	}
	n.pending = nil
}

// afterCut returns the disk as the next boot finds it. With torn, each unsynced
// write survives by the toss of a coin, and some only in part, as sectors do.
func (d *disk) afterCut(torn *rand.Rand) *disk {
	next := &disk{next: d.next, limit: d.limit}
	seen := map[*inode]*inode{}
	var restore func(n *inode) *inode
	restore = func(n *inode) *inode {
		if m, ok := seen[n]; ok {
			return m
		}
		m := &inode{ino: n.ino, mode: n.mode, nlink: n.nlink, mtime: n.mtime, link: n.link}
		seen[n] = m
		if n.isDir() {
			m.names = map[string]*inode{}
			for name, child := range n.durableNames {
				m.names[name] = restore(child)
			}
			m.durableNames = maps.Clone(m.names)
			return m
		}
		m.durable = append([]byte(nil), n.durable...)
		if torn != nil {
			m.durable = tear(m.durable, n.pending, torn)
		}
		m.data = append([]byte(nil), m.durable...)
		next.used += int64(len(m.data))
		return m
	}
	next.root = restore(d.root)
	return next
}

const sector = 512

func tear(b []byte, pending []change, r *rand.Rand) []byte {
	for _, c := range pending {
		switch r.IntN(4) {
		case 0: // never arrived
		case 1: // only its first sectors arrived
			if sectors := len(c.data) / sector; sectors > 0 {
				b = change{off: c.off, data: c.data[:r.IntN(sectors)*sector+sector]}.apply(b)
			}
		default:
			b = c.apply(b)
		}
	}
	return b
}
