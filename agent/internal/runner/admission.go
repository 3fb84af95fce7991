package runner

import (
	"cmp"
	"encoding/json"
	"slices"

	"ropeway/agent/internal/policy"
	"ropeway/connectors"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// admit asks the site's policy before anything else is done, also when a step
// joins. An import that may not keep an inbox goes without one.
func (s *step) admit(g *policy.Guard) error {
	d, err := g.Decide(s.wish())
	if err != nil {
		return err
	}
	if s.kind != control.KindImport || d.Inbox {
		return nil
	}
	if s.spec.Inbox == connectors.InboxTrue {
		return fault.Of("E_POLICY_DENIED").WithSource("policy").
			WithSentence("the site's policy does not allow ropeway_inbox").
			WithCause("rule \"" + d.Rule + "\" says inbox: false").
			WithFix("set inbox: auto or false in the import, or take inbox: false out of the rule")
	}
	s.spec.Inbox = connectors.InboxFalse
	return nil
}

// wish is the step in the policy's words.
func (s *step) wish() policy.Request {
	w := policy.Request{
		Connector: s.connector.Name, Target: s.target,
		Schema: cmp.Or(s.settings.String("schema"), s.settings.String("database")),
	}
	switch s.kind {
	case control.KindRead:
		w.Verb = policy.Export
		w.SQL, w.Table, w.Columns = statement(s.query), s.query.Table, columns(s.query)
	case control.KindImport:
		w.Verb, w.Table = policy.Import, s.spec.Table
	default:
		w.Verb = policy.Ping
	}
	return w
}

// statement is the free part of a query, "" when there is none. A condition in
// the system's own language can read anything, so it is free as well.
func statement(q connectors.Query) string {
	if q.SQL != "" || q.Where.SQL == "" {
		return q.SQL
	}
	text, err := json.Marshal(q)
	if err != nil {
		return q.Where.SQL
	}
	return string(text)
}

// columns are all that a structured query reads or compares; nil = every one.
func columns(q connectors.Query) []string {
	if len(q.Columns) == 0 {
		return nil
	}
	list := slices.Concat(q.Columns, q.Key)
	for _, c := range q.Where.All {
		list = append(list, c.Column)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// admitBatch checks what only the page tells: the fields that an import writes,
// and how many rows.
func (s *step) admitBatch(g *policy.Guard, p *page.Page) error {
	w := s.wish()
	d, err := g.Decide(w)
	if err != nil {
		return err
	}
	if d.Columns != nil {
		if w.Columns, err = fields(p); err != nil {
			return err
		}
	}
	return g.Count(w, int(p.Header.Records))
}

// fields are the names of all fields of a page's records.
func fields(p *page.Page) ([]string, error) {
	d, err := p.Decode()
	if err != nil {
		return nil, err
	}
	var last *page.Shape
	list := []string{}
	for d.Next() {
		if s := d.Shape(); s != last {
			last, list = s, append(list, s.Names...)
		}
		if len(list) > 4*page.MaxFields {
			slices.Sort(list)
			list = slices.Compact(list)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), d.Err()
}
