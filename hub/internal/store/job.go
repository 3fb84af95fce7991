package store

import (
	"encoding/json"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// NewJob is a job to create. Steps are the names of everything that counts
// records, in the order of the flow.
type NewJob struct {
	Scope       Scope
	ID          page.ID
	Flow        page.ID
	FlowName    string
	FlowVersion uint64
	Kind        model.JobKind
	Vars        json.RawMessage // frozen with the job
	Guarantee   string
	Steps       []string
	Connections []page.ID // every connection the job uses
	Export      *NewChain // nil for a retry
	Queued      bool      // wait for StartJob instead of running at once
	Now         time.Time
}

// NewChain is the chain of an export.
type NewChain struct {
	Step       string
	Connection page.ID
	Resumable  bool // false without key: a second execution after a page is refused (DELIVERY §1.4)
}

// Pause says why a job stops where it is.
type Pause struct {
	Cause      *fault.Error // E_SUM_OPEN, once set, is never replaced by another
	Connection page.ID      // the job goes on when this connection does; zero = not its fault
	RetryAt    *time.Time   // when TryPaused may let one probe through; nil = by hand
}

// JobList is one piece of a list. Next continues it; empty at its end.
type JobList struct {
	Items []model.Job
	Next  string
}

// Reads are the read requests to publish after a job started or went on.
type Reads struct {
	Job  model.Job
	Next []PendingRead
}

// JobFilter chooses jobs; zero fields do not restrict.
type JobFilter struct {
	Flow   page.ID
	States []model.JobState
	Kind   model.JobKind
}

// JobPlan is what the engine needs to run a step of a job.
type JobPlan struct {
	Job     page.ID
	Flow    page.ID
	Version uint64
	Kind    model.JobKind
	State   model.JobState
	Vars    json.RawMessage
	Created time.Time
}
