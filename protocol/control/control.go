// Package control holds the words between hub and agent: the gRPC service that
// an agent serves on a stream opened by the hub, and the frames that carry pages
// on the body stream of a step. It owns their bounds and the versions of the
// formats. It does not know sessions, steps' meaning or who talks to whom.
package control

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative control.proto

import (
	"slices"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Format is the version of this package's messages and frames, PageFormat that
// of the pages they carry.
const (
	Format     = 1
	PageFormat = 1
)

// Kind says what a step does; the values have shorter names here.
type Kind = RunStep_Kind

// The kinds of steps.
const (
	KindRead     = RunStep_READ
	KindImport   = RunStep_IMPORT
	KindPing     = RunStep_PING
	KindLookup   = RunStep_LOOKUP
	KindDiscover = RunStep_DISCOVER
	KindPreview  = RunStep_PREVIEW
)

// Bounds on what is read from the other side.
const (
	MaxMessage = 8 << 20 // one gRPC message: answers with one fault per record
	MaxHeader  = 64 << 10
	MaxPayload = 8 << 20
	MaxFault   = 32 << 10
	// Window is how many pages of a read may wait for their ack.
	Window = 16
)

// Speaks refuses a peer that shares no format version with this program. who
// names it: "agent" or "hub".
func Speaks(who string, controlFormats, pageFormats []uint32) *fault.Error {
	if !slices.Contains(controlFormats, Format) {
		return fault.Of("E_FORMAT_VERSION").WithSource(who).
			WithSentence("the " + who + " speaks no control format that this program knows")
	}
	if !slices.Contains(pageFormats, PageFormat) {
		return fault.Of("E_FORMAT_VERSION").WithSource(who).
			WithSentence("the " + who + " speaks no page format that this program knows")
	}
	return nil
}

// FromClaim makes the message of a claim.
func FromClaim(c page.Claim) *Claim {
	return &Claim{Created: c.Created, Delivery: c.Delivery}
}

// ToClaim reads a claim; nil is the zero claim.
func ToClaim(c *Claim) page.Claim {
	return page.Claim{Created: c.GetCreated(), Delivery: c.GetDelivery()}
}

// ToID reads an ID; false unless it has 16 bytes.
func ToID(b []byte) (page.ID, bool) {
	if len(b) != len(page.ID{}) {
		return page.ID{}, false
	}
	return page.ID(b), true
}

// ToEpoch reads an epoch; false unless it has 16 bytes.
func ToEpoch(b []byte) (page.Epoch, bool) {
	if len(b) != len(page.Epoch{}) {
		return page.Epoch{}, false
	}
	return page.Epoch(b), true
}

// ToHash reads a hash; no bytes are the zero hash, as before a first page.
func ToHash(b []byte) (page.Hash, bool) {
	switch len(b) {
	case 0:
		return page.Hash{}, true
	case len(page.Hash{}):
		return page.Hash(b), true
	}
	return page.Hash{}, false
}
