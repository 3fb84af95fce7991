package mysql

import (
	"encoding/binary"
	"encoding/hex"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Shapes are stored as the number of their reference system (SRID, 4 bytes) and
// their well-known binary (WKB). As a foreign value they are WKB in hexadecimal,
// with the SRID inside (EWKB) unless it is 0, which PostGIS reads too.

const (
	wkbHead  = 1 + 4      // order of bytes (1 = little-endian), type
	sridFlag = 0x20000000 // in the type of EWKB
)

func readGeometry(e *page.Encoder, b []byte) error {
	if len(b) < 4+wkbHead || b[4] != 1 {
		return fault.Of("E_QUERY").WithSource(name).WithCause("a shape is not in the form of the server")
	}
	srid, wkb := b[:4], b[4:]
	if binary.LittleEndian.Uint32(srid) == 0 {
		e.Foreign("geometry", hex.EncodeToString(wkb))
		return nil
	}
	ewkb := append([]byte(nil), wkb[:wkbHead]...)
	ewkb[4] |= sridFlag >> 24
	ewkb = append(append(ewkb, srid...), wkb[wkbHead:]...)
	e.Foreign("geometry", hex.EncodeToString(ewkb))
	return nil
}

// parseGeometry is the stored form of WKB or EWKB in hexadecimal.
func parseGeometry(text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) < wkbHead || b[0] != 1 {
		return nil, badValue("is not a shape as hexadecimal, little-endian WKB or EWKB")
	}
	stored := make([]byte, 4, 4+len(b))
	if b[4]&(sridFlag>>24) == 0 {
		return append(stored, b...), nil
	}
	if len(b) < wkbHead+4 {
		return nil, badValue("is a shape without an end")
	}
	copy(stored, b[wkbHead:])
	stored = append(stored, b[:wkbHead]...)
	stored[4+4] &^= sridFlag >> 24
	return append(stored, b[wkbHead+4:]...), nil
}
