package model

import (
	"fmt"
	"math"
	"strconv"

	"gopkg.in/yaml.v3"
)

// MaxConcurrency is the highest level a connection may have (SEMANTICS §3.2).
const MaxConcurrency = 25

func readCredential(m *mapping) *Credential {
	c := &Credential{Description: m.text("description"), Custody: CustodyVault}
	if word := m.choice("custody", string(CustodyVault), string(CustodySealed), string(CustodySite)); word != "" {
		c.Custody = Custody(word)
	}
	for _, key := range []string{"value", "password", "secret", "fields", "data"} {
		if m.values[key] != nil {
			m.refuse(key, "remove it and run: ropeway secret set NAME --file -",
				"a manifest never carries the value of a credential (%s)", key)
		}
	}
	return c
}

func readConnection(m *mapping) *Connection {
	c := &Connection{
		Description: m.text("description"),
		Connector:   m.required("connector"),
		AgentGroup:  m.text("agentGroup"),
		Credential:  m.text("credential"),
		Concurrency: m.integer("concurrency", 1, MaxConcurrency),
		BorrowFrom:  m.text("borrowFrom"),
	}
	if settings := m.mapping("settings"); settings != nil {
		c.Settings = map[string]any{}
		for _, key := range settings.order {
			if v := settings.any(key); v != nil {
				c.Settings[key] = v
			}
		}
	}
	return c
}

// any reads a value of any shape as JSON would hold it: string, bool, int64,
// float64, []any, map[string]any; nil when absent, null or wrong.
func (m *mapping) any(key string) any {
	n := m.at(key)
	if n == nil {
		return nil
	}
	v, err := m.doc.plain(n, m.depth+1)
	if err != nil {
		m.fail(key, "", "%s: %v", join(m.path, key), err)
		return nil
	}
	return v
}

func (d *document) plain(n *yaml.Node, depth int) (any, error) {
	n = d.visit(n, depth)
	if n == nil {
		return nil, fmt.Errorf("too deep or too large")
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return scalar(n)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := d.plain(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	in := d.mapping(n, "", depth)
	if in == nil {
		return nil, fmt.Errorf("not a mapping of plain keys")
	}
	out := make(map[string]any, len(in.order))
	for _, key := range in.order {
		v, err := d.plain(in.values[key], depth+1)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	return out, nil
}

func scalar(n *yaml.Node) (any, error) {
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, err
	case "!!int":
		v, err := strconv.ParseInt(n.Value, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("the number %q does not fit; put it in quotes", clip(n.Value))
		}
		return v, nil
	case "!!float":
		v, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Errorf("the number %q cannot be used; put it in quotes", clip(n.Value))
		}
		return v, nil
	}
	return nil, fmt.Errorf("the tag %s is not allowed", clip(n.Tag))
}
