package model

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// MaxPageSize bounds the records of a page (DELIVERY §9).
const MaxPageSize = 5000

// maxLag bounds the margin of a delta.
const maxLag = 31 * 24 * time.Hour

func readFlow(m *mapping) *Flow {
	f := &Flow{
		Description: m.text("description"),
		Schedule:    readSchedule(m.mapping("schedule")),
		Export:      readExport(m.mapping("export")),
		Steps:       readSteps(m),
	}
	nameSteps(f)
	refuseTwiceNamed(m, f)
	return f
}

func readExport(m *mapping) *Export {
	if m == nil {
		return nil
	}
	e := &Export{
		Name:       m.stepName(),
		Connection: m.required("connection"),
		Query:      strings.TrimSpace(m.text("query")),
		Table:      m.text("table"),
		Columns:    m.texts("columns"),
		Where:      readWhere(m),
		Key:        m.texts("key"),
		Delta:      readDelta(m.mapping("delta")),
		PageSize:   m.integer("pageSize", 1, MaxPageSize),
		TraceKey:   m.texts("traceKey"),
	}
	m.done()
	if err := e.Read().Validate(); err != nil {
		m.fail("", "give the export a query, or a table with columns and where", "export: %s", fault.From(err).Cause)
	}
	return e
}

func readDelta(m *mapping) *Delta {
	if m == nil {
		return nil
	}
	d := &Delta{Field: m.required("field"), Lag: m.text("lag")}
	if d.Lag != "" {
		if lag, err := time.ParseDuration(d.Lag); err != nil || lag < 0 || lag > maxLag {
			m.fail("lag", "use a duration such as 30s or 10m, at most 744h", "lag is %q", clip(d.Lag))
		}
	}
	m.done()
	return d
}

// readWhere reads a condition: SQL text, or a list of conditions that all hold.
func readWhere(m *mapping) (w connectors.Where) {
	n := m.at("where")
	switch {
	case n == nil:
		return w
	case n.Kind == yaml.ScalarNode:
		w.SQL = m.text("where")
		return w
	case n.Kind != yaml.SequenceNode:
		m.fail("where", "write a list such as [{column: status, op: \"=\", value: paid}]",
			"where must be text or a list of conditions, got %s", shape(n))
		return w
	}
	for _, item := range n.Content {
		c := m.doc.mapping(item, join(m.path, "where"), m.depth+2)
		if c == nil {
			continue
		}
		one := connectors.Condition{Column: c.required("column"), Op: c.choice("op", connectors.Operators()...)}
		if v := c.any("value"); v != nil {
			raw, err := json.Marshal(v)
			if err != nil {
				c.fail("value", "", "the value cannot be used: %v", err)
			}
			one.Value = raw
		}
		c.done()
		w.All = append(w.All, one)
	}
	return w
}

func readSteps(m *mapping) []Step {
	n := m.at("steps")
	if n == nil || n.Kind != yaml.SequenceNode {
		m.fail("steps", "add a list of steps; the last is usually an import", "steps must be a list")
		return nil
	}
	if len(n.Content) == 0 || len(n.Content) > MaxSteps {
		m.fail("steps", "", "a flow has 1 to %d steps, this one has %d", MaxSteps, len(n.Content))
		return nil
	}
	var steps []Step
	for _, item := range n.Content {
		if s := m.doc.mapping(item, "steps", m.depth+2); s != nil {
			steps = append(steps, readStep(s))
		}
	}
	return steps
}

func readStep(m *mapping) Step {
	s := Step{Name: m.stepName()}
	var kinds []string
	for _, kind := range []string{"filter", "map", "set", "import", "lookup", "branch"} {
		if m.has(kind) {
			kinds = append(kinds, kind)
		}
	}
	onError, fieldErrors := m.choice("onError", "park", "stop"), readFieldErrors(m.mapping("fieldErrors"))
	m.done()
	if len(kinds) != 1 {
		m.fail("", "give each step exactly one of filter, map, set and import",
			"a step does one thing, this one has %d (%s)", len(kinds), strings.Join(kinds, ", "))
		return s
	}
	switch kinds[0] {
	case "filter":
		s.Filter = m.expression("filter")
	case "map":
		s.Map = m.assignments("map")
	case "set":
		s.Set = m.assignments("set")
	case "import":
		s.Import = readImport(m.mapping("import"))
	default:
		m.fail(kinds[0], "use filter, map, set and import", "the step %q is not yet available", kinds[0])
	}
	m.reactions(s.Import, onError, fieldErrors)
	return s
}

// reactions takes what stands beside an import; inside it may stand as well.
func (m *mapping) reactions(i *Import, onError string, fieldErrors connectors.FieldErrors) {
	if i == nil {
		if onError != "" || !fieldErrors.IsZero() {
			m.fail("", "", "onError and fieldErrors belong to an import")
		}
		return
	}
	if onError != "" {
		i.OnError = onError
	}
	if !fieldErrors.IsZero() {
		i.FieldErrors = fieldErrors
	}
	for _, k := range i.Key {
		if slices.Contains(i.FieldErrors.Remove, k) {
			m.fail("fieldErrors", "take it out of fieldErrors.remove", "the key field %q cannot be removed", clip(k))
		}
	}
}

func (m *mapping) stepName() string {
	name := m.text("name")
	if name != "" && !ValidStepName(name) {
		m.fail("name", "use 1 to 32 of a-z, 0-9, _ and -, beginning with a letter or digit",
			"the step name %q cannot be used", clip(name))
	}
	return name
}

// maxExpression bounds the text of one expression.
const maxExpression = 16 << 10

// expression reads the text of an expression; plain numbers and booleans are
// expressions too.
func (m *mapping) expression(key string) string {
	n := m.at(key)
	if n == nil || n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" || len(n.Value) > maxExpression {
		m.fail(key, "write an expression such as record.total > 0; null is written nil",
			"%s must be an expression of at most %d characters", join(m.path, key), maxExpression)
		return ""
	}
	return strings.TrimSpace(n.Value)
}

// maxFields bounds the fields of one map or set.
const maxFields = 2000

func (m *mapping) assignments(key string) Assignments {
	in := m.mapping(key)
	if in == nil {
		return nil
	}
	if len(in.order) == 0 || len(in.order) > maxFields {
		m.fail(key, "", "%s has %d fields; 1 to %d are allowed", key, len(in.order), maxFields)
	}
	out := make(Assignments, 0, len(in.order))
	for _, field := range in.order {
		if field == "" || len(field) > 256 {
			in.fail(field, "", "a field name has 1 to 256 characters")
			continue
		}
		out = append(out, Assignment{Field: field, Expr: in.expression(field)})
	}
	return out
}

func readImport(m *mapping) *Import {
	if m == nil {
		return nil
	}
	i := &Import{
		Connection:  m.required("connection"),
		Table:       m.required("table"),
		Mode:        m.choice("mode", "insert", "update", "upsert", "delete"),
		Key:         m.texts("key"),
		Inbox:       m.choice("inbox", "auto", "true", "false"),
		FieldErrors: readFieldErrors(m.mapping("fieldErrors")),
		OnError:     m.choice("onError", "park", "stop"),
	}
	m.done()
	if i.Mode == "" && !m.has("mode") {
		i.Mode = "insert"
	}
	if i.Mode != "insert" && i.Mode != "" && len(i.Key) == 0 {
		m.fail("key", "add key: [the columns that find a row]", "an import with mode %s needs a key", i.Mode)
	}
	return i
}

func readFieldErrors(m *mapping) (f connectors.FieldErrors) {
	if m == nil {
		return f
	}
	if n := m.at("remove"); n != nil && n.Kind == yaml.ScalarNode && n.Value == "*" {
		f.Remove = []string{"*"}
	} else {
		f.Remove = m.texts("remove")
	}
	m.done()
	return f
}

func refuseTwiceNamed(m *mapping, f *Flow) {
	seen := map[string]bool{}
	if f.Export != nil {
		seen[f.Export.Name] = true
	}
	for _, s := range f.Steps {
		if seen[s.Name] {
			m.fail("steps", "give each step another name", "the step name %q is used twice", s.Name)
		}
		seen[s.Name] = true
	}
}
