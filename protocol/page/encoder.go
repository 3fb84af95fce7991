package page

import (
	"encoding/binary"
	"fmt"

	"ropeway/protocol/fault"
)

// An Encoder packs records into a payload: for each record Begin, one cell call
// per field of the shape in its order, then End. Values that cannot be encoded
// and calls out of order show at End, which then leaves the record out. An
// Encoder is for one goroutine and is best used again after Reset.
type Encoder struct {
	buf  []byte // outline and records; see docs/protocol.md
	dict dictionary
	log  origins
	keys keyList

	records int
	start   int // of the open record in buf, with its shape
	cells   int // of the open record in buf
	left    int // cells still to come
	open    bool
	items   int   // values inside arrays and objects of the open record
	err     error // of the open record, or of the last End
}

const (
	payloadVersion = 1
	outlineSize    = 1 + 4 // version, length of the records
	lengthSize     = 2     // room for the length of most records
)

// NewEncoder makes an empty encoder.
func NewEncoder() *Encoder {
	e := &Encoder{}
	e.Reset()
	return e
}

// Reset empties the encoder and keeps its memory. It ends the validity of what
// Finish returned.
func (e *Encoder) Reset() {
	e.buf = append(e.buf[:0], payloadVersion, 0, 0, 0, 0)
	e.dict.reset()
	e.log.reset()
	e.keys.reset()
	e.records, e.open, e.err = 0, false, nil
}

// Begin opens a record of shape s.
func (e *Encoder) Begin(s *Shape) {
	if e.open {
		e.fail(misuse("Begin inside a record"))
		return
	}
	if s == nil {
		s = noFields
	}
	e.open, e.items, e.left = true, 0, len(s.Names)
	e.start = len(e.buf)
	e.buf = binary.AppendUvarint(e.buf, e.shape(s))
	e.buf = append(e.buf, 0, 0)
	e.cells = len(e.buf)
}

// noFields is the shape of records without fields.
var noFields = &Shape{}

// shape is the number of a shape in this payload.
func (e *Encoder) shape(s *Shape) uint64 {
	n, err := e.dict.shape(s)
	if err != nil {
		e.fail(err)
	}
	return uint64(n)
}

// End closes the record; its origin is its own place in this page. After an
// error the record is left out, and so is every further one until Drop or Reset
// says that the loss is known: a payload never lacks a record unnoticed.
func (e *Encoder) End() error {
	return e.end(Origin{Index: uint32(e.records)}, "")
}

// EndKeyed is End with a trace key.
func (e *Encoder) EndKeyed(key string) error {
	return e.end(Origin{Index: uint32(e.records)}, key)
}

// EndDerived is End with the origin of the record that this one was made of,
// and its trace key. The root "" means the root of the page that is written.
func (e *Encoder) EndDerived(o Origin, key string) error { return e.end(o, key) }

func (e *Encoder) end(o Origin, key string) error {
	if err := e.complete(key); err != nil {
		e.err = err
		e.cut()
		return err
	}
	e.putLength()
	e.log.add(o)
	e.keys.add(e.records, key)
	e.records++
	e.open = false
	return nil
}

// complete says why the open record cannot be taken.
func (e *Encoder) complete(key string) error {
	size := len(e.buf) - e.cells
	switch {
	case e.err != nil:
		return e.err
	case !e.open:
		return misuse("End without Begin")
	case e.left != 0:
		return misuse(fmt.Sprintf("End with %d cells missing (negative: too many)", e.left))
	case size > MaxRecord:
		return fault.Of("E_TOO_LARGE").WithCause(
			fmt.Sprintf("the record has %d bytes, the limit is %d", size, MaxRecord))
	case len(key) > MaxKey:
		return fault.Of("E_TOO_LARGE").WithCause(
			fmt.Sprintf("the trace key has %d bytes, the limit is %d", len(key), MaxKey))
	case e.records >= MaxRecords || len(e.dict.names) > MaxNames ||
		e.Size()+len(key)+reserve > MaxPayload:
		return fault.Of("E_TOO_LARGE").WithCause("the page is full")
	}
	return nil
}

// reserve is kept free in a payload for the end cursor and the trailer's counts.
const reserve = 64 << 10

// putLength writes the length of the cells into the room that Begin left, and
// moves the cells if it needs less or more.
func (e *Encoder) putLength() {
	n := len(e.buf) - e.cells
	at := e.cells - lengthSize
	if n >= 1<<7 && n < 1<<14 {
		e.buf[at], e.buf[at+1] = byte(n)|0x80, byte(n>>7)
		return
	}
	var length [binary.MaxVarintLen64]byte
	width := binary.PutUvarint(length[:], uint64(n))
	if width > lengthSize {
		e.buf = append(e.buf, length[:width-lengthSize]...)
	}
	copy(e.buf[at+width:], e.buf[e.cells:e.cells+n])
	copy(e.buf[at:], length[:width])
	e.buf = e.buf[:at+width+n]
}

// Drop gives up the record that is open or that the last End refused, and makes
// the encoder ready for the next one.
func (e *Encoder) Drop() {
	e.cut()
	e.err = nil
}

func (e *Encoder) cut() {
	if e.open {
		e.buf = e.buf[:e.start]
		e.open = false
	}
}

// Err is the error of the open record so far or of the last End, until Drop or
// Reset.
func (e *Encoder) Err() error { return e.err }

// Records is the number of records that were taken.
func (e *Encoder) Records() int { return e.records }

// Size is the size that the payload has so far, to a few bytes.
func (e *Encoder) Size() int {
	return len(e.buf) + e.dict.size + e.log.size() + e.keys.size()
}

// Finish returns the uncompressed payload, valid until Reset or the next Begin.
// The cursor says where a read that comes after this page goes on; nil if there
// is none. Finish returns nil, which no decoder accepts, while a record is open
// or an error is not dropped, and if the cursor does not fit.
func (e *Encoder) Finish(cursor []byte) []byte {
	if e.open || e.err != nil || len(cursor) > MaxCursor {
		return nil
	}
	binary.BigEndian.PutUint32(e.buf[1:], uint32(len(e.buf)-outlineSize))
	b := binary.AppendUvarint(e.buf, uint64(e.records))
	b = e.dict.append(b)
	b = appendText(b, string(cursor))
	b = e.log.append(b)
	b = e.keys.append(b)
	e.buf = b[:len(e.buf)]
	return b
}

// Record encodes a whole record whose origin is its own place.
func (e *Encoder) Record(r Record) error {
	e.Fields(r)
	return e.End()
}

// Fields begins a record and encodes all its values; End, EndKeyed or
// EndDerived must follow.
func (e *Encoder) Fields(r Record) {
	e.Begin(r.Shape)
	for i := range r.Values {
		e.Value(r.Values[i])
	}
}

// Raw copies the decoder's current record as it is, with its origin and trace
// key.
func (e *Encoder) Raw(d *Decoder) error {
	e.copyCells(d)
	return e.end(d.Origin(""), d.Key())
}

// RawKeyed copies the decoder's current record as one that begins here: its origin
// is its own place in this page, whatever it was there, and key its trace key.
func (e *Encoder) RawKeyed(d *Decoder, key string) error {
	e.copyCells(d)
	return e.EndKeyed(key)
}

func (e *Encoder) copyCells(d *Decoder) {
	e.Begin(d.shape)
	if !d.refers {
		e.buf = append(e.buf, d.cells...)
		e.left -= len(d.values)
		return
	}
	for i := range d.values { // the numbers of names and shapes may differ here
		e.Value(d.values[i])
	}
}

func (e *Encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func misuse(how string) error {
	return fault.Of("E_INTERNAL").WithSentence("the page encoder is used wrongly").WithCause(how)
}
