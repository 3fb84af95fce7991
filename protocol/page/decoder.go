package page

import "fmt"

// A Decoder reads the records of a payload one after the other. Records, keys,
// origins and the cursor share memory with the payload, which must not change
// while they are used. A Decoder is for one goroutine.
type Decoder struct {
	records []byte // what is left of the records
	count   int
	n       int // records read
	names   []string
	shapes  []*Shape
	types   []*extra // of foreign values, by name number; made when met
	cursor  []byte
	keys    reader
	origins originReader

	// The record at hand.
	shape  *Shape
	cells  []byte
	values []Value
	key    string
	refers bool // the cells hold numbers of names or shapes
	nest   nest
	err    error
}

// NewDecoder checks the outline of a payload — everything but the cells — and
// begins to read it.
func NewDecoder(payload []byte) (*Decoder, error) {
	if len(payload) > MaxPayload {
		return nil, malformed("the payload is too long")
	}
	r := reader{b: payload}
	if v := r.u8(); !r.bad && v != payloadVersion {
		return nil, unknownVersion("payload", uint64(v))
	}
	d := &Decoder{}
	d.records = r.take(uint64(r.u32()))
	d.count = readCount(&r, len(d.records))
	d.names, d.shapes = readDictionary(&r)
	if d.cursor = r.text(); len(d.cursor) > MaxCursor {
		r.bad = true
	}
	if !r.bad {
		d.origins = readOrigins(&r, d.count)
		d.keys = readKeys(&r, d.count)
	}
	if !r.done() {
		return nil, malformed("the payload's outline is cut or damaged")
	}
	d.types = make([]*extra, len(d.names))
	return d, nil
}

// readCount reads the number of records; each takes at least two bytes.
func readCount(r *reader, size int) int {
	n := r.uvarint()
	if n > MaxRecords || n > uint64(size/2) {
		r.bad = true
		return 0
	}
	return int(n)
}

// Next reads the next record and reports whether there is one. After false, Err
// says whether the payload ended well.
func (d *Decoder) Next() bool {
	if d.err != nil {
		return false
	}
	if d.n == d.count {
		if len(d.records) != 0 {
			d.err = malformed("the payload has more records than it says")
		}
		return false
	}
	if !d.next() {
		d.err = malformed(fmt.Sprintf("record %d is damaged", d.n))
		d.shape, d.values, d.cells = nil, nil, nil
		return false
	}
	d.n++
	d.origins.step()
	if len(d.keys.b) > 0 {
		d.key = alias(d.keys.text())
	}
	return true
}

func (d *Decoder) next() bool {
	r := reader{b: d.records}
	number := r.uvarint()
	cells := r.text()
	if r.bad || number >= uint64(len(d.shapes)) || len(cells) > MaxRecord {
		return false
	}
	d.records, d.cells = r.b, cells
	d.shape = d.shapes[number]
	fields := len(d.shape.Names)
	if fields > len(cells) {
		return false
	}
	if cap(d.values) < fields {
		d.values = make([]Value, fields)
	}
	d.values = d.values[:fields]
	d.refers = false
	d.nest.reset()
	rest, ok := d.cellsInto(d.values, cells, 0)
	return ok && len(rest) == 0
}

// Shape is the shape of the record at hand.
func (d *Decoder) Shape() *Shape { return d.shape }

// Record is the record at hand. Its values are valid until Next; Clone keeps
// them.
func (d *Decoder) Record() Record { return Record{Shape: d.shape, Values: d.values} }

// Origin is the origin of the record at hand; self is the root name of the page
// that the payload is of, and stands for the page's own root.
func (d *Decoder) Origin(self string) Origin {
	if d.origins.own {
		return Origin{Root: self, Index: uint32(d.n - 1)}
	}
	c := d.origins.current
	if c.root != 0 {
		self = d.origins.roots[c.root]
	}
	return Origin{Root: self, Index: uint32(c.start)}
}

// Key is the trace key of the record at hand; "" if it has none.
func (d *Decoder) Key() string { return d.key }

// Cursor says where a read that comes after this page goes on; empty if the
// page has none.
func (d *Decoder) Cursor() []byte { return d.cursor }

// Records is the number of records of the payload.
func (d *Decoder) Records() int { return d.count }

// Err is the error that ended Next; nil at the end of a sound payload.
func (d *Decoder) Err() error { return d.err }

// DecodeAll reads all records of a payload. They share memory with the payload
// but not with each other.
func DecodeAll(payload []byte) ([]Record, error) {
	d, err := NewDecoder(payload)
	if err != nil {
		return nil, err
	}
	records := make([]Record, 0, d.count)
	for d.Next() {
		records = append(records, d.Record())
		d.values, d.nest = nil, nest{}
	}
	return records, d.Err()
}
