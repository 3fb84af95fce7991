package page

import (
	"encoding/binary"
)

// nest is the memory for the arrays and objects of one record, used again for
// the next. Growing leaves what was handed out where it is.
type nest struct {
	items  []Value
	extras []extra
	total  int // values handed out for this record
}

func (n *nest) reset() {
	n.items, n.extras, n.total = n.items[:0], n.extras[:0], 0
}

func (n *nest) values(count int) []Value {
	n.total += count
	if cap(n.items)-len(n.items) < count {
		n.items = make([]Value, 0, max(2*cap(n.items), count, 16))
	}
	at := len(n.items)
	n.items = n.items[:at+count]
	return n.items[at : at+count : at+count]
}

func (n *nest) extra() *extra {
	if cap(n.extras) == len(n.extras) {
		n.extras = make([]extra, 0, max(2*cap(n.extras), 8))
	}
	n.extras = n.extras[:len(n.extras)+1]
	return &n.extras[len(n.extras)-1]
}

// cellsInto decodes one cell per value and returns the bytes behind them.
func (d *Decoder) cellsInto(values []Value, b []byte, depth int) ([]byte, bool) {
	for i := range values {
		if len(b) == 0 {
			return nil, false
		}
		head := b[0]
		v := &values[i]
		kind, flag := Kind(head&kindMask), head>>kindBits
		b = b[1:]
		var ok bool
		switch kind {
		case KindNull, KindBool:
			*v = Value{kind: kind, num: uint64(flag)}
			ok = flag == 0 || kind == KindBool && flag == flagTrue
		case KindInt64, KindUint64, KindDate, KindTime:
			b, ok = integerInto(v, kind, flag, b)
		case KindString, KindBytes, KindJSON:
			b, ok = textInto(v, kind, flag, b)
		case KindFloat32, KindFloat64, KindLocalTimestamp, KindTimestamp:
			b, ok = fixedInto(v, kind, flag, b)
		case KindDecimal:
			b, ok = decimalInto(v, flag, b)
		case KindInterval, KindUUID, KindBlob:
			b, ok = blockInto(v, kind, flag, b)
		case KindArray, KindObject, KindForeign:
			d.refers = d.refers || kind != KindArray
			if flag == 0 {
				b, ok = d.nestedInto(v, kind, b, depth)
			}
		}
		if !ok {
			return nil, false
		}
	}
	return b, true
}

func integerInto(v *Value, kind Kind, flag uint8, b []byte) ([]byte, bool) {
	u, n := uvarint(b)
	if n <= 0 || flag != 0 {
		return nil, false
	}
	switch kind {
	case KindInt64:
		u = uint64(unzigzag(u))
	case KindDate:
		u = uint64(unzigzag(u))
		if !validDate(int64(u)) {
			return nil, false
		}
	case KindTime:
		if u > dayMicros {
			return nil, false
		}
	}
	*v = Value{kind: kind, num: u}
	return b[n:], true
}

func textInto(v *Value, kind Kind, flag uint8, b []byte) ([]byte, bool) {
	u, n := uvarint(b)
	if n <= 0 || flag != 0 || u > uint64(len(b)-n) {
		return nil, false
	}
	end := n + int(u)
	*v = Value{kind: kind, str: alias(b[n:end])}
	return b[end:], true
}

func fixedInto(v *Value, kind Kind, flag uint8, b []byte) ([]byte, bool) {
	if kind == KindFloat32 {
		if len(b) < 4 || flag != 0 {
			return nil, false
		}
		bits := binary.BigEndian.Uint32(b)
		*v = Value{kind: kind, num: uint64(bits)}
		return b[4:], bits&^(1<<31) <= 0x7F800000 || bits == nan32
	}
	if len(b) < 8 {
		return nil, false
	}
	*v = Value{kind: kind, num: binary.BigEndian.Uint64(b)}
	b = b[8:]
	switch kind {
	case KindFloat64:
		return b, flag == 0 && (v.num&^(1<<63) <= 0x7FF0000000000000 || v.num == nan64)
	case KindLocalTimestamp:
		return b, flag == 0 && validLocal(int64(v.num))
	}
	if flag == 0 {
		return b, validTimestamp(int64(v.num), 0)
	}
	u, n := uvarint(b)
	offset := unzigzag(u)
	if n <= 0 || flag != flagOffset || offset == 0 || offset != int64(int32(offset)) {
		return nil, false
	}
	v.aux = int32(offset)
	return b[n:], validTimestamp(int64(v.num), v.aux)
}

func decimalInto(v *Value, flag uint8, b []byte) ([]byte, bool) {
	if flag >= decimalSpecial {
		*v = Value{kind: KindDecimal, flag: flag}
		return b, flag > decimalSpecial
	}
	u, n := uvarint(b)
	exp := unzigzag(u)
	if n <= 0 || exp > MaxExponent || exp < -MaxExponent {
		return nil, false
	}
	b = b[n:]
	if u, n = uvarint(b); n <= 0 {
		return nil, false
	}
	b = b[n:]
	if flag&decimalBig == 0 {
		*v = Value{kind: KindDecimal, flag: flag, aux: int32(exp), num: u}
		return b, true
	}
	if u <= 8 || u > MaxCoefficient || u > uint64(len(b)) || b[0] == 0 {
		return nil, false
	}
	*v = Value{kind: KindDecimal, flag: flag, aux: int32(exp), str: alias(b[:u])}
	return b[u:], true
}

func blockInto(v *Value, kind Kind, flag uint8, b []byte) ([]byte, bool) {
	size := 16
	if kind == KindBlob {
		size = refSize
	}
	if flag != 0 || len(b) < size || kind == KindBlob && !validRefKind(Kind(b[16])) {
		return nil, false
	}
	*v = Value{kind: kind, str: alias(b[:size])}
	return b[size:], true
}

// nestedInto decodes what needs the dictionary or holds other values.
func (d *Decoder) nestedInto(v *Value, kind Kind, b []byte, depth int) ([]byte, bool) {
	u, n := uvarint(b)
	if n <= 0 {
		return nil, false
	}
	b = b[n:]
	if kind == KindForeign {
		if u >= uint64(len(d.names)) {
			return nil, false
		}
		rest, ok := textInto(v, kind, 0, b)
		v.more = d.foreignType(int(u))
		return rest, ok
	}
	var shape *Shape
	if kind == KindObject {
		if u >= uint64(len(d.shapes)) {
			return nil, false
		}
		shape = d.shapes[u]
		u = uint64(len(shape.Names))
	}
	if u > uint64(len(b)) || u > uint64(MaxItems-d.nest.total) || depth >= MaxDepth {
		return nil, false
	}
	items := d.nest.values(int(u))
	more := d.nest.extra()
	b, ok := d.cellsInto(items, b, depth+1)
	*more = extra{items: items, shape: shape, depth: 1 + deepest(items)}
	*v = Value{kind: kind, more: more}
	return b, ok
}

func (d *Decoder) foreignType(number int) *extra {
	if d.types[number] == nil {
		d.types[number] = &extra{typ: d.names[number]}
	}
	return d.types[number]
}
