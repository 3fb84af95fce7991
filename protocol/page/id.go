package page

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"

	"github.com/google/uuid"

	"ropeway/protocol/fault"
)

// An ID names an object for good: a UUIDv7. Its text is 26 lower-case base32hex
// characters (RFC 4648 §7) without padding: it sorts like the id, by time, and is
// safe as a subject token and file name.
type ID [16]byte

const idLength = 26

var idText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewID draws a new id; ids of one process ascend.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// ParseID reads the text form; every id has exactly one.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != idLength {
		return ID{}, badText("id", s)
	}
	if _, err := idText.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return ID{}, badText("id", s)
	}
	return id, nil
}

// String is the text form.
func (id ID) String() string { return idText.EncodeToString(id[:]) }

// IsZero reports whether the id is not set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the text form, and nothing for the zero id.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return []byte{}, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// An Epoch names one execution of a read request: 128 random bits, never used
// again. Its text is 32 lower-case hexadecimal digits.
type Epoch [16]byte

// NewEpoch draws a new epoch.
func NewEpoch() Epoch {
	var e Epoch
	rand.Read(e[:]) // never fails (crypto/rand)
	return e
}

// ParseEpoch reads the text form.
func ParseEpoch(s string) (Epoch, error) {
	var e Epoch
	if !parseHex(e[:], s) {
		return Epoch{}, badText("epoch", s)
	}
	return e, nil
}

// String is the text form.
func (e Epoch) String() string { return hex.EncodeToString(e[:]) }

// IsZero reports whether the epoch is not set.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// A Hash is a SHA-256. Its text is 64 lower-case hexadecimal digits.
type Hash [32]byte

// ParseHash reads the text form.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if !parseHex(h[:], s) {
		return Hash{}, badText("hash", s)
	}
	return h, nil
}

// String is the text form.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether the hash is not set.
func (h Hash) IsZero() bool { return h == Hash{} }

// A Claim orders the executions of one request (DELIVERY §5.2): first by the
// creation of the queue's consumer in Unix nanoseconds, then by delivery.
type Claim struct {
	Created  int64
	Delivery uint64
}

// Less reports whether o outranks c.
func (c Claim) Less(o Claim) bool {
	if c.Created != o.Created {
		return c.Created < o.Created
	}
	return c.Delivery < o.Delivery
}

// parseHex fills b from exactly 2·len(b) lower-case digits.
func parseHex(b []byte, s string) bool {
	if len(s) != 2*len(b) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(b, []byte(s))
	return err == nil
}

// badText refuses a text from outside, quoting a bounded part of it.
func badText(what, s string) error {
	return fault.Of("E_PARSE").WithSentence("the " + what + " is not valid").WithCause(quoted(s))
}
