package tunnel

import (
	"encoding/binary"
	"fmt"
	"io"
)

// An OpeningKind says what a stream carries.
type OpeningKind uint8

// The kinds of streams. Numbers are part of the protocol and never reused.
const (
	Control      OpeningKind = 1 // gRPC; ID is 0
	Step         OpeningKind = 2 // the body of a step; ID is that of its RunStep
	Route        OpeningKind = 3 // plain bytes of a route, hub to agent
	InverseRoute OpeningKind = 4 // plain bytes of a route, agent to hub
)

// String names the kind as in the logs.
func (k OpeningKind) String() string {
	switch k {
	case Control:
		return "control"
	case Step:
		return "step"
	case Route:
		return "route"
	case InverseRoute:
		return "inverse-route"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// An Opening is the first nine bytes of every stream: the kind, then the ID as a
// big-endian uint64. They are written by the side that opened the stream,
// followed by data without waiting for an answer.
type Opening struct {
	Kind OpeningKind
	ID   uint64
}

const openingSize = 9

// WriteOpening writes o in one Write.
func WriteOpening(w io.Writer, o Opening) error {
	var b [openingSize]byte
	b[0] = byte(o.Kind)
	binary.BigEndian.PutUint64(b[1:], o.ID)
	if _, err := w.Write(b[:]); err != nil {
		return fmt.Errorf("write opening of %s stream: %w", o.Kind, err)
	}
	return nil
}

// ReadOpening reads exactly the opening and refuses kinds that do not exist. The
// caller sets a read deadline first.
func ReadOpening(r io.Reader) (Opening, error) {
	var b [openingSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Opening{}, fmt.Errorf("read opening: %w", err)
	}
	o := Opening{Kind: OpeningKind(b[0]), ID: binary.BigEndian.Uint64(b[1:])}
	if o.Kind < Control || o.Kind > InverseRoute {
		return Opening{}, fmt.Errorf("read opening: unknown %s", o.Kind)
	}
	return o, nil
}
