package model

import (
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// What the API answers besides objects, jobs, agents and parked records. The
// doc tags end up in the description of the API.

// Change is what an apply did, or would do, to one object.
type Change struct {
	Kind    Kind   `json:"kind"`
	Name    string `json:"name"`
	Action  string `json:"action" enum:"created,changed,unchanged"`
	ID      string `json:"id,omitempty" doc:"Absent for what a dry run would create."`
	Version uint64 `json:"version,omitempty"`
}

// ApplyResult is the answer of an apply.
type ApplyResult struct {
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings" doc:"Checks that need the outside; they never refuse."`
	DryRun   bool     `json:"dryRun"`
}

// SecretInfo says that a credential has a value, never which.
type SecretInfo struct {
	Name    string     `json:"name"`
	Custody Custody    `json:"custody"`
	Version uint64     `json:"version" doc:"0 = no value yet."`
	Set     bool       `json:"set"`
	Updated *time.Time `json:"updated,omitempty"`
}

// Token is a one-time enrollment token. It is shown once.
type Token struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// TokenOptions says what an enrollment token may be used for.
type TokenOptions struct {
	Agent      string `json:"agent,omitempty" maxLength:"63" doc:"The only agent name the token may be used with."`
	TTLSeconds int64  `json:"ttlSeconds,omitempty" minimum:"0" maximum:"604800" doc:"Left out: one hour."`
	Uses       int    `json:"uses,omitempty" minimum:"0" maximum:"10000" doc:"Left out: once."`
}

// Retry says which parked records to retry: these, or all that wait of a flow.
type Retry struct {
	IDs  []string `json:"ids,omitempty" maxItems:"5000"`
	Flow string   `json:"flow,omitempty" maxLength:"63"`
}

// RetryResult names the jobs of a retry: one for each flow version.
type RetryResult struct {
	Job     string   `json:"job"`
	Jobs    []string `json:"jobs"`
	Records int      `json:"records"`
	More    bool     `json:"more" doc:"More records wait than one retry takes."`
}

// PingResult says whether a connection works.
type PingResult struct {
	Name     string       `json:"name"`
	OK       bool         `json:"ok"`
	Fault    *fault.Error `json:"fault,omitempty"`
	Duration float64      `json:"duration" doc:"Seconds."`
}

// AuditRow is one row of the audit log.
type AuditRow struct {
	Seq         uint64    `json:"seq"`
	At          time.Time `json:"at"`
	Environment page.ID   `json:"environment"`
	Actor       string    `json:"actor"`
	Action      string    `json:"action"`
	Kind        string    `json:"kind,omitempty"`
	Object      string    `json:"object,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Prev        string    `json:"prev" doc:"Hash of the row before, hex."`
	Hash        string    `json:"hash" doc:"Hash of this row, hex."`
}

// AuditCheck is the result of verifying the audit log.
type AuditCheck struct {
	OK    bool         `json:"ok"`
	Rows  uint64       `json:"rows" doc:"Sound rows."`
	Fault *fault.Error `json:"fault,omitempty" doc:"Where the log was tampered with."`
}

// VersionInfo says what runs.
type VersionInfo struct {
	Version string `json:"version"`
	API     string `json:"api"`
}

// WhoAmI says who the caller is.
type WhoAmI struct {
	Name         string   `json:"name"`
	Role         string   `json:"role"`
	Tenant       page.ID  `json:"tenant"`
	Environments []string `json:"environments"`
}

// Problem is an error answer (RFC 9457) with the code, cause and fix of a fault.
type Problem struct {
	Type   string         `json:"type" doc:"Always about:blank; the code says what it is." example:"about:blank"`
	Title  string         `json:"title" doc:"What happened, one sentence."`
	Status int            `json:"status" doc:"The HTTP status."`
	Code   string         `json:"code" doc:"A stable code." example:"E_NOT_FOUND"`
	Class  string         `json:"class" doc:"The class of the error." example:"missing"`
	Detail string         `json:"detail,omitempty" doc:"Sentence, cause and fix in one line."`
	Cause  string         `json:"cause,omitempty" doc:"Why."`
	Fix    string         `json:"fix,omitempty" doc:"What to do."`
	Field  string         `json:"field,omitempty" doc:"The field that is wrong."`
	Source string         `json:"source,omitempty" doc:"Who or where: a connector, or file and line."`
	Errors []ProblemEntry `json:"errors,omitempty" doc:"Every single problem, when there are several."`
}

// ProblemEntry is one of several problems.
type ProblemEntry struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Cause  string `json:"cause,omitempty"`
	Fix    string `json:"fix,omitempty"`
	Field  string `json:"field,omitempty"`
	Source string `json:"source,omitempty"`
}

// Error is the problem in one line.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return "application/problem+json" }
