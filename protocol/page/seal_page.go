package page

import "encoding/binary"

// An Envelope is what a place adds to a page that it keeps.
type Envelope struct {
	KeyID   string
	Attempt uint32 // how often the page was tried before
}

// SealPage encrypts the payload. Envelope and header stay readable and are
// bound to the payload: changing any of them makes it unreadable.
func SealPage(k *Key, p *Page, attempt uint32) []byte {
	header := p.Header.Marshal()
	b := make([]byte, 0, len(k.id)+len(header)+len(p.Payload)+nonceSize+64)
	b = appendSealHead(b, sealedPage, k)
	b = binary.BigEndian.AppendUint32(b, attempt)
	b = appendText(b, string(header))
	return k.seal(b, p.Payload, b)
}

// OpenPage decrypts what SealPage made. Damage, swapped parts and the wrong key
// are E_CHECKSUM. The payload is what was sealed; Page.Open checks it against
// the header.
func OpenPage(sealed []byte, keys Keys) (*Page, Envelope, error) {
	s, err := readSealed(sealed)
	if err != nil {
		return nil, Envelope{}, err
	}
	k, err := keys.find(s.envelope.KeyID)
	if err != nil {
		return nil, Envelope{}, err
	}
	payload, err := k.open(s.body, s.aad)
	if err != nil {
		return nil, Envelope{}, err
	}
	return &Page{Header: s.header, Payload: payload}, s.envelope, nil
}

// PeekHeader reads the header of a sealed page without a key. What it says is
// not authenticated until the page is opened.
func PeekHeader(sealed []byte) (Header, error) {
	s, err := readSealed(sealed)
	return s.header, err
}

// PeekEnvelope reads the envelope of a sealed page without a key.
func PeekEnvelope(sealed []byte) (Envelope, error) {
	s, err := readSealed(sealed)
	return s.envelope, err
}

type sealed struct {
	envelope Envelope
	header   Header
	aad      []byte // everything before the nonce
	body     []byte // nonce and ciphertext
}

func readSealed(b []byte) (sealed, error) {
	r := reader{b: b}
	var s sealed
	var err error
	if s.envelope.KeyID, err = readSealHead(&r, sealedPage); err != nil {
		return sealed{}, err
	}
	s.envelope.Attempt = r.u32()
	header := r.text()
	if r.bad {
		return sealed{}, damaged("the sealed page is cut")
	}
	if s.header, err = UnmarshalHeader(header); err != nil {
		return sealed{}, err
	}
	s.body = r.b
	s.aad = b[:len(b)-len(r.b)]
	return s, nil
}
