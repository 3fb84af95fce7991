package connectors

import "ropeway/protocol/page"

// A Sink decides where records go, when a page ends and when a read has done
// enough. It is what stands behind a Writer.
type Sink interface {
	// Encoder returns the encoder for the next record, on which nothing has
	// begun. It never fails: an error is kept for Done.
	Encoder() *page.Encoder
	// Done ends the record; see Writer.Done.
	Done(cursor func() []byte) (more bool, err error)
	// Room is the most that this read may still take; see Writer.Room.
	Room() (records, bytes int)
}

// A Writer takes the records of one read, one after the other. One goroutine
// uses it.
type Writer struct{ sink Sink }

// NewWriter makes a Writer in front of s.
func NewWriter(s Sink) *Writer { return &Writer{sink: s} }

// Record begins a record of shape s. The caller writes exactly one cell per
// name of s and then calls Done. Records of one shape should pass the same *s.
func (w *Writer) Record(s *page.Shape) *page.Encoder {
	e := w.sink.Encoder()
	e.Begin(s)
	return e
}

// Done ends the record. cursor returns the position right after it; it is
// called at most once, within Done or after Read has returned, so it must
// describe the last record until then. A nil cursor means that the read cannot
// be resumed.
//
// When more is false the read stops now and returns ReadEnd{}; the record may
// have been dropped, and is then read again from an earlier cursor.
func (w *Writer) Done(cursor func() []byte) (more bool, err error) {
	return w.sink.Done(cursor)
}

// Room is the most that this read may still take, one look-ahead record
// included: a hint by which a connector bounds what it asks its system for.
// Negative means no bound.
func (w *Writer) Room() (records, bytes int) { return w.sink.Room() }
