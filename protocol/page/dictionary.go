package page

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"ropeway/protocol/fault"
)

// A dictionary numbers the names and shapes of a payload in the order in which
// they first appear, so that each is written once.
type dictionary struct {
	names   []string
	numbers map[string]int
	shapes  [][]byte       // the encoded list of name numbers of each shape
	known   map[*Shape]int // shapes by identity
	alike   map[string]int // shapes by their encoded list
	size    int            // bytes that append will write, without its counts

	stamps []int // per name: the last newShape that used it
	stamp  int

	last       *Shape
	lastNumber int
}

func (d *dictionary) reset() {
	if d.numbers == nil {
		d.numbers = map[string]int{}
		d.known = map[*Shape]int{}
		d.alike = map[string]int{}
	}
	clear(d.numbers)
	clear(d.known)
	clear(d.alike)
	clear(d.names)
	clear(d.shapes)
	d.names, d.shapes, d.stamps = d.names[:0], d.shapes[:0], d.stamps[:0]
	d.size, d.stamp, d.last = 0, 0, nil
}

// name is the number of a name. Invalid UTF-8 in it becomes U+FFFD.
func (d *dictionary) name(s string) int {
	if n, ok := d.numbers[s]; ok {
		return n
	}
	// The copy is needed: s may share memory with a payload that goes away.
	own := strings.Clone(strings.ToValidUTF8(s, "\uFFFD"))
	if n, ok := d.numbers[own]; ok {
		return n
	}
	n := len(d.names)
	d.names = append(d.names, own)
	d.numbers[own] = n
	d.stamps = append(d.stamps, 0)
	d.size += uvarintSize(len(own)) + len(own)
	return n
}

// shape is the number of a shape; shapes of the same names are one.
func (d *dictionary) shape(s *Shape) (int, error) {
	if s == d.last {
		return d.lastNumber, nil
	}
	n, ok := d.known[s]
	if !ok {
		var err error
		if n, err = d.newShape(s); err != nil {
			return 0, err
		}
		d.known[s] = n
	}
	d.last, d.lastNumber = s, n
	return n, nil
}

func (d *dictionary) newShape(s *Shape) (int, error) {
	if len(s.Names) > MaxFields {
		return 0, fault.Of("E_TOO_LARGE").WithCause("the record has too many fields")
	}
	d.stamp++
	list := binary.AppendUvarint(nil, uint64(len(s.Names)))
	for _, name := range s.Names {
		number := d.name(name)
		if d.stamps[number] == d.stamp {
			return 0, misuse("a shape names the field " + quoted(name) + " twice")
		}
		d.stamps[number] = d.stamp
		list = binary.AppendUvarint(list, uint64(number))
	}
	if n, ok := d.alike[string(list)]; ok {
		return n, nil
	}
	n := len(d.shapes)
	d.shapes = append(d.shapes, list)
	d.alike[string(list)] = n
	d.size += len(list)
	return n, nil
}

// append writes the names, then the shapes.
func (d *dictionary) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(d.names)))
	for _, name := range d.names {
		b = appendText(b, name)
	}
	b = binary.AppendUvarint(b, uint64(len(d.shapes)))
	for _, list := range d.shapes {
		b = append(b, list...)
	}
	return b
}

// readDictionary reads what append writes. Names are copied out of the payload,
// so that shapes may be kept.
func readDictionary(r *reader) ([]string, []*Shape) {
	names := readNames(r)
	stamps := make([]int, len(names))
	n := r.count(1)
	shapes := make([]*Shape, 0, min(n, 1024))
	for i := range n {
		s := readShape(r, names, stamps, i+1)
		if r.bad {
			return nil, nil
		}
		shapes = append(shapes, s)
	}
	return names, shapes
}

// readNames refuses names that appear twice or are not UTF-8.
func readNames(r *reader) []string {
	n := r.count(1)
	if n > MaxNames {
		r.bad = true
		return nil
	}
	names := make([]string, 0, min(n, 1024))
	seen := make(map[string]struct{}, min(n, 1024))
	for range n {
		name := string(r.text())
		if _, twice := seen[name]; r.bad || twice || !utf8.ValidString(name) {
			r.bad = true
			return nil
		}
		seen[name] = struct{}{}
		names = append(names, name)
	}
	return names
}

// readShape refuses unknown names and names that appear twice in the shape.
func readShape(r *reader, names []string, stamps []int, stamp int) *Shape {
	n := r.count(1)
	if n > MaxFields {
		r.bad = true
		return nil
	}
	fields := make([]string, n)
	for i := range fields {
		number := r.uvarint()
		if r.bad || number >= uint64(len(names)) || stamps[number] == stamp {
			r.bad = true
			return nil
		}
		stamps[number] = stamp
		fields[i] = names[number]
	}
	return &Shape{Names: fields}
}

func uvarintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
