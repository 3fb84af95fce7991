package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// maxFile bounds what is read of a policy file, in bytes.
const maxFile = 1 << 20

// Parse reads a policy. Unknown and repeated keys, aliases and a second document
// are refused; every error names its line.
func Parse(text []byte) (*Policy, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("policy is larger than %d bytes", maxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return &Policy{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("policy is not YAML: %w", err)
	}
	var more yaml.Node
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("a policy is one YAML document, here is a second one")
	}
	return parsePolicy(doc.Content[0])
}

// field is one key of a mapping and what to do with its value.
type field map[string]func(*yaml.Node) error

// fields walks a mapping strictly.
func fields(n *yaml.Node, what string, known field) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s must be a mapping", n.Line, what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		switch {
		case !ok:
			return fmt.Errorf("line %d: unknown key %q in %s; it knows %s", key.Line, key.Value, what, names(known))
		case seen[key.Value]:
			return fmt.Errorf("line %d: key %q is written twice in %s", key.Line, key.Value, what)
		}
		seen[key.Value] = true
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

func names(known field) string {
	list := make([]string, 0, len(known))
	for k := range known {
		list = append(list, k)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func parsePolicy(n *yaml.Node) (*Policy, error) {
	p := &Policy{Remote: map[string]bool{}}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return p, nil
	}
	return p, fields(n, "the policy", field{
		"rules":  func(n *yaml.Node) error { return parseRules(n, p) },
		"remote": func(n *yaml.Node) error { return parseRemote(n, p) },
	})
}

func parseRules(n *yaml.Node, p *Policy) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: rules must be a list", n.Line)
	}
	for _, item := range n.Content {
		r, err := parseRule(item)
		if err != nil {
			return err
		}
		p.Rules = append(p.Rules, r)
	}
	return nil
}

func parseRule(n *yaml.Node) (Rule, error) {
	r := Rule{Line: n.Line, Inbox: true}
	err := fields(n, "a rule", field{
		"name":      func(n *yaml.Node) error { return text(n, "name", &r.Name) },
		"connector": func(n *yaml.Node) error { return text(n, "connector", &r.Connector) },
		"target":    func(n *yaml.Node) error { return text(n, "target", &r.Target) },
		"route":     func(n *yaml.Node) error { return text(n, "route", &r.Route) },
		"allow":     func(n *yaml.Node) error { return parseAllow(n, &r) },
		"tables":    func(n *yaml.Node) error { return parseTables(n, &r) },
		"inbox":     func(n *yaml.Node) error { return boolean(n, "inbox", &r.Inbox) },
		"limits":    func(n *yaml.Node) error { return parseLimits(n, &r.Limits) },
	})
	if err != nil {
		return r, err
	}
	return r, r.validate()
}

func (r *Rule) validate() error {
	switch {
	case r.Route != "" && (r.Connector != "" || r.Target != "" || r.Allow != nil || r.limited):
		return fmt.Errorf("line %d: a rule with route has no connector, target, allow or tables", r.Line)
	case r.Route != "" && r.Limits.RowsPerDay > 0:
		return fmt.Errorf("line %d: a route carries bytes, rowsPerDay has no meaning", r.Line)
	case r.Route != "":
		return nil
	case r.Connector == "":
		return fmt.Errorf("line %d: the rule needs connector (or route)", r.Line)
	case r.Target == "":
		return fmt.Errorf("line %d: the rule needs target", r.Line)
	case len(r.Allow) == 0:
		return fmt.Errorf("line %d: the rule needs allow with at least one of %s", r.Line, verbList())
	}
	return nil
}

func verbList() string {
	list := make([]string, len(verbs))
	for i, v := range verbs {
		list[i] = string(v)
	}
	return strings.Join(list, ", ")
}

func parseAllow(n *yaml.Node, r *Rule) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: allow must be a list of %s", n.Line, verbList())
	}
	r.Allow = []Verb{}
	for _, item := range n.Content {
		var v string
		if err := text(item, "a verb", &v); err != nil {
			return err
		}
		if !slices.Contains(verbs, Verb(v)) {
			return fmt.Errorf("line %d: unknown verb %q; there are %s", item.Line, v, verbList())
		}
		r.Allow = append(r.Allow, Verb(v))
	}
	return nil
}

func parseTables(n *yaml.Node, r *Rule) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf(`line %d: tables must be a mapping of table to "*" or a list of columns`, n.Line)
	}
	r.limited = true
	r.Tables = []Table{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		var t Table
		if err := text(n.Content[i], "a table", &t.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Tables, func(o Table) bool { return o.Name == t.Name }) {
			return fmt.Errorf("line %d: table %q is written twice", n.Content[i].Line, t.Name)
		}
		if err := parseColumns(n.Content[i+1], &t); err != nil {
			return err
		}
		r.Tables = append(r.Tables, t)
	}
	return nil
}

func parseColumns(n *yaml.Node, t *Table) error {
	if n.Kind == yaml.ScalarNode && n.Value == "*" {
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return fmt.Errorf(`line %d: table %q needs "*" or a list of columns`, n.Line, t.Name)
	}
	for _, item := range n.Content {
		var c string
		if err := text(item, "a column", &c); err != nil {
			return err
		}
		t.Columns = append(t.Columns, c)
	}
	return nil
}

func parseLimits(n *yaml.Node, l *Limits) error {
	return fields(n, "limits", field{
		"rowsPerDay": func(n *yaml.Node) error {
			v, err := strconv.ParseUint(n.Value, 10, 63)
			if n.Kind != yaml.ScalarNode || err != nil || v == 0 {
				return fmt.Errorf("line %d: rowsPerDay must be a number above 0", n.Line)
			}
			l.RowsPerDay = v
			return nil
		},
		"window": func(n *yaml.Node) error {
			var s string
			if err := text(n, "window", &s); err != nil {
				return err
			}
			w, err := ParseWindow(s)
			if err != nil {
				return fmt.Errorf("line %d: %w", n.Line, err)
			}
			l.Window = w
			return nil
		},
	})
}

func parseRemote(n *yaml.Node, p *Policy) error {
	known := field{}
	for _, name := range remotes {
		known[name] = func(n *yaml.Node) error {
			if n.Kind != yaml.ScalarNode || n.Value != "allow" && n.Value != "deny" {
				return fmt.Errorf("line %d: %s must be allow or deny", n.Line, name)
			}
			p.Remote[name] = n.Value == "allow"
			return nil
		}
	}
	return fields(n, "remote", known)
}

// text reads a short printable string, as written.
func text(n *yaml.Node, what string, to *string) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
		return fmt.Errorf("line %d: %s must be a text", n.Line, what)
	}
	if len(n.Value) > 1024 || strings.ContainsFunc(n.Value, unicode.IsControl) {
		return fmt.Errorf("line %d: %s is too long or holds control characters", n.Line, what)
	}
	*to = n.Value
	return nil
}

func boolean(n *yaml.Node, what string, to *bool) error {
	if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
		return fmt.Errorf("line %d: %s must be true or false", n.Line, what)
	}
	*to = n.Value == "true"
	return nil
}
