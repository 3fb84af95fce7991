package odata

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"

	"ropeway/protocol/page"
)

// literal writes a value as an address has it (in $filter and in keys), not
// yet percent-encoded. Texts are quoted, everything else is built from a
// parsed value: nothing is ever pasted.
func (f form) literal(v page.Value, p *property) (string, error) {
	if v.IsNull() {
		return "null", nil
	}
	one := *p
	one.maxLength, one.precision, one.scale = 0, -1, -1 // a comparison may be with anything
	if one.prim == dateTime || one.prim == dateTimeOffset {
		return f.momentLiteral(v, &one)
	}
	s, err := f.text(v, &one)
	if err != nil {
		return "", err
	}
	if p.prim == enumeration {
		return p.typ + quoted(s), nil
	}
	if p.prim == text {
		return quoted(s), nil
	}
	if f.version == 4 {
		return literal4(v, p.prim, s), nil
	}
	return literal2(v, p.prim, s), nil
}

func literal4(v page.Value, prim primitive, s string) string {
	switch prim {
	case bytesType:
		return "binary'" + base64.URLEncoding.EncodeToString(v.Bytes()) + "'"
	case duration:
		return "duration'" + s + "'"
	}
	return s
}

func literal2(v page.Value, prim primitive, s string) string {
	switch prim {
	case int64Int:
		return s + "L"
	case decimal:
		return s + "M"
	case single:
		return s + "f"
	case double:
		return s + "d"
	case guid:
		return "guid'" + s + "'"
	case bytesType:
		return "X'" + strings.ToUpper(hex.EncodeToString(v.Bytes())) + "'"
	case timeV2:
		return "time'" + s + "'"
	}
	return s
}

func (f form) momentLiteral(v page.Value, p *property) (string, error) {
	s, err := form{4}.temporalText(v, p)
	if err != nil {
		return "", err
	}
	switch {
	case f.version == 4:
		return s, nil
	case p.prim == dateTimeOffset:
		us, _, _ := momentOf(v)
		s, err = form{4}.temporalText(page.Timestamp(us, 0), p)
		return "datetimeoffset'" + s + "'", err
	}
	us, _, _ := momentOf(v)
	s, err = form{4}.temporalText(page.Timestamp(us, 0), p)
	return "datetime'" + strings.TrimSuffix(s, "Z") + "'", err
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// entity is the address of one record, relative to the service root.
func (f form) entity(set string, s *structure, r page.Record) (string, error) {
	parts := make([]string, len(s.key))
	for i, k := range s.key {
		p := s.byName[k]
		v, _ := r.Field(k)
		literal, err := f.literal(v, p)
		if err != nil {
			return "", err
		}
		parts[i] = url.PathEscape(literal)
		if len(s.key) > 1 {
			parts[i] = url.PathEscape(k) + "=" + parts[i]
		}
	}
	return url.PathEscape(set) + "(" + strings.Join(parts, ",") + ")", nil
}

// escapeQuery encodes a value of a query option. A blank becomes %20: not every
// service reads a plus sign as one.
func escapeQuery(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
