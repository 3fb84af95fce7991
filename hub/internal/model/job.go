package model

import (
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// JobState is the state of one run of a flow (SEMANTICS §4.1).
type JobState string

// The states of a job. The last four are terminal and never overwritten.
const (
	JobQueued              JobState = "queued"
	JobRunning             JobState = "running"
	JobPaused              JobState = "paused"
	JobCompleted           JobState = "completed"
	JobCompletedWithErrors JobState = "completed_with_errors"
	JobFailed              JobState = "failed"
	JobCancelled           JobState = "cancelled"
)

// Terminal reports whether the state is an end that nothing overwrites.
func (s JobState) Terminal() bool {
	switch s {
	case JobCompleted, JobCompletedWithErrors, JobFailed, JobCancelled:
		return true
	}
	return false
}

// JobKind says what started a job.
type JobKind string

// The kinds of jobs.
const (
	JobRun      JobKind = "run"      // by hand or through the API
	JobSchedule JobKind = "schedule" // by the flow's schedule
	JobRetry    JobKind = "retry"    // parked records, DELIVERY §3.6
	JobListener JobKind = "listener" // pushed data, one job per flow version and UTC day
)

// Job is one run of a flow. Its JSON is what `ropeway job show -o json` prints:
// `flow` is the flow's name and `flowId` its id; `duration` is in seconds.
type Job struct {
	ID          page.ID      `json:"id"`
	Tenant      page.ID      `json:"tenant"`
	Environment page.ID      `json:"environment"`
	Flow        page.ID      `json:"flowId"`
	FlowName    string       `json:"flow"`
	FlowVersion uint64       `json:"flowVersion"`
	Kind        JobKind      `json:"kind"`
	State       JobState     `json:"state"`
	Cause       *fault.Error `json:"cause,omitempty"` // why it is paused or failed
	Created     time.Time    `json:"created"`
	Started     *time.Time   `json:"started,omitempty"`
	Ended       *time.Time   `json:"ended,omitempty"`
	Records     RecordCounts `json:"records"`
	Pages       int64        `json:"pages"`    // root pages accepted
	Bytes       int64        `json:"bytes"`    // payload of the root pages, before compression
	Duration    float64      `json:"duration"` // seconds, until now while it runs
	Steps       []StepCount  `json:"steps"`
	Guarantee   string       `json:"guarantee,omitempty"` // exactly-once, effectively-once, at-least-once
}

// RecordCounts counts the source records of a job by their worst outcome
// (DELIVERY §7): exported = delivered + filtered + parked + expired + waiting.
type RecordCounts struct {
	Exported  int64 `json:"exported"`
	Delivered int64 `json:"delivered"`
	Filtered  int64 `json:"filtered"`
	Parked    int64 `json:"parked"`
	Expired   int64 `json:"expired"`
	Waiting   int64 `json:"waiting"`
}

// StepCount counts the records of one step of a job. It closes when
// in = out + filtered + parked + merged − created (DELIVERY §7).
type StepCount struct {
	Step     string `json:"step"`
	In       int64  `json:"in"`
	Out      int64  `json:"out"`
	Filtered int64  `json:"filtered"`
	Parked   int64  `json:"parked"`
	Merged   int64  `json:"merged"`
	Created  int64  `json:"created"`
}

// Open returns by how many records the sum of the step is open; zero means it closes.
func (c StepCount) Open() int64 {
	return c.In - c.Out - c.Filtered - c.Parked - c.Merged + c.Created
}

// Add returns the sum of two counts of the same step.
func (c StepCount) Add(o StepCount) StepCount {
	c.In += o.In
	c.Out += o.Out
	c.Filtered += o.Filtered
	c.Parked += o.Parked
	c.Merged += o.Merged
	c.Created += o.Created
	return c
}

// Receipt says what became of a page at a step (DELIVERY §3.4), as `prove` shows it.
type Receipt struct {
	Page      string    `json:"page"` // the name; primary key
	Job       page.ID   `json:"job"`
	Step      string    `json:"step"`
	Count     StepCount `json:"count"`
	Published []string  `json:"published,omitempty"` // names of the pages it made
	Result    page.Hash `json:"result"`
	At        time.Time `json:"at"`
}

// Proof is the answer of `ropeway prove JOB`: whether the sums of a job close,
// and where they are open if they do not.
type Proof struct {
	Job       page.ID      `json:"job"`
	State     JobState     `json:"state"`
	Closed    bool         `json:"closed"`    // every sum below closes
	Lost      int64        `json:"lost"`      // records of which nothing accounts for
	Doubled   int64        `json:"doubled"`   // records accounted for more than once
	Records   RecordCounts `json:"records"`   // by source record
	Steps     []StepProof  `json:"steps"`     // by step
	Chains    []ChainProof `json:"chains"`    // by chain of pages
	Guarantee string       `json:"guarantee"` // the badge of the flow version
	Findings  []string     `json:"findings"`  // one sentence per thing that does not close
	CheckedAt time.Time    `json:"checkedAt"` // when the proof was made
}

// StepProof is the sum of one step; Difference is zero when it closes.
type StepProof struct {
	StepCount
	Difference int64 `json:"difference"`
}

// ChainProof says what is known of one chain of pages: how many were accepted
// and settled, and whether the end marker agrees with them.
type ChainProof struct {
	Chain          string `json:"chain"`
	Pages          int64  `json:"pages"`          // accepted
	Settled        int64  `json:"settled"`        // of those
	Records        int64  `json:"records"`        // in the accepted pages
	Ended          bool   `json:"ended"`          // the end marker was accepted
	TotalPages     int64  `json:"totalPages"`     // by the end marker
	TotalRecords   int64  `json:"totalRecords"`   // by the end marker
	LastHash       string `json:"lastHash"`       // page hash of the last accepted page, hex
	OutstandingXOR string `json:"outstandingXor"` // zero when everything published has a receipt
}
