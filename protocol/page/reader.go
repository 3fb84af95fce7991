package page

import "encoding/binary"

// A reader takes fields off the front of bytes from outside. After the first
// field that is not there it is bad and gives zeros; callers check once.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// uvarint reads a number of at most 64 bits in its shortest form.
func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things that take at least each bytes, so that it can
// never be larger than the bytes that are left.
func (r *reader) count(each int) int {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)/each) {
		r.bad = true
		return 0
	}
	return int(n)
}

// text reads a length and that many bytes.
func (r *reader) text() []byte { return r.take(r.uvarint()) }

// into fills b.
func (r *reader) into(b []byte) { copy(b, r.take(uint64(len(b)))) }

func (r *reader) done() bool { return !r.bad && len(r.b) == 0 }

// uvarint reads a little-endian base-128 number (LEB128) and how many bytes it
// took; 0 or less if it is cut, longer than 64 bits or not in its shortest form.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	v, n := binary.Uvarint(b)
	if n > 1 && b[n-1] == 0 {
		return 0, 0
	}
	return v, n
}

func zigzag(i int64) uint64 { return uint64(i)<<1 ^ uint64(i>>63) }

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// appendText writes a length and the bytes.
func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
