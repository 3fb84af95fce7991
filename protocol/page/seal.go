package page

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"log/slog"

	"ropeway/protocol/fault"
)

// A Key seals pages and other customer data at rest. It never prints its bits.
//
// The cipher is AES-256-GCM with a key derived for every message from 12 bytes
// of a 24-byte random nonce (C2SP XAES-256-GCM), so that one Key may seal any
// number of messages that a program can make.
type Key struct {
	id    string
	block cipher.Block
	mask  [aes.BlockSize]byte // the CMAC subkey K1
}

// MaxKeyID bounds the length of a key's id.
const MaxKeyID = 128

const nonceSize = 24

// NewKey makes a key of 256 random bits. The id is 1 to MaxKeyID printable
// ASCII characters; it is stored in clear beside what the key seals.
func NewKey(id string, raw [32]byte) (*Key, error) {
	if !validKeyID(id) {
		return nil, fault.Of("E_SEALED").WithSentence("the key id is not valid").WithCause(quoted(id))
	}
	block, err := aes.NewCipher(raw[:])
	if err != nil {
		return nil, fault.Of("E_SEALED").WithCause(err)
	}
	k := &Key{id: id, block: block}
	block.Encrypt(k.mask[:], k.mask[:])
	carry := byte(0)
	for i := aes.BlockSize - 1; i >= 0; i-- {
		next := k.mask[i] >> 7
		k.mask[i] = k.mask[i]<<1 | carry
		carry = next
	}
	k.mask[aes.BlockSize-1] ^= carry * 0x87
	return k, nil
}

// ID names the key.
func (k *Key) ID() string { return k.id }

// String hides the key.
func (k *Key) String() string { return "key " + k.id + " ***" }

// GoString hides the key.
func (k *Key) GoString() string { return k.String() }

// LogValue hides the key.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Keys finds a key by its id, which comes from outside.
type Keys func(id string) (*Key, error)

// message is the cipher for one message.
func (k *Key) message(nonce []byte) cipher.AEAD {
	var derived [32]byte
	for i := range 2 {
		block := derived[i*aes.BlockSize:][:aes.BlockSize]
		block[1], block[2] = byte(i+1), 'X'
		copy(block[4:], nonce[:12])
		for j := range block {
			block[j] ^= k.mask[j]
		}
		k.block.Encrypt(block, block)
	}
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		panic("page: " + err.Error()) // 32 bytes are always a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("page: " + err.Error()) // AES is always a 128-bit block
	}
	return aead
}

// seal appends a fresh nonce and the sealed plain to prefix.
func (k *Key) seal(prefix, plain, aad []byte) []byte {
	at := len(prefix)
	prefix = append(prefix, make([]byte, nonceSize)...)
	nonce := prefix[at:]
	rand.Read(nonce) // never fails (crypto/rand)
	return k.message(nonce).Seal(prefix, nonce[12:], plain, aad)
}

// open undoes seal; sealed begins with the nonce.
func (k *Key) open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < nonceSize+16 {
		return nil, damaged("the sealed data is cut")
	}
	nonce, body := sealed[:nonceSize], sealed[nonceSize:]
	plain, err := k.message(nonce).Open(nil, nonce[12:], body, aad)
	if err != nil {
		return nil, damaged("the sealed data is damaged or belongs elsewhere")
	}
	return plain, nil
}

// find looks up the key of sealed data.
func (keys Keys) find(id string) (*Key, error) {
	k, err := keys(id)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, fault.Of("E_SEALED").WithCause("no key " + quoted(id))
	}
	return k, nil
}

// The first bytes of sealed things. Kind and version are authenticated.
const (
	sealedPage    = 'P'
	sealedBytes   = 'B'
	sealedVersion = 1
)

// appendSealHead writes kind, version and key id.
func appendSealHead(b []byte, kind byte, k *Key) []byte {
	return appendText(append(b, kind, sealedVersion), k.id)
}

// readSealHead reads what appendSealHead writes.
func readSealHead(r *reader, kind byte) (string, error) {
	if k := r.u8(); !r.bad && k != kind {
		return "", damaged("this is not the kind of sealed data that was expected")
	}
	if v := r.u8(); !r.bad && v != sealedVersion {
		return "", unknownVersion("sealed data", uint64(v))
	}
	id := string(r.text())
	if r.bad || !validKeyID(id) {
		return "", damaged("the sealed data is cut or damaged")
	}
	return id, nil
}

// SealBytes encrypts plain. It opens only with the same aad, which says what
// it is and where it belongs; aad is not stored.
func SealBytes(k *Key, plain, aad []byte) []byte {
	b := make([]byte, 0, len(k.id)+len(plain)+nonceSize+32)
	b = appendSealHead(b, sealedBytes, k)
	return k.seal(b, plain, append(b[:len(b):len(b)], aad...))
}

// OpenBytes decrypts what SealBytes made with the same aad. Damage, another aad
// or another key is E_CHECKSUM.
func OpenBytes(sealed, aad []byte, keys Keys) ([]byte, error) {
	r := reader{b: sealed}
	id, err := readSealHead(&r, sealedBytes)
	if err != nil {
		return nil, err
	}
	k, err := keys.find(id)
	if err != nil {
		return nil, err
	}
	head := sealed[: len(sealed)-len(r.b) : len(sealed)-len(r.b)]
	return k.open(r.b, append(head, aad...))
}

func validKeyID(id string) bool {
	if len(id) == 0 || len(id) > MaxKeyID {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}
