package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// The frames of a body stream, after its opening:
//
//	page  'P'  u32 header length  u32 payload length  header  payload
//	ack   'A'  u64 seq  u8 status  u32 fault length  fault as JSON
//	end   'E'
//
// Numbers are big-endian. A stream that ends without an end frame was cut.
const (
	framePage = 'P'
	frameAck  = 'A'
	frameEnd  = 'E'
)

// An AckStatus says what became of a page of a read.
type AckStatus uint8

// The outcomes of DELIVERY §2.3. Numbers are part of the protocol.
const (
	Accepted   AckStatus = 1 // durable at the hub
	Already    AckStatus = 2 // it was there; as good as Accepted
	Superseded AckStatus = 3 // a newer execution has the chain: drop the tail
	Conflict   AckStatus = 4 // another page has this name: loud, never sent again
	Refused    AckStatus = 5 // not taken; the fault says why
)

// Taken reports whether the page is durable at the hub.
func (s AckStatus) Taken() bool { return s == Accepted || s == Already }

// String names the status as in the logs.
func (s AckStatus) String() string {
	names := [...]string{Accepted: "accepted", Already: "already", Superseded: "superseded",
		Conflict: "conflict", Refused: "refused"}
	if int(s) < len(names) && names[s] != "" {
		return names[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// An Ack answers the page of a seq.
type Ack struct {
	Seq    uint64
	Status AckStatus
	Fault  *fault.Error // set unless the page was taken
}

// ErrFrame marks bytes that are no frame of this package.
var ErrFrame = errors.New("body stream: bad frame")

// A FrameWriter writes the frames of one direction. It is not safe for
// concurrent use.
type FrameWriter struct {
	w   io.Writer
	buf []byte
}

// NewFrameWriter writes to w, each frame in one or two writes.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// Page writes one page; it refuses what a reader would refuse.
func (f *FrameWriter) Page(p *page.Page) error {
	header := p.Header.Marshal()
	if len(header) > MaxHeader || len(p.Payload) > MaxPayload {
		return fault.Of("E_TOO_LARGE").WithSentence("the page is larger than a body stream carries").
			WithCause(fmt.Sprintf("header %d of %d bytes, payload %d of %d",
				len(header), MaxHeader, len(p.Payload), MaxPayload))
	}
	b := append(f.buf[:0], framePage)
	b = binary.BigEndian.AppendUint32(b, uint32(len(header)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Payload)))
	b = append(b, header...)
	return f.write(b, p.Payload)
}

// Ack writes one ack. A fault that is too long loses its texts, never the ack.
func (f *FrameWriter) Ack(a Ack) error {
	var text []byte
	if a.Fault != nil {
		var err error
		if text, err = json.Marshal(a.Fault); err != nil || len(text) > MaxFault {
			text, err = json.Marshal(&fault.Error{Code: a.Fault.Code, Class: a.Fault.Class})
			if err != nil || len(text) > MaxFault {
				return fmt.Errorf("write ack: fault %.40q does not fit", a.Fault.Code)
			}
		}
	}
	b := append(f.buf[:0], frameAck)
	b = binary.BigEndian.AppendUint64(b, a.Seq)
	b = append(b, byte(a.Status))
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return f.write(append(b, text...), nil)
}

// End says that no frame follows.
func (f *FrameWriter) End() error {
	return f.write(append(f.buf[:0], frameEnd), nil)
}

func (f *FrameWriter) write(head, tail []byte) error {
	f.buf = head
	if _, err := f.w.Write(head); err != nil {
		return fmt.Errorf("write body stream: %w", err)
	}
	if len(tail) == 0 {
		return nil
	}
	if _, err := f.w.Write(tail); err != nil {
		return fmt.Errorf("write body stream: %w", err)
	}
	return nil
}

// A FrameReader reads the frames of one direction. It is not safe for
// concurrent use. All lengths are checked before memory is taken, and a page's
// memory is taken as its bytes come in.
type FrameReader struct {
	r     io.Reader
	ended bool
}

// NewFrameReader reads from r.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Page reads the next page. It returns io.EOF after the end frame, and
// io.ErrUnexpectedEOF for a stream that ends without one. The header is
// canonical; that the payload fits it is for page.Open to find out.
func (f *FrameReader) Page() (*page.Page, error) {
	kind, err := f.kind()
	if err != nil {
		return nil, err
	}
	if kind != framePage {
		return nil, fmt.Errorf("%w: type %q where a page belongs", ErrFrame, kind)
	}
	var b [8]byte
	if err := f.full(b[:]); err != nil {
		return nil, err
	}
	headerLen, payloadLen := binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:])
	if headerLen > MaxHeader || payloadLen > MaxPayload {
		return nil, fmt.Errorf("%w: header of %d and payload of %d bytes", ErrFrame, headerLen, payloadLen)
	}
	raw := make([]byte, headerLen)
	if err := f.full(raw); err != nil {
		return nil, err
	}
	header, err := page.UnmarshalHeader(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	payload, err := f.grow(int(payloadLen))
	if err != nil {
		return nil, err
	}
	return &page.Page{Header: header, Payload: payload}, nil
}

// Ack reads the next ack; ends are as for Page.
func (f *FrameReader) Ack() (Ack, error) {
	kind, err := f.kind()
	if err != nil {
		return Ack{}, err
	}
	if kind != frameAck {
		return Ack{}, fmt.Errorf("%w: type %q where an ack belongs", ErrFrame, kind)
	}
	var b [13]byte
	if err := f.full(b[:]); err != nil {
		return Ack{}, err
	}
	a := Ack{Seq: binary.BigEndian.Uint64(b[:]), Status: AckStatus(b[8])}
	if a.Status < Accepted || a.Status > Refused {
		return Ack{}, fmt.Errorf("%w: ack %s", ErrFrame, a.Status)
	}
	n := binary.BigEndian.Uint32(b[9:])
	if n > MaxFault {
		return Ack{}, fmt.Errorf("%w: fault of %d bytes", ErrFrame, n)
	}
	if n == 0 {
		return a, nil
	}
	text := make([]byte, n)
	if err := f.full(text); err != nil {
		return Ack{}, err
	}
	a.Fault = new(fault.Error)
	if err := json.Unmarshal(text, a.Fault); err != nil {
		return Ack{}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return a, nil
}

func (f *FrameReader) kind() (byte, error) {
	if f.ended {
		return 0, io.EOF
	}
	var b [1]byte
	if err := f.full(b[:]); err != nil {
		return 0, err
	}
	if b[0] == frameEnd {
		f.ended = true
		return 0, io.EOF
	}
	return b[0], nil
}

func (f *FrameReader) full(b []byte) error {
	_, err := io.ReadFull(f.r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read body stream: %w", err)
	}
	return nil
}

// grow reads n bytes into memory that doubles as they arrive, so that a length
// without bytes behind it costs little.
func (f *FrameReader) grow(n int) ([]byte, error) {
	const first = 1 << 20
	b := make([]byte, min(n, first))
	for read := 0; ; {
		if err := f.full(b[read:]); err != nil {
			return nil, err
		}
		if len(b) == n {
			return b, nil
		}
		read = len(b)
		more := make([]byte, min(n, 2*len(b)))
		copy(more, b)
		b = more
	}
}
