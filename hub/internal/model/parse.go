package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"ropeway/protocol/fault"
)

// Faults is every problem of a set of manifests, one fault each, in the order
// of the text. As an error it reads as one line per problem.
type Faults []*fault.Error

// Error joins the problems with line breaks.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, e := range f {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single faults, for errors.As.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, e := range f {
		errs[i] = e
	}
	return errs
}

// err returns f as an error, nil when there is no fault.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

var objectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// ValidName reports whether name can be the name of an object or environment.
func ValidName(name string) bool { return objectName.MatchString(name) }

// ParseManifests reads one or more documents of YAML (or of JSON, or a list of
// such) with unknown keys, kinds and values refused. The error is a Faults with
// a line number, a cause and a fix for each problem. file is used in messages
// only. Empty documents are skipped; a set of none is refused.
func ParseManifests(r io.Reader, file string) ([]Manifest, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxManifestBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", file, err)
	}
	top := &document{file: file}
	switch {
	case len(text) > MaxManifestBytes:
		top.fail(0, "E_MANIFEST", "", "split the file", "the text is larger than %d MiB", MaxManifestBytes>>20)
	case !utf8.Valid(text):
		top.fail(0, "E_MANIFEST", "", "save the file as UTF-8", "the text is not valid UTF-8")
	}
	if len(top.faults) > 0 {
		return nil, Faults(top.faults)
	}
	return parseAll(text, top)
}

func parseAll(text []byte, top *document) ([]Manifest, error) {
	var out []Manifest
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			top.what = ""
			top.fail(0, "E_MANIFEST", "", "correct the text; check the indentation", "%s", plainYAML(err))
			return nil, Faults(top.faults)
		}
		for _, n := range documents(&root) {
			top.what = ""
			if m, ok := top.manifest(n); ok {
				out = append(out, m)
			}
		}
	}
	if len(out) == 0 && len(top.faults) == 0 {
		top.fail(0, "E_MANIFEST", "", "write at least one document with kind and name", "there is no manifest in it")
	}
	if err := Faults(top.faults).err(); err != nil {
		return nil, err
	}
	return out, nil
}

// plainYAML strips the library's prefix from a syntax error.
func plainYAML(err error) string { return clip200(strings.TrimPrefix(err.Error(), "yaml: ")) }

func clip200(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// documents returns the manifests of one YAML document: itself, the items of a
// list, or none when it is empty.
func documents(root *yaml.Node) []*yaml.Node {
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return nil
	}
	n := root.Content[0]
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	}
	return []*yaml.Node{n}
}

// manifest reads one document; false when a fault was recorded.
func (d *document) manifest(n *yaml.Node) (Manifest, bool) {
	before := len(d.faults)
	m := d.mapping(n, "", 0)
	if m == nil {
		return Manifest{}, false
	}
	out := Manifest{File: d.file, Line: m.line}
	out.Name = m.required("name")
	word := m.required("kind")
	kind, known := exactKind(word)
	if word != "" && !known {
		d.fail(m.lineOf("kind"), "E_UNKNOWN_KIND", "kind", oneOf(word, kindNames()), "unknown kind %q", clip(word))
	}
	if !known {
		return Manifest{}, false
	}
	out.Kind, d.what = kind, string(kind)+" "+clip(out.Name)
	if out.Name != "" && !ValidName(out.Name) {
		m.fail("name", "use 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
			"the name %q cannot be used", clip(out.Name))
	}
	if out.Environment = m.text("environment"); out.Environment != "" && !ValidName(out.Environment) {
		m.fail("environment", "", "the environment %q cannot be a name", clip(out.Environment))
	}
	out.Labels = m.labels("labels")
	out.Spec = readSpec(kind, m)
	m.done()
	return out, len(d.faults) == before
}

func exactKind(word string) (Kind, bool) {
	for _, k := range Kinds() {
		if string(k) == word {
			return k, true
		}
	}
	return "", false
}

func kindNames() []string {
	names := make([]string, 0, 6)
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return names
}

func (m *mapping) labels(key string) map[string]string {
	in := m.mapping(key)
	if in == nil {
		return nil
	}
	out := map[string]string{}
	for _, label := range in.order {
		if !ValidName(label) || len(in.order) > 64 {
			in.fail(label, "use up to 64 labels of letters, digits, dots, dashes and underscores",
				"the label %q cannot be used", clip(label))
		}
		out[label] = in.text(label)
		if len(out[label]) > 256 {
			in.fail(label, "use at most 256 characters", "the value of label %q is too long", clip(label))
		}
	}
	return out
}

func readSpec(kind Kind, m *mapping) any {
	switch kind {
	case KindAgentGroup:
		return &AgentGroup{Description: m.text("description")}
	case KindCredential:
		return readCredential(m)
	case KindConnection:
		return readConnection(m)
	case KindFlow:
		return readFlow(m)
	case KindRoute:
		return readRoute(m)
	}
	return readListener(m)
}
