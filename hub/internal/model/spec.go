package model

import "ropeway/connectors"

// Manifest is one document of a set: the common head and the kind's own fields.
type Manifest struct {
	Kind        Kind              `json:"kind"`
	Name        string            `json:"name"`
	Environment string            `json:"environment,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Spec        any               `json:"spec"` // *AgentGroup, *Credential, *Connection, *Flow, *Route or *Listener

	File string `json:"-"` // where it came from, for messages
	Line int    `json:"-"` // of the document's first key
}

// AgentGroup is a set of agents that can stand in for one another.
type AgentGroup struct {
	Description string `json:"description,omitempty"`
}

// Custody says where the value of a credential is kept (SEMANTICS glossary).
type Custody string

// The places a credential's value may be kept.
const (
	CustodyVault  Custody = "vault"  // by the hub's secret engine
	CustodySealed Custody = "sealed" // encrypted to an agent group
	CustodySite   Custody = "site"   // by the agent; the hub knows only the name
)

// Credential is a secret used by connections; its value is never in a manifest.
type Credential struct {
	Custody     Custody `json:"custody"`
	Description string  `json:"description,omitempty"`
}

// Connection is one endpoint account, and a queue with a concurrency level.
type Connection struct {
	Connector   string         `json:"connector"`
	AgentGroup  string         `json:"agentGroup,omitempty"` // empty = runs in the hub
	Credential  string         `json:"credential,omitempty"`
	Settings    map[string]any `json:"settings,omitempty"`
	Concurrency int            `json:"concurrency,omitempty"` // 1..25; 0 = burst
	BorrowFrom  string         `json:"borrowFrom,omitempty"`
	Description string         `json:"description,omitempty"`
}

// Flow is one export and an ordered list of steps.
type Flow struct {
	Description string    `json:"description,omitempty"`
	Schedule    *Schedule `json:"schedule,omitempty"`
	Export      *Export   `json:"export,omitempty"` // nil = started by its listener
	Steps       []Step    `json:"steps"`
}

// Schedule says when a flow runs by itself.
type Schedule struct {
	Cron     string `json:"cron"`
	Timezone string `json:"timezone,omitempty"`
	Misfire  string `json:"misfire,omitempty"` // coalesce (default), all, skip
	Overlap  string `json:"overlap,omitempty"` // skip (default), queue, parallel
}

// Export is the read that produces the pages of a flow. Exactly one of Query
// and Table is set. Name is the step token of the export in chains and counts.
type Export struct {
	Name       string           `json:"name"`
	Connection string           `json:"connection"`
	Query      string           `json:"query,omitempty"`
	Table      string           `json:"table,omitempty"`
	Columns    []string         `json:"columns,omitempty"`
	Where      connectors.Where `json:"where,omitzero"`
	Key        []string         `json:"key,omitempty"` // empty = one streaming read, not resumable
	Delta      *Delta           `json:"delta,omitempty"`
	PageSize   int              `json:"pageSize,omitempty"` // records; 0 = bounded by bytes only
	TraceKey   []string         `json:"traceKey,omitempty"` // fields whose values trace a record; default: Key
}

// Delta makes an export read only what is newer than its watermark.
type Delta struct {
	Field string `json:"field"`
	Lag   string `json:"lag,omitempty"` // a duration such as 30s
}

// Step is one page processor. Name is its stable token: given, or derived once
// at apply (kind and ordinal, such as filter-1). Exactly one of the others is set.
type Step struct {
	Name    string      `json:"name"`
	Filter  string      `json:"filter,omitempty"`
	Map     Assignments `json:"map,omitempty"` // replaces the record
	Set     Assignments `json:"set,omitempty"` // changes fields of it
	Import  *Import     `json:"import,omitempty"`
	Derived bool        `json:"-"` // Name was derived while parsing, not given
}

// Assignment gives one field of a record the value of an expression.
type Assignment struct {
	Field string
	Expr  string
}

// Import is a write that consumes pages and answers per record.
type Import struct {
	Connection  string                 `json:"connection"`
	Table       string                 `json:"table"`
	Mode        string                 `json:"mode"` // insert, update, upsert, delete
	Key         []string               `json:"key,omitempty"`
	Inbox       string                 `json:"inbox,omitempty"`      // auto (default), true, false
	FieldErrors connectors.FieldErrors `json:"fieldErrors,omitzero"` // fields that may be left out
	OnError     string                 `json:"onError,omitempty"`    // park (default), stop
}

// Route is a mapping of a name on the hub side to a target behind an agent group.
type Route struct {
	AgentGroup  string  `json:"agentGroup"`
	Target      string  `json:"target"` // host:port
	Expose      *Expose `json:"expose,omitempty"`
	Description string  `json:"description,omitempty"`
}

// Expose opens a port of the hub for a route to the listed networks only.
type Expose struct {
	Port  int      `json:"port"`
	Allow []string `json:"allow"`
}

// Listener is an endpoint that accepts pushed data.
type Listener struct {
	Flow        string  `json:"flow"`
	AgentGroup  string  `json:"agentGroup,omitempty"` // empty = in the hub
	Verify      *Verify `json:"verify"`
	Description string  `json:"description,omitempty"`
}

// Verify says how a listener knows its senders. None is the explicit `none`.
type Verify struct {
	None       bool   `json:"-"`              // written as the text none
	HMAC       string `json:"hmac,omitempty"` // sha256, sha384, sha512
	Header     string `json:"header,omitempty"`
	Credential string `json:"credential,omitempty"`
}
