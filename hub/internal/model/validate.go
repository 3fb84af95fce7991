package model

import (
	"sort"
	"strings"

	"ropeway/protocol/fault"
)

// Lookup finds what is already stored in the environment of a set.
type Lookup interface {
	// Spec returns the spec of an object (*Connection, *Flow, …).
	Spec(kind Kind, name string) (any, bool)
	// Names returns the names of all objects of a kind.
	Names(kind Kind) []string
}

// Rules are the checks that belong to other packages. A nil func checks nothing.
type Rules struct {
	// Connectors lists the connectors this hub knows.
	Connectors func() []string
	// Settings checks the settings of a connection against its connector's schema.
	Settings func(connector string, settings map[string]any) error
	// Flow checks what only other packages can, such as expressions. Each error
	// is one problem; a *fault.Error keeps its cause, fix and field.
	Flow func(f *Flow) []error
}

// Validate checks a set of manifests of one environment against itself and what
// exists: every name given once, every reference resolvable within the set or
// outside, connectors and settings known, borrowing without chains. The error is
// a Faults with one fault per problem; nil when the set may be stored.
func Validate(ms []Manifest, existing Lookup, rules Rules) error {
	s := &set{existing: existing, rules: rules, new: map[Kind]map[string]*Manifest{}}
	for i := range ms {
		s.add(&ms[i])
	}
	for i := range ms {
		s.check(&ms[i])
	}
	return Faults(s.faults).err()
}

// set is a set of manifests laid over what exists.
type set struct {
	existing Lookup
	rules    Rules
	new      map[Kind]map[string]*Manifest
	faults   []*fault.Error
}

func (s *set) add(m *Manifest) {
	if s.new[m.Kind] == nil {
		s.new[m.Kind] = map[string]*Manifest{}
	}
	if first := s.new[m.Kind][m.Name]; first != nil {
		s.fail(m, "E_MANIFEST", "name", "remove or rename one of the two",
			"%s %s is in the set twice (first at %s)", m.Kind, m.Name, position(first.File, first.Line))
		return
	}
	s.new[m.Kind][m.Name] = m
}

func (s *set) fail(m *Manifest, code, field, fix, format string, args ...any) {
	if len(s.faults) >= maxFaults {
		return
	}
	what := string(m.Kind) + " " + m.Name
	s.faults = append(s.faults, manifestFault(position(m.File, m.Line), what, code, field).
		because(fix, format, args...))
}

// spec finds an object in the set, else in what exists.
func (s *set) spec(kind Kind, name string) (any, bool) {
	if m := s.new[kind][name]; m != nil {
		return m.Spec, true
	}
	if s.existing == nil {
		return nil, false
	}
	return s.existing.Spec(kind, name)
}

func (s *set) names(kind Kind) []string {
	seen := map[string]bool{}
	if s.existing != nil {
		for _, name := range s.existing.Names(kind) {
			seen[name] = true
		}
	}
	for name := range s.new[kind] {
		seen[name] = true
	}
	out := make([]string, 0, len(seen))
	for name := range seen {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// refers refuses a reference to nothing. An empty name refers to nothing.
func (s *set) refers(m *Manifest, field string, kind Kind, name string) {
	if name == "" {
		return
	}
	if _, ok := s.spec(kind, name); ok {
		return
	}
	fix := "apply a " + string(kind) + " named " + clip(name) + " first, or in the same set"
	if near := Nearest(name, s.names(kind)); near != "" {
		fix = "did you mean " + near + "?"
	}
	s.fail(m, "E_REFERENCE", field, fix, "%s names the %s %q, which does not exist", field, kind, clip(name))
}

func (s *set) check(m *Manifest) {
	switch spec := m.Spec.(type) {
	case *Connection:
		s.connection(m, spec)
	case *Flow:
		s.flow(m, spec)
	case *Route:
		s.refers(m, "agentGroup", KindAgentGroup, spec.AgentGroup)
	case *Listener:
		s.refers(m, "agentGroup", KindAgentGroup, spec.AgentGroup)
		s.refers(m, "flow", KindFlow, spec.Flow)
		if spec.Verify != nil {
			s.refers(m, "verify.credential", KindCredential, spec.Verify.Credential)
		}
	}
}

func (s *set) connection(m *Manifest, c *Connection) {
	s.refers(m, "agentGroup", KindAgentGroup, c.AgentGroup)
	s.refers(m, "credential", KindCredential, c.Credential)
	if s.connector(m, c) && s.rules.Settings != nil {
		if err := s.rules.Settings(c.Connector, c.Settings); err != nil {
			s.foreign(m, "settings", err)
		}
	}
	if cred, ok := s.spec(KindCredential, c.Credential); ok && c.AgentGroup == "" {
		if cr, _ := cred.(*Credential); cr != nil && cr.Custody != CustodyVault {
			s.fail(m, "E_MANIFEST", "credential", "use custody: vault, or give the connection an agentGroup",
				"the connection runs in the hub, but the credential %s has custody %s", c.Credential, cr.Custody)
		}
	}
	s.borrowing(m, c)
}

func (s *set) connector(m *Manifest, c *Connection) bool {
	if s.rules.Connectors == nil {
		return true
	}
	known := s.rules.Connectors()
	for _, name := range known {
		if name == c.Connector {
			return true
		}
	}
	s.fail(m, "E_MANIFEST", "connector", oneOf(c.Connector, known), "unknown connector %q", clip(c.Connector))
	return false
}

// foreign records an error of another package, keeping its own cause and fix.
func (s *set) foreign(m *Manifest, field string, err error) {
	e := fault.From(err)
	cause, fix := e.Cause, e.Fix
	if cause == "" {
		cause = e.Sentence
	}
	if e.Code == "E_INTERNAL" {
		cause, fix = err.Error(), ""
	}
	if e.Field != "" {
		field = join(field, strings.TrimPrefix(e.Field, field+"."))
	}
	s.fail(m, "E_MANIFEST", field, fix, "%s: %s", field, cause)
}

func (s *set) flow(m *Manifest, f *Flow) {
	if f.Export != nil {
		s.refers(m, "export.connection", KindConnection, f.Export.Connection)
		s.delta(m, f)
	}
	for _, step := range f.Steps {
		if step.Import != nil {
			s.refers(m, "steps."+step.Name+".import.connection", KindConnection, step.Import.Connection)
		}
	}
	if s.rules.Flow != nil {
		for _, err := range s.rules.Flow(f) {
			s.foreign(m, "steps", err)
		}
	}
}

// delta refuses a delta without key unless every import is an upsert (DELIVERY §1.4).
func (s *set) delta(m *Manifest, f *Flow) {
	if f.Export.Delta == nil || len(f.Export.Key) > 0 {
		return
	}
	for _, step := range f.Steps {
		if step.Import != nil && step.Import.Mode != "upsert" {
			s.fail(m, "E_MANIFEST", "export.key", "add key: [a unique column], or use mode: upsert",
				"a delta without key may read a row twice, and the import %s would double it", step.Name)
		}
	}
}
