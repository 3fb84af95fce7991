// Package localapi lets people on the agent's machine see and steer a running
// agent: HTTP with JSON over a unix socket that only its owner may open. It owns
// the socket, the words on it and a client for the command line; what it shows
// comes from functions it is given, so it knows no package behind them.
package localapi

import "time"

// SocketName is the file of the socket in a state directory.
const SocketName = "agent.sock"

// ListLimit is how many pages BufferList shows.
const ListLimit = 1000

// Status is what `ropeway-agent status` shows. State uses the words of
// `ropeway agent list`: pending, online, degraded, draining, offline.
type Status struct {
	State       string         `json:"state"`
	Cause       *Cause         `json:"cause,omitempty"` // why it is not online
	Name        string         `json:"name"`
	Agent       string         `json:"agent"`
	Group       string         `json:"group"`
	Tenant      string         `json:"tenant"`
	Environment string         `json:"environment"`
	Hub         string         `json:"hub"`
	Version     string         `json:"version"`
	Process     int            `json:"pid"`
	Started     time.Time      `json:"started"`
	Tunnels     []Tunnel       `json:"tunnels"`
	Running     int            `json:"running"` // requests in work
	Identity    IdentityStatus `json:"identity"`
	Buffer      BufferStatus   `json:"buffer"`
	Policy      PolicyStatus   `json:"policy"`
}

// A Cause is an error as people read it.
type Cause struct {
	Code     string `json:"code"`
	Sentence string `json:"sentence"`
	Cause    string `json:"cause,omitempty"`
	Fix      string `json:"fix,omitempty"`
}

// A Tunnel is one session with the hub.
type Tunnel struct {
	Transport string    `json:"transport"`
	Remote    string    `json:"remote"`
	Since     time.Time `json:"since"`
}

// IdentityStatus says who the agent is to its hub.
type IdentityStatus struct {
	Serial      string    `json:"serial"`
	NotAfter    time.Time `json:"notAfter"`
	NextRenewal time.Time `json:"nextRenewal"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, hex
	URI         string    `json:"uri"`
	Agent       string    `json:"agent"`
	Tenant      string    `json:"tenant"`
	Environment string    `json:"environment"`
	TrustDomain string    `json:"trustDomain"`
	RootPin     string    `json:"rootPin"`
	Hub         string    `json:"hub"`
}

// BufferStatus says what waits on disk. Oldest is nil when nothing waits.
type BufferStatus struct {
	Pages   int        `json:"pages"`
	Bytes   int64      `json:"bytes"`
	Unacked int        `json:"unacked"`
	Oldest  *time.Time `json:"oldest"`
	Quota   int64      `json:"quota"`
	Evicted uint64     `json:"evicted"` // taken by the hub and given up to make room, since the start
	Damaged int        `json:"damaged"` // set aside, still on disk
}

// BufferPage is one line of `buffer list`.
type BufferPage struct {
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Records int       `json:"records"`
	Bytes   int64     `json:"bytes"`
	Put     time.Time `json:"put"`
}

// BufferCheck is what `buffer verify` found; Damaged are names of pages.
type BufferCheck struct {
	Checked int      `json:"checked"`
	Damaged []string `json:"damaged"`
}

// PurgeRequest chooses pages to delete, delivered or not: one field is set.
type PurgeRequest struct {
	All     bool     `json:"all,omitempty"`
	Damaged bool     `json:"damaged,omitempty"`
	Names   []string `json:"names,omitempty"`
}

// Valid tells whether exactly one choice was made.
func (r PurgeRequest) Valid() bool {
	choices := 0
	for _, made := range []bool{r.All, r.Damaged, len(r.Names) > 0} {
		if made {
			choices++
		}
	}
	return choices == 1
}

// BufferPurge is what `buffer purge` removed.
type BufferPurge struct {
	Pages int `json:"pages"`
}

// PolicyStatus says which policy holds. State is loaded, or one of missing,
// broken and suspended, in which everything is denied.
type PolicyStatus struct {
	File    string    `json:"file"`
	State   string    `json:"state"`
	Rules   int       `json:"rules"`
	Loaded  time.Time `json:"loaded"`
	Error   string    `json:"error,omitempty"`
	Warning string    `json:"warning,omitempty"`
}

// Policy is the policy in force, with the free statements that the site approved
// and those that were refused lately and wait for it.
type Policy struct {
	PolicyStatus
	InForce  any         `json:"inForce"`
	Approved []Statement `json:"approved"`
	Waiting  []Statement `json:"waiting"`
}

// A Statement is free SQL on one target.
type Statement struct {
	Hash      string    `json:"hash"`
	Connector string    `json:"connector"`
	Target    string    `json:"target"`
	Verb      string    `json:"verb"`
	SQL       string    `json:"sql"`
	At        time.Time `json:"at"`
}

// ApproveRequest names a waiting statement.
type ApproveRequest struct {
	Hash string `json:"hash"`
}
