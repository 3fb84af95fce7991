// Package page holds the unit of everything that moves: records and their
// typed values, the codec that packs them, the immutable header that names and
// chains pages, compression, and sealing at rest. Its bytes are a lasting
// format (docs/protocol.md). It does not know queues, tunnels, stores or what a
// record means.
package page

import (
	"crypto/sha256"

	"ropeway/protocol/fault"
)

// The limits of the format. The settings of hub and agent are tighter.
const (
	MaxPayload = 8 << 20 // bytes of codec data in a page, before compression
	MaxRecord  = 3 << 20 // bytes of one encoded record
	MaxHeader  = 64 << 10
	MaxPath    = 8 << 10
	MaxRecords = 1 << 20 // records in a page
	MaxDepth   = 64      // arrays and objects inside one another
	MaxItems   = 1 << 20 // values inside the arrays and objects of one record
	MaxFields  = 1 << 16 // fields of one shape
	MaxNames   = 1 << 20 // different names in a page
	MaxStep    = 32      // characters of a step token
)

// A Page is one page as it travels: the header in clear and the compressed
// payload.
type Page struct {
	Header  Header
	Payload []byte // zstd of the codec bytes
}

// Open returns the codec bytes after checking their size and hash against the
// header. Damaged or oversized payloads are E_CHECKSUM.
func (p *Page) Open() ([]byte, error) {
	if p.Header.PayloadSize > MaxPayload {
		return nil, damaged("payload size is beyond the limit")
	}
	b, err := Decompress(p.Payload, int(p.Header.PayloadSize))
	if err != nil {
		return nil, err
	}
	if len(b) != int(p.Header.PayloadSize) {
		return nil, damaged("payload size differs from the header")
	}
	if Hash(sha256.Sum256(b)) != p.Header.PayloadHash {
		return nil, damaged("payload hash differs from the header")
	}
	return b, nil
}

// Decode opens the page and begins to read it, after checking that header and
// payload agree on the number of records.
func (p *Page) Decode() (*Decoder, error) {
	b, err := p.Open()
	if err != nil {
		return nil, err
	}
	d, err := NewDecoder(b)
	if err != nil {
		return nil, err
	}
	if d.Records() != int(p.Header.Records) {
		return nil, damaged("record count differs from the header")
	}
	return d, nil
}

// New makes the page of a finished payload: it fills the header's records,
// payload size and hash, and compresses.
func New(h Header, payload []byte, records int) *Page {
	h.Records = uint32(records)
	h.PayloadSize = uint32(len(payload))
	h.PayloadHash = sha256.Sum256(payload)
	return &Page{Header: h, Payload: Compress(payload)}
}

// damaged is the error for bytes that are not what a hash or length promises.
func damaged(why string) error { return fault.Of("E_CHECKSUM").WithCause(why) }

// malformed is the error for bytes that break the format.
func malformed(why string) error { return fault.Of("E_PAGE_FORMAT").WithCause(why) }
