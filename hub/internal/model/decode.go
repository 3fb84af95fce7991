package model

import (
	"encoding/json"
	"fmt"
	"sort"
)

// DecodeSpec turns the stored JSON of an object back into its spec: *AgentGroup,
// *Credential, *Connection, *Flow, *Route or *Listener.
func DecodeSpec(kind Kind, raw json.RawMessage) (any, error) {
	spec, err := emptySpec(kind)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, spec); err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind, err)
	}
	return spec, nil
}

func emptySpec(kind Kind) (any, error) {
	switch kind {
	case KindAgentGroup:
		return &AgentGroup{}, nil
	case KindCredential:
		return &Credential{}, nil
	case KindConnection:
		return &Connection{}, nil
	case KindFlow:
		return &Flow{}, nil
	case KindRoute:
		return &Route{}, nil
	case KindListener:
		return &Listener{}, nil
	}
	return nil, fmt.Errorf("decode spec: unknown kind %q", kind)
}

// EncodeSpec returns the canonical JSON of a spec: the same spec always gives
// the same bytes, so that applying it again changes nothing.
func EncodeSpec(spec any) (json.RawMessage, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	return raw, nil
}

// SortByReference orders a set so that everything comes after what it refers
// to: by kind, lenders before borrowers, then by name.
func SortByReference(ms []Manifest) {
	rank := map[Kind]int{}
	for i, k := range Kinds() {
		rank[k] = 2 * i
	}
	order := func(m Manifest) int {
		if c, ok := m.Spec.(*Connection); ok && c.BorrowFrom != "" {
			return rank[m.Kind] + 1
		}
		return rank[m.Kind]
	}
	sort.SliceStable(ms, func(i, j int) bool {
		if a, b := order(ms[i]), order(ms[j]); a != b {
			return a < b
		}
		return ms[i].Name < ms[j].Name
	})
}
