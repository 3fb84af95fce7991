package page

import (
	"encoding/binary"
	"math"
	"strings"
)

// An Origin says which source record a record was made of: the name of its
// root page and the index in it. An empty Root means the root of the page that
// the record is in.
type Origin struct {
	Root  string
	Index uint32
}

// The forms of the origins of a payload.
const (
	originsOwn  = 0 // every record is its own origin
	originsRuns = 1
)

// origins collects the origins of a payload as runs of consecutive indexes.
// Number 0 stands for the page's own root, the others for roots in order.
type origins struct {
	roots   []string
	numbers map[string]int
	text    int // bytes of the roots when written
	runs    []byte
	count   int // runs written
	current run
	base    uint64 // the index after the last written run
	root    int    // of the last written run
}

type run struct {
	root   int
	start  uint64
	length uint64
}

func (o *origins) reset() {
	if o.numbers == nil {
		o.numbers = map[string]int{}
	}
	clear(o.roots)
	clear(o.numbers)
	*o = origins{roots: o.roots[:0], numbers: o.numbers, runs: o.runs[:0]}
}

func (o *origins) add(origin Origin) {
	root := o.number(origin.Root)
	c := &o.current
	if c.length > 0 && root == c.root && uint64(origin.Index) == c.start+c.length {
		c.length++
		return
	}
	o.flush()
	o.current = run{root: root, start: uint64(origin.Index), length: 1}
}

func (o *origins) number(root string) int {
	if root == "" {
		return 0
	}
	if c := o.current.root; c > 0 && o.roots[c-1] == root {
		return c
	}
	if n, ok := o.numbers[root]; ok {
		return n
	}
	own := strings.Clone(root) // root may share memory with a payload
	o.roots = append(o.roots, own)
	o.text += uvarintSize(len(root)) + len(root)
	o.numbers[own] = len(o.roots)
	return len(o.roots)
}

// flush writes the current run: its length with a bit that says whether the
// root changes, the root if so, and how far the start is from the last end.
func (o *origins) flush() {
	c := o.current
	if c.length == 0 {
		return
	}
	o.runs = appendRun(o.runs, c, o.root, o.base)
	o.count++
	o.root, o.base = c.root, c.start+c.length
	o.current = run{}
}

func appendRun(b []byte, c run, root int, base uint64) []byte {
	if c.root == root {
		b = binary.AppendUvarint(b, c.length<<1)
	} else {
		b = binary.AppendUvarint(b, c.length<<1|1)
		b = binary.AppendUvarint(b, uint64(c.root))
	}
	return binary.AppendUvarint(b, zigzag(int64(c.start)-int64(base)))
}

func (o *origins) own() bool {
	return o.count == 0 && o.current.root == 0 && o.current.start == 0
}

func (o *origins) size() int { return 1 + o.text + len(o.runs) + 3*binary.MaxVarintLen32 }

func (o *origins) append(b []byte) []byte {
	if o.own() {
		return append(b, originsOwn)
	}
	b = append(b, originsRuns)
	b = binary.AppendUvarint(b, uint64(len(o.roots)))
	for _, root := range o.roots {
		b = appendText(b, root)
	}
	b = append(b, o.runs...)
	if o.current.length > 0 {
		b = appendRun(b, o.current, o.root, o.base)
	}
	return b
}

// originReader steps through the origins of a payload.
type originReader struct {
	roots   []string
	runs    reader // what is left of the runs
	current run    // current.start is the index of the record at hand
	own     bool
}

// readOrigins checks all origins of n records and leaves r behind them.
func readOrigins(r *reader, n int) originReader {
	switch r.u8() {
	case originsOwn:
		return originReader{own: true}
	case originsRuns:
	default:
		r.bad = true
		return originReader{}
	}
	count := r.count(1)
	roots := make([]string, 1, 1+count)
	for range count {
		roots = append(roots, alias(r.text()))
	}
	o := originReader{roots: roots, runs: *r}
	check := o
	for left := uint64(n); left > 0 && !check.runs.bad; left -= check.current.length {
		check.nextRun()
		if c := check.current; c.length == 0 || c.length > left {
			check.runs.bad = true
			break
		}
		check.current.start += check.current.length - 1
		if check.current.start > math.MaxUint32 {
			check.runs.bad = true
		}
	}
	*r = check.runs
	return o
}

// step moves to the next record.
func (o *originReader) step() {
	if o.own {
		return
	}
	if o.current.length > 1 {
		o.current.length--
		o.current.start++
		return
	}
	o.nextRun()
}

// nextRun reads a run; current is at the last record of the run before.
func (o *originReader) nextRun() {
	base := o.current.start + 1
	if o.current.length == 0 { // before the first record
		base = 0
	}
	head := o.runs.uvarint()
	c := run{root: o.current.root, length: head >> 1}
	if head&1 != 0 {
		root := o.runs.uvarint()
		if root >= uint64(len(o.roots)) {
			o.runs.bad = true
			root = 0
		}
		c.root = int(root)
	}
	start := int64(base) + unzigzag(o.runs.uvarint())
	if start < 0 || start > math.MaxUint32 {
		o.runs.bad = true
	}
	c.start = uint64(start)
	o.current = c
}
