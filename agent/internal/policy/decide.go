package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

// Request is one thing a hub asks of this site.
type Request struct {
	Connector string
	Target    string   // as written in the connection's settings
	Verb      Verb     // empty = any verb will do: a pooled connection dials again
	Schema    string   // qualifies a table without one
	Table     string   // empty with a free statement
	Columns   []string // every column that is read, compared or written; nil = all, for an import = not known yet
	SQL       string   // a free statement; empty when the agent builds it from table and columns
	Route     string   // host:port; such a request has nothing else
}

// Decision is why a request may go on and what still binds it.
type Decision struct {
	Rule    string   // title of the rule that allows it
	Inbox   bool     // an import may keep ropeway_inbox
	Columns []string // the columns that an import may write; nil = all

	rule *Rule
}

// books tell a decision what the file does not.
type books struct {
	now      time.Time
	spent    func(*Rule) uint64 // rows that a rule has let through today
	approved func(Request) bool // whether the site approved a free statement
}

// decide finds the first rule that allows r. It returns the closest reason when
// none does.
func (p *Policy) decide(r Request, b books) (Decision, *fault.Error) {
	closest, depth := denied(r, "no rule names "+r.what()), 0
	for i := range p.Rules {
		rule := &p.Rules[i]
		at, err := rule.match(r, b.approved)
		if err == nil {
			at, err = 10, rule.bounds(r, b.now, b.spent(rule))
		}
		if err == nil {
			return rule.decision(r), nil
		}
		if at > depth {
			closest, depth = err, at
		}
	}
	return Decision{}, closest
}

// match reports how far the rule goes with r, and why not further.
func (rule *Rule) match(r Request, approved func(Request) bool) (int, *fault.Error) {
	if r.Route != "" || rule.Route != "" {
		if r.Route != "" && sameTarget(rule.Route, r.Route) {
			return 10, nil
		}
		return 0, denied(r, "no rule names it")
	}
	if rule.Connector != r.Connector || !covers(rule.Target, r.Target) {
		return 0, denied(r, "no rule names it")
	}
	if !rule.allows(r.Verb) {
		return 1, denied(r, fmt.Sprintf("rule %q does not allow %s", rule.title(), r.Verb))
	}
	if !rule.limited || r.Verb == "" || r.Verb == Ping || r.Verb == Discover {
		return 10, nil
	}
	if r.SQL != "" || r.Table == "" {
		if r.SQL != "" && approved(r) {
			return 10, nil
		}
		return 2, unapproved(r, rule)
	}
	return rule.matchTable(r)
}

func (rule *Rule) matchTable(r Request) (int, *fault.Error) {
	t := rule.table(r)
	if t == nil {
		return 3, denied(r, fmt.Sprintf("rule %q does not name table %s", rule.title(), r.Table))
	}
	if t.Columns == nil || r.Verb == Import && r.Columns == nil {
		return 10, nil
	}
	if len(r.Columns) == 0 {
		return 4, denied(r, fmt.Sprintf("rule %q allows %s of %s and the request asks for every column",
			rule.title(), strings.Join(t.Columns, ", "), t.Name))
	}
	for _, c := range r.Columns {
		if !slices.Contains(t.Columns, c) {
			return 4, denied(r, fmt.Sprintf("rule %q does not allow column %q of table %s", rule.title(), c, t.Name))
		}
	}
	return 10, nil
}

func (rule *Rule) table(r Request) *Table {
	for i := range rule.Tables {
		if qualify(rule.Tables[i].Name, r.Schema) == qualify(r.Table, r.Schema) {
			return &rule.Tables[i]
		}
	}
	return nil
}

func qualify(table, schema string) string {
	if strings.Contains(table, ".") || schema == "" {
		return table
	}
	return schema + "." + table
}

// bounds applies the limits of a rule that matches.
func (rule *Rule) bounds(r Request, t time.Time, spent uint64) *fault.Error {
	if r.Verb == "" || r.Verb == Ping {
		return nil
	}
	if w := rule.Limits.Window; w != nil && !w.Open(t) {
		return limited(r, fmt.Sprintf("rule %q is open only %s", rule.title(), w), w.Next(t).Sub(t), rule)
	}
	if max := rule.Limits.RowsPerDay; max > 0 && spent >= max {
		return limited(r, fmt.Sprintf("rule %q allows %d rows a day and they are used up", rule.title(), max),
			rule.midnight(t).Sub(t), rule)
	}
	return nil
}

func (rule *Rule) midnight(t time.Time) time.Time {
	zone := time.UTC
	if rule.Limits.Window != nil {
		zone = rule.Limits.Window.zone
	}
	local := t.In(zone)
	return time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, zone)
}

func (rule *Rule) decision(r Request) Decision {
	d := Decision{Rule: rule.title(), Inbox: rule.Inbox, rule: rule}
	if rule.limited && r.Verb == Import && r.Table != "" {
		if t := rule.table(r); t != nil {
			d.Columns = t.Columns
		}
	}
	return d
}

// covers reports whether a rule's target means the one written in a connection:
// the same text, hosts without case, or a path below a folder.
func covers(rule, target string) bool {
	if strings.HasSuffix(rule, "/") && strings.HasPrefix(rule, "/") {
		return strings.HasPrefix(target, rule) && !hasDotDot(target)
	}
	return sameTarget(rule, target)
}

func sameTarget(a, b string) bool {
	if strings.ContainsAny(a, `/\`) || strings.ContainsAny(b, `/\`) {
		return a == b
	}
	return strings.EqualFold(a, b)
}
