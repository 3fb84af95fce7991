package page

import (
	"crypto/sha256"
	"time"
)

// Version is the format version of headers and payloads written by this
// package.
const Version = 1

// A Header says which page it is and what its payload must be. It is immutable
// once marshalled: its hash is the page's hash. It holds ids, never names of
// customers' things.
type Header struct {
	Version                   uint16 // 1
	Tenant, Environment, Flow ID
	FlowVersion               uint64

	// Chained pages.
	Chain Chain
	Epoch Epoch
	Seq   uint64

	// Pushed pages; their Chain may be zero.
	Listener ID
	Event    Hash

	// Path is "" for the root page, else "/step[.k]…": what steps made of it.
	Path string

	Records     uint32
	PayloadSize uint32 // bytes before compression
	PayloadHash Hash   // SHA-256 of the uncompressed payload
	Prev        Hash   // hash of the previous page of the chain; zero for the first and for derived pages

	Last                     bool
	TotalPages, TotalRecords uint64 // including this page; only written when Last

	Blob    Blob // zero unless this is a chunk of a blob
	Created time.Time
	Trace   Trace
}

// A Blob places a chunk page inside a large value.
type Blob struct {
	ID            ID
	Offset, Total uint64 // bytes
}

// A Trace is a W3C trace context.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte
}

// Pushed reports whether the page is an event of a listener.
func (h *Header) Pushed() bool { return !h.Listener.IsZero() }

// Root is the name of the root page.
func (h *Header) Root() string {
	if h.Pushed() {
		return PushedName(h.Listener, h.Event)
	}
	return ChainedName(h.Chain, h.Epoch, h.Seq)
}

// Name is the page's name: its root and what steps made of it.
func (h *Header) Name() string { return h.Root() + h.Path }

// Hash is the page's hash: SHA-256 of the canonical bytes.
func (h *Header) Hash() Hash { return sha256.Sum256(h.Marshal()) }
