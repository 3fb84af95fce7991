package model

import (
	"fmt"
	"sort"
	"strconv"

	"gopkg.in/yaml.v3"

	"ropeway/protocol/fault"
)

// Bounds of one set of manifests. Bytes are bounded before parsing; visits bound
// what aliases may expand to.
const (
	MaxManifestBytes = 4 << 20
	maxVisits        = 400_000
	maxDepth         = 64
	maxFaults        = 50
)

// document reads one YAML document and collects every fault of it.
type document struct {
	file   string
	what   string // "Flow orders", for messages
	visits int
	faults []*fault.Error
}

// fail records one fault at a line. The fix may be empty.
func (d *document) fail(line int, code, field, fix, format string, args ...any) {
	if len(d.faults) >= maxFaults {
		return
	}
	d.faults = append(d.faults, manifestFault(position(d.file, line), d.what, code, field).
		because(fix, format, args...))
}

// problem is a fault under construction.
type problem struct{ *fault.Error }

func (p problem) because(fix, format string, args ...any) *fault.Error {
	e := p.WithCause(fmt.Sprintf(format, args...))
	if fix != "" {
		e = e.WithFix(fix)
	}
	return e
}

func manifestFault(source, what, code, field string) problem {
	sentence := "the manifest is not valid"
	if what != "" {
		sentence = what + " is not valid"
	}
	if source != "" {
		sentence += " (" + source + ")"
	}
	return problem{fault.New(fault.Value, code, sentence).WithSource(source).WithField(field)}
}

func position(file string, line int) string {
	switch {
	case file == "" && line == 0:
		return ""
	case file == "":
		return "line " + strconv.Itoa(line)
	case line == 0:
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// visit follows aliases and counts; nil means that the document is too large or
// too deep, which has been recorded.
func (d *document) visit(n *yaml.Node, depth int) *yaml.Node {
	for hops := 0; n.Kind == yaml.AliasNode && hops < 10; hops++ {
		n = n.Alias
	}
	d.visits++
	if d.visits > maxVisits || depth > maxDepth {
		if d.visits != maxVisits+2 {
			d.fail(n.Line, "E_MANIFEST", "", "make the document smaller",
				"the document is nested too deeply or expands to too much")
		}
		d.visits = maxVisits + 1
		return nil
	}
	return n
}

// mapping is one YAML mapping whose keys are asked for by name; done refuses
// the keys nobody asked for.
type mapping struct {
	doc    *document
	path   string // "export.delta", for messages and fault fields
	line   int
	depth  int
	keys   map[string]*yaml.Node
	values map[string]*yaml.Node
	order  []string
	asked  map[string]bool
	known  map[string]bool // refused with a message of their own
}

// mapping reads n as a mapping with text keys, each given once; nil on a fault.
func (d *document) mapping(n *yaml.Node, path string, depth int) *mapping {
	n = d.visit(n, depth)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, "E_MANIFEST", path, "", "%swant keys and values, got %s", prefix(path), shape(n))
		return nil
	}
	m := &mapping{doc: d, path: path, line: n.Line, depth: depth, asked: map[string]bool{}, known: map[string]bool{},
		keys: map[string]*yaml.Node{}, values: map[string]*yaml.Node{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			d.fail(key.Line, "E_MANIFEST", path, "", "%sa key must be plain text", prefix(path))
			continue
		}
		if first, twice := m.keys[key.Value]; twice {
			d.fail(key.Line, "E_MANIFEST", join(path, key.Value), "remove one of the two",
				"key %q is given twice (first at line %d)", join(path, key.Value), first.Line)
			continue
		}
		m.keys[key.Value], m.values[key.Value] = key, n.Content[i+1]
		m.order = append(m.order, key.Value)
	}
	return m
}

// at returns the value of a key; nil when it is absent or null.
func (m *mapping) at(key string) *yaml.Node {
	m.asked[key] = true
	n := m.values[key]
	if n == nil {
		return nil
	}
	n = m.doc.visit(n, m.depth+1)
	if n == nil || n.Tag == "!!null" {
		return nil
	}
	return n
}

func (m *mapping) has(key string) bool { return m.at(key) != nil }

func (m *mapping) lineOf(key string) int {
	if k := m.keys[key]; k != nil {
		return k.Line
	}
	return m.line
}

func (m *mapping) fail(key, fix, format string, args ...any) {
	m.doc.fail(m.lineOf(key), "E_MANIFEST", join(m.path, key), fix, format, args...)
}

// refuse records a fault for a key that has a better message than "unknown key".
func (m *mapping) refuse(key, fix, format string, args ...any) {
	m.known[key] = true
	m.fail(key, fix, format, args...)
}

// text reads a text value; numbers and booleans need quotes.
func (m *mapping) text(key string) string {
	n := m.at(key)
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		m.fail(key, "put the value in quotes", "%s must be text, got %s", join(m.path, key), shape(n))
		return ""
	}
	return n.Value
}

// required reads a text value that must be there.
func (m *mapping) required(key string) string {
	if !m.has(key) {
		m.fail(key, "add the key", "%s is missing", join(m.path, key))
		return ""
	}
	return m.text(key)
}

// choice reads a text value out of a list; empty when absent.
func (m *mapping) choice(key string, valid ...string) string {
	n := m.at(key)
	if n == nil {
		return ""
	}
	for _, v := range valid {
		if n.Kind == yaml.ScalarNode && n.Value == v {
			return v
		}
	}
	m.fail(key, oneOf(n.Value, valid), "%s has the unknown value %s", join(m.path, key), shape(n))
	return ""
}

// integer reads a whole number within [low, high].
func (m *mapping) integer(key string, low, high int) int {
	n := m.at(key)
	if n == nil {
		return 0
	}
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < low || v > high {
		m.fail(key, fmt.Sprintf("use a whole number from %d to %d", low, high),
			"%s is %s", join(m.path, key), shape(n))
		return 0
	}
	return v
}

// texts reads a list of texts, each given once.
func (m *mapping) texts(key string) []string {
	n := m.at(key)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.fail(key, "write it as a list: ["+clip(n.Value)+"]", "%s must be a list, got %s",
			join(m.path, key), shape(n))
		return nil
	}
	var out []string
	seen := map[string]bool{}
	for _, item := range n.Content {
		item = m.doc.visit(item, m.depth+2)
		if item == nil {
			return nil
		}
		if item.Kind != yaml.ScalarNode || item.Tag != "!!str" || item.Value == "" || seen[item.Value] {
			m.doc.fail(item.Line, "E_MANIFEST", join(m.path, key), "",
				"%s must be a list of different texts, got %s", join(m.path, key), shape(item))
			continue
		}
		seen[item.Value] = true
		out = append(out, item.Value)
	}
	return out
}

// mapping reads a nested mapping; nil when absent or wrong.
func (m *mapping) mapping(key string) *mapping {
	n := m.at(key)
	if n == nil {
		return nil
	}
	return m.doc.mapping(n, join(m.path, key), m.depth+1)
}

// done refuses every key nobody asked for and names the nearest valid one.
func (m *mapping) done() {
	valid := make([]string, 0, len(m.asked))
	for key := range m.asked {
		valid = append(valid, key)
	}
	sort.Strings(valid)
	for _, key := range m.order {
		if !m.asked[key] && !m.known[key] {
			m.fail(key, oneOf(key, valid), "unknown key %q", clip(join(m.path, key)))
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	if key == "" {
		return path
	}
	return path + "." + key
}

func prefix(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

// shape describes a node for a message, without printing much of it.
func shape(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "nothing"
		}
		return strconv.Quote(clip(n.Value))
	}
	return "something else"
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
