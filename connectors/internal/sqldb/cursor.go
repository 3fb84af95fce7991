package sqldb

import (
	"encoding/binary"
	"errors"
	"hash/fnv"

	"ropeway/protocol/fault"
)

// A Cursor is the position after one row of a keyset read: the row's key, in
// the connector's own encoding. Its bytes are a lasting format within a job:
//
//	version 1 · key hash (8) · bytes per record (4) · count (2) ·
//	count × (type (4) · form (1) · length (4) · data)
type Cursor struct {
	Values []CursorValue
	// RecordBytes is the mean size of the records so far; a hint by which the
	// next read chooses its LIMIT. 0 = not known.
	RecordBytes uint32
}

// A CursorValue is one value of a key. Type and Form are the connector's.
type CursorValue struct {
	Type uint32
	Form uint8
	Data []byte
}

const (
	cursorVersion = 1
	cursorHead    = 1 + 8 + 4 + 2
	cursorItem    = 4 + 1 + 4
	maxCursor     = 1 << 20
)

// Append appends the cursor's bytes to dst. key are the names of the key's
// columns: a cursor fits only the key that it was made for.
func (c Cursor) Append(dst []byte, key []string) []byte {
	dst = append(dst, cursorVersion)
	dst = binary.BigEndian.AppendUint64(dst, keyHash(key))
	dst = binary.BigEndian.AppendUint32(dst, c.RecordBytes)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Values)))
	for _, v := range c.Values {
		dst = binary.BigEndian.AppendUint32(dst, v.Type)
		dst = append(dst, v.Form)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Data)))
		dst = append(dst, v.Data...)
	}
	return dst
}

// ParseCursor reads what Append wrote for the same key. The values share
// memory with b.
func ParseCursor(b []byte, key []string) (Cursor, error) {
	c, err := parseCursor(b, key)
	if err != nil {
		return Cursor{}, fault.Of("E_QUERY").
			WithSentence("the position in the source cannot be used").WithCause(err).
			WithFix("start the job again; the key of the export was changed while it ran")
	}
	return c, nil
}

func parseCursor(b []byte, key []string) (Cursor, error) {
	if len(b) < cursorHead || len(b) > maxCursor || b[0] != cursorVersion {
		return Cursor{}, errors.New("it is not a cursor of this connector")
	}
	if binary.BigEndian.Uint64(b[1:]) != keyHash(key) {
		return Cursor{}, errors.New("it belongs to another key")
	}
	c := Cursor{RecordBytes: binary.BigEndian.Uint32(b[9:])}
	count := int(binary.BigEndian.Uint16(b[13:]))
	if count != len(key) {
		return Cursor{}, errors.New("it belongs to another key")
	}
	b = b[cursorHead:]
	for range count {
		if len(b) < cursorItem {
			return Cursor{}, errors.New("it is cut off")
		}
		v := CursorValue{Type: binary.BigEndian.Uint32(b), Form: b[4]}
		n := binary.BigEndian.Uint32(b[5:])
		if b = b[cursorItem:]; uint64(n) > uint64(len(b)) {
			return Cursor{}, errors.New("it is cut off")
		}
		v.Data, b = b[:n:n], b[n:]
		c.Values = append(c.Values, v)
	}
	if len(b) > 0 {
		return Cursor{}, errors.New("something follows it")
	}
	return c, nil
}

func keyHash(key []string) uint64 {
	h := fnv.New64a()
	for _, k := range key {
		h.Write([]byte(k))
		h.Write([]byte{0})
	}
	return h.Sum64()
}
