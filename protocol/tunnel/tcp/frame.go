package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The frames of yamux (hashicorp/yamux spec.md): version, type, flags, stream,
// length, all big-endian.
const (
	headerSize = 12

	typeData   = 0
	typeWindow = 1
	typePing   = 2
	typeGoAway = 3

	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8

	firstWindow = 256 << 10 // credit of a new stream, fixed by the protocol
)

// errProtocol ends a session whose other side broke the rules of the frames.
var errProtocol = errors.New("tunnel protocol fault")

type frame struct {
	kind   uint8
	flags  uint16
	stream uint32
	length uint32
}

func parseFrame(b *[headerSize]byte) (frame, error) {
	f := frame{
		kind:   b[1],
		flags:  binary.BigEndian.Uint16(b[2:]),
		stream: binary.BigEndian.Uint32(b[4:]),
		length: binary.BigEndian.Uint32(b[8:]),
	}
	switch {
	case b[0] != 0:
		return f, fmt.Errorf("%w: version %d", errProtocol, b[0])
	case f.kind > typeGoAway:
		return f, fmt.Errorf("%w: frame type %d", errProtocol, f.kind)
	case f.flags&^(flagSYN|flagACK|flagFIN|flagRST) != 0:
		return f, fmt.Errorf("%w: flags %#x", errProtocol, f.flags)
	case f.kind <= typeWindow && f.stream == 0:
		return f, fmt.Errorf("%w: stream frame for stream 0", errProtocol)
	}
	return f, nil
}

func (f frame) append(b []byte) []byte {
	b = append(b, 0, f.kind)
	b = binary.BigEndian.AppendUint16(b, f.flags)
	b = binary.BigEndian.AppendUint32(b, f.stream)
	return binary.BigEndian.AppendUint32(b, f.length)
}

func (f frame) has(flag uint16) bool { return f.flags&flag != 0 }

// body is how many bytes follow the header.
func (f frame) body() uint32 {
	if f.kind == typeData {
		return f.length
	}
	return 0
}
