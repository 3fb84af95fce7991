package page

// MaxKey bounds a trace key, MaxCursor the end cursor, in bytes.
const (
	MaxKey    = 4 << 10
	MaxCursor = 60 << 10
)

// The forms of the trace keys of a payload.
const (
	keysNone = 0
	keysAll  = 1 // one text per record, empty for records without a key
)

// keyList collects trace keys. Until the first key nothing is stored.
type keyList struct {
	b    []byte
	some bool
}

func (k *keyList) reset() { k.b, k.some = k.b[:0], false }

func (k *keyList) add(record int, key string) {
	if !k.some {
		if key == "" {
			return
		}
		k.some = true
		k.b = append(k.b, make([]byte, record)...) // empty keys so far
	}
	k.b = appendText(k.b, key)
}

func (k *keyList) size() int { return 1 + len(k.b) }

func (k *keyList) append(b []byte) []byte {
	if !k.some {
		return append(b, keysNone)
	}
	return append(append(b, keysAll), k.b...)
}

// readKeys checks the keys of n records, leaves r behind them and returns a
// reader of them; it is empty if there are none.
func readKeys(r *reader, n int) reader {
	switch r.u8() {
	case keysNone:
		return reader{}
	case keysAll:
	default:
		r.bad = true
		return reader{}
	}
	keys := *r
	for range n {
		if len(r.text()) > MaxKey {
			r.bad = true
		}
		if r.bad {
			return reader{}
		}
	}
	keys.b = keys.b[:len(keys.b)-len(r.b)]
	return keys
}
