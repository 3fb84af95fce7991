package page

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Compress packs a payload into one zstd frame that states its content size.
// The same payload gives the same bytes within one release of this program;
// nothing may rely on it between releases.
func Compress(payload []byte) []byte {
	z := compressors.Get().(*zstd.Encoder)
	defer compressors.Put(z)
	return z.EncodeAll(payload, make([]byte, 0, len(payload)/2+64))
}

// Decompress unpacks exactly one zstd frame. A frame that does not state its
// content size, states more than max bytes, holds more or less than it states,
// or is followed by anything is refused before or without more memory than max.
func Decompress(b []byte, max int) ([]byte, error) {
	size, err := contentSize(b)
	if err != nil {
		return nil, err
	}
	if size > uint64(max) || size > MaxPayload {
		return nil, damaged("the payload is larger than the limit")
	}
	z := decompressors.Get().(*zstd.Decoder)
	defer decompressors.Put(z)
	out, err := z.DecodeAll(b, make([]byte, 0, size))
	if err != nil {
		return nil, damaged("zstd: " + err.Error())
	}
	if uint64(len(out)) != size {
		return nil, damaged("the payload is shorter than it says")
	}
	return out, nil
}

// compressWindow bounds the memory of a compressor; pages are about this large.
const compressWindow = 1 << 20

// The pools keep what is busy and let the garbage collector have the rest, so
// that an idle program holds no buffers.
var (
	compressors = sync.Pool{New: func() any {
		z, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(compressWindow),
			zstd.WithSingleSegment(true),
			zstd.WithZeroFrames(true),
			zstd.WithEncoderCRC(false))
		if err != nil {
			panic("page: zstd options: " + err.Error())
		}
		return z
	}}
	decompressors = sync.Pool{New: func() any {
		z, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxMemory(MaxPayload),
			zstd.WithDecoderMaxWindow(MaxPayload))
		if err != nil {
			panic("page: zstd options: " + err.Error())
		}
		return z
	}}
)

// contentSize reads the outline of a zstd frame (RFC 8878) and checks that b is
// that frame and nothing more.
func contentSize(b []byte) (uint64, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return 0, damaged("zstd: " + err.Error())
	}
	if h.Skippable || !h.HasFCS || h.DictionaryID != 0 {
		return 0, damaged("the payload is not one zstd frame with its content size")
	}
	rest := b[h.HeaderSize:]
	for last := false; !last; {
		if len(rest) < 3 {
			return 0, damaged("the payload is cut")
		}
		block := uint32(rest[0]) | uint32(rest[1])<<8 | uint32(rest[2])<<16
		last = block&1 != 0
		size := int(block >> 3)
		if block>>1&3 == 1 { // a run: one byte stands for size bytes
			size = 1
		}
		if rest = rest[3:]; len(rest) < size {
			return 0, damaged("the payload is cut")
		}
		rest = rest[size:]
	}
	if h.HasCheckSum {
		rest = rest[min(4, len(rest)):]
	}
	if len(rest) != 0 {
		return 0, damaged("the payload is followed by other bytes")
	}
	return h.FrameContentSize, nil
}
