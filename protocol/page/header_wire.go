package page

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"ropeway/protocol/fault"
)

// Flags of the optional parts of a header, in the order of the parts.
const (
	hasChain = 1 << iota
	hasListener
	hasPrev
	hasLast
	hasBlob
	hasTrace

	headerFlags = 1<<iota - 1
)

// Marshal returns the canonical bytes. Created is cut to microseconds, totals
// are left out unless Last, Event unless Listener is set. The bytes of a header
// that Validate refuses are refused by UnmarshalHeader.
func (h *Header) Marshal() []byte {
	flags := h.flags()
	b := make([]byte, 0, 320+len(h.Path))
	b = binary.BigEndian.AppendUint16(b, h.Version)
	b = append(b, h.Tenant[:]...)
	b = append(b, h.Environment[:]...)
	b = append(b, h.Flow[:]...)
	b = binary.BigEndian.AppendUint64(b, h.FlowVersion)
	b = append(b, flags)
	b = h.appendNames(b, flags)
	b = binary.BigEndian.AppendUint32(b, h.Records)
	b = binary.BigEndian.AppendUint32(b, h.PayloadSize)
	b = append(b, h.PayloadHash[:]...)
	b = h.appendPlace(b, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Created.UnixMicro()))
	if flags&hasTrace != 0 {
		b = append(b, h.Trace.TraceID[:]...)
		b = append(b, h.Trace.SpanID[:]...)
		b = append(b, h.Trace.Flags)
	}
	return b
}

func (h *Header) flags() (f byte) {
	if !h.Chain.IsZero() || !h.Epoch.IsZero() || h.Seq != 0 {
		f |= hasChain
	}
	if h.Pushed() {
		f |= hasListener
	}
	if !h.Prev.IsZero() {
		f |= hasPrev
	}
	if h.Last {
		f |= hasLast
	}
	if h.Blob != (Blob{}) {
		f |= hasBlob
	}
	if h.Trace != (Trace{}) {
		f |= hasTrace
	}
	return f
}

// appendNames writes what makes up the name.
func (h *Header) appendNames(b []byte, flags byte) []byte {
	if flags&hasChain != 0 {
		b = append(b, h.Chain.Job[:]...)
		b = appendText(b, h.Chain.Step)
		b = append(b, h.Epoch[:]...)
		b = binary.BigEndian.AppendUint64(b, h.Seq)
	}
	if flags&hasListener != 0 {
		b = append(b, h.Listener[:]...)
		b = append(b, h.Event[:]...)
	}
	return appendText(b, h.Path)
}

// appendPlace writes the place in the chain and in a blob.
func (h *Header) appendPlace(b []byte, flags byte) []byte {
	if flags&hasPrev != 0 {
		b = append(b, h.Prev[:]...)
	}
	if flags&hasLast != 0 {
		b = binary.BigEndian.AppendUint64(b, h.TotalPages)
		b = binary.BigEndian.AppendUint64(b, h.TotalRecords)
	}
	if flags&hasBlob != 0 {
		b = append(b, h.Blob.ID[:]...)
		b = binary.BigEndian.AppendUint64(b, h.Blob.Offset)
		b = binary.BigEndian.AppendUint64(b, h.Blob.Total)
	}
	return b
}

// UnmarshalHeader reads canonical bytes and refuses anything that Marshal would
// not have written for a valid header. An unknown version is E_FORMAT_VERSION.
func UnmarshalHeader(b []byte) (Header, error) {
	if len(b) > MaxHeader {
		return Header{}, malformed("the header is too long")
	}
	r := reader{b: b}
	var h Header
	h.Version = r.u16()
	if !r.bad && h.Version != Version {
		return Header{}, unknownVersion("page header", uint64(h.Version))
	}
	h.read(&r)
	if !r.done() {
		return Header{}, malformed("the header is cut or too long")
	}
	if err := h.Validate(); err != nil {
		return Header{}, err
	}
	if !bytes.Equal(h.Marshal(), b) {
		return Header{}, malformed("the header is not in canonical form")
	}
	return h, nil
}

func (h *Header) read(r *reader) {
	r.into(h.Tenant[:])
	r.into(h.Environment[:])
	r.into(h.Flow[:])
	h.FlowVersion = r.u64()
	flags := r.u8()
	if flags&^headerFlags != 0 {
		r.bad = true
	}
	h.readNames(r, flags)
	h.Records, h.PayloadSize = r.u32(), r.u32()
	r.into(h.PayloadHash[:])
	h.readPlace(r, flags)
	h.Created = time.UnixMicro(int64(r.u64())).UTC()
	if flags&hasTrace != 0 {
		r.into(h.Trace.TraceID[:])
		r.into(h.Trace.SpanID[:])
		h.Trace.Flags = r.u8()
	}
}

func (h *Header) readNames(r *reader, flags byte) {
	if flags&hasChain != 0 {
		r.into(h.Chain.Job[:])
		h.Chain.Step = string(r.text())
		r.into(h.Epoch[:])
		h.Seq = r.u64()
	}
	if flags&hasListener != 0 {
		r.into(h.Listener[:])
		r.into(h.Event[:])
	}
	h.Path = string(r.text())
}

func (h *Header) readPlace(r *reader, flags byte) {
	if flags&hasPrev != 0 {
		r.into(h.Prev[:])
	}
	if h.Last = flags&hasLast != 0; h.Last {
		h.TotalPages, h.TotalRecords = r.u64(), r.u64()
	}
	if flags&hasBlob != 0 {
		r.into(h.Blob.ID[:])
		h.Blob.Offset, h.Blob.Total = r.u64(), r.u64()
	}
}

// Validate reports what makes a header unfit: no name, a step or path that is
// not a token, a size beyond the limits of the format, a time outside the years
// 1–9999.
func (h *Header) Validate() error {
	switch created := h.Created.UnixMicro(); {
	case h.Version != Version:
		return unknownVersion("page header", uint64(h.Version))
	case h.Chain.IsZero() && !h.Pushed():
		return malformed("the header names neither a chain nor a listener")
	case h.flags()&hasChain != 0 && !ValidStep(h.Chain.Step):
		return malformed("the header's step is not a token: " + quoted(h.Chain.Step))
	case !ValidPath(h.Path):
		return malformed("the header's path is not valid: " + quoted(h.Path))
	case h.PayloadSize > MaxPayload:
		return malformed(fmt.Sprintf("a payload of %d bytes is beyond the limit", h.PayloadSize))
	case h.Records > MaxRecords:
		return malformed(fmt.Sprintf("%d records are beyond the limit", h.Records))
	case !validLocal(created):
		return malformed("the header's time is not in the years 1 to 9999")
	}
	return nil
}

func unknownVersion(what string, v uint64) error {
	return fault.Of("E_FORMAT_VERSION").WithCause(fmt.Sprintf("%s version %d", what, v))
}
