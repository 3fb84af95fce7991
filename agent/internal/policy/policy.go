// Package policy is the site's word over its agent: a local file of rules that
// says which systems may be touched and how. Everything is denied unless a rule
// allows it. It owns the file, the dial and path guards and the row limits; it
// knows no hub, no flow and no connector code.
package policy

import "time"

// Verb is what a request does to a system.
type Verb string

// The verbs of a rule's allow list. Ping goes with any of them.
const (
	Export   Verb = "export"
	Lookup   Verb = "lookup"
	Import   Verb = "import"
	Listen   Verb = "listen"
	Ping     Verb = "ping"
	Discover Verb = "discover"
	Preview  Verb = "preview"
)

var verbs = []Verb{Export, Lookup, Import, Listen, Ping, Discover, Preview}

// Policy is one parsed file. It never changes after Parse.
type Policy struct {
	Rules  []Rule          `json:"rules"`
	Remote map[string]bool `json:"remote,omitempty"` // what the hub may ask of the agent itself
}

// Rule allows verbs on one target of one connector, or one route.
type Rule struct {
	Name      string  `json:"name,omitempty"`
	Line      int     `json:"line"` // where the rule begins in the file
	Connector string  `json:"connector,omitempty"`
	Target    string  `json:"target,omitempty"` // as written in settings; a path ending in / = all below
	Route     string  `json:"route,omitempty"`  // host:port; such a rule has no connector
	Allow     []Verb  `json:"allow,omitempty"`
	Tables    []Table `json:"tables,omitempty"` // nil = any statement of the verbs
	Inbox     bool    `json:"inbox"`            // whether imports may keep ropeway_inbox; true unless written
	Limits    Limits  `json:"limits"`

	limited bool // tables was written, even if it is empty
}

// Table is one entry of a rule's tables.
type Table struct {
	Name    string   `json:"name"`              // as written, perhaps qualified
	Columns []string `json:"columns,omitempty"` // nil = every column
}

// Limits bound when and how much a rule allows. Zero values do not bound.
type Limits struct {
	RowsPerDay uint64  `json:"rowsPerDay,omitempty"`
	Window     *Window `json:"window,omitempty"`
}

// remotes are the names of the remote section.
var remotes = []string{"status", "doctor", "rotate-key", "logs", "support-bundle", "upgrade", "payload-trace"}

// Remote names: what the hub may ask of the agent itself.
func remoteKnown(name string) bool {
	for _, r := range remotes {
		if r == name {
			return true
		}
	}
	return false
}

func (r *Rule) allows(v Verb) bool {
	if v == Ping || v == "" {
		return len(r.Allow) > 0
	}
	for _, a := range r.Allow {
		if a == v {
			return true
		}
	}
	return false
}

// title names the rule in messages.
func (r *Rule) title() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Connector + r.Route + " " + r.Target
}

// day is the calendar day of t by which rowsPerDay counts: that of the window's
// zone, else UTC.
func (r *Rule) day(t time.Time) string {
	zone := time.UTC
	if r.Limits.Window != nil {
		zone = r.Limits.Window.zone
	}
	return t.In(zone).Format(time.DateOnly)
}
