package model

import (
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// OnlineState is the state of a connection (SEMANTICS §3.5).
type OnlineState string

// The states of a connection.
const (
	Online      OnlineState = "online"
	Offline     OnlineState = "offline"
	RateLimited OnlineState = "rate_limited" // until NextProbe
)

// OfflineCause says why a connection is offline.
type OfflineCause string

// The causes of an offline connection.
const (
	CauseAuth         OfflineCause = "auth"
	CauseUnreachable  OfflineCause = "unreachable"
	CauseAgentOffline OfflineCause = "agent_offline"
	CauseNoCredential OfflineCause = "no_credential"
	CauseManual       OfflineCause = "manual"
	CauseMaintenance  OfflineCause = "maintenance"
)

// ConnectionState is the state of one connection. Cause is empty while online.
type ConnectionState struct {
	Connection page.ID      `json:"connection"`
	State      OnlineState  `json:"state"`
	Cause      OfflineCause `json:"cause,omitempty"`
	Fault      *fault.Error `json:"fault,omitempty"`
	Since      time.Time    `json:"since"`
	NextProbe  *time.Time   `json:"nextProbe,omitempty"`
	Probes     int          `json:"probes,omitempty"`        // since it went offline: the back-off
	AuthTries  int          `json:"authTries,omitempty"`     // with the same bad credential in the lock-out window
	AuthSince  *time.Time   `json:"authSince,omitempty"`     // start of that window
	Secret     uint64       `json:"secretVersion,omitempty"` // version of the credential those tries used
}

// ConnectionQueue is what `ropeway connection queue NAME -o json` prints.
type ConnectionQueue struct {
	Name        string       `json:"name"`
	State       OnlineState  `json:"state"`
	Cause       OfflineCause `json:"cause"`
	Fault       *fault.Error `json:"fault,omitempty"`
	Since       *time.Time   `json:"since,omitempty"`
	NextProbe   *time.Time   `json:"nextProbe,omitempty"`
	Concurrency int          `json:"concurrency"` // 0 = burst
	BorrowFrom  string       `json:"borrowFrom,omitempty"`
	Queued      uint64       `json:"queued"`
	InFlight    uint64       `json:"inFlight"`
	Oldest      *time.Time   `json:"oldest"` // of the queued; null when nothing waits
	Borrowers   []string     `json:"borrowers"`
}

// AgentState is the state of an agent in the words of `ropeway agent list`.
type AgentState string

// The states of an agent.
const (
	AgentPending  AgentState = "pending"
	AgentOnline   AgentState = "online"
	AgentDegraded AgentState = "degraded"
	AgentDraining AgentState = "draining"
	AgentOffline  AgentState = "offline"
	AgentDisabled AgentState = "disabled"
	AgentRevoked  AgentState = "revoked"
)

// Agent is one enrolled agent. Its JSON is an element of `ropeway agent list -o json`.
type Agent struct {
	ID          page.ID    `json:"id"`
	Tenant      page.ID    `json:"-"`
	Environment page.ID    `json:"-"`
	Group       page.ID    `json:"groupId"`
	GroupName   string     `json:"group"`
	Name        string     `json:"name"`
	State       AgentState `json:"state"`
	Hostname    string     `json:"hostname,omitempty"`
	OS          string     `json:"os,omitempty"`
	Arch        string     `json:"arch,omitempty"`
	Version     string     `json:"version,omitempty"`
	Transport   string     `json:"transport,omitempty"`
	Remote      string     `json:"remote,omitempty"`
	Serial      string     `json:"serial,omitempty"`      // of its certificate, hex
	Fingerprint string     `json:"fingerprint,omitempty"` // SHA-256 of its certificate, hex
	NotAfter    *time.Time `json:"notAfter,omitempty"`
	Enrolled    time.Time  `json:"enrolled"`
	LastSeen    *time.Time `json:"lastSeen,omitempty"`
	Revoked     *time.Time `json:"revoked,omitempty"`
	Connectors  []string   `json:"connectors,omitempty"`
}

// AuditEntry is one row of the audit log. Hash covers the row and Prev, so that
// an edited, deleted or moved row shows.
type AuditEntry struct {
	Seq         uint64    `json:"seq"`
	At          time.Time `json:"at"`
	Tenant      page.ID   `json:"tenant"`
	Environment page.ID   `json:"environment"`
	Actor       string    `json:"actor"`  // name of the token or of the local administrator
	Action      string    `json:"action"` // e.g. "apply", "secret set", "agent revoke"
	Kind        string    `json:"kind,omitempty"`
	Object      string    `json:"object,omitempty"`
	Detail      string    `json:"detail,omitempty"` // never a secret
	Prev        page.Hash `json:"prev"`
	Hash        page.Hash `json:"hash"`
}
