package store

import (
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// NewParked is a record to park. Everything of the customer's is sealed by the
// caller; the store sees what it must group and find by.
type NewParked struct {
	ID          page.ID
	Step        string // where it could not be processed
	Page        string // name of the page it was in
	Index       uint32 // in that page
	Origin      page.Origin
	Class       fault.Class
	Code        string
	Fingerprint string    // groups records of one cause; never record data
	TraceHash   page.Hash // keyed hash of the trace key; zero = none
	Record      []byte    // sealed: the record as it was at the step
	Detail      []byte    // sealed: trace key and fault, whose cause may quote values
}

// Parked is a parked record as the store keeps it.
type Parked struct {
	NewParked
	Scope       Scope
	Job         page.ID
	Flow        page.ID
	FlowName    string
	FlowVersion uint64
	State       model.ParkedState
	RetryJob    page.ID // zero unless a retry took it
	RetrySeq    uint64  // page of the retry job it is in
	RetryIndex  uint32  // place in that page
	Attempts    int     // how often it was tried, the first time included
	Edited      bool
	Created     time.Time
	Updated     time.Time
}

// ParkedFilter chooses parked records; zero fields do not restrict.
type ParkedFilter struct {
	IDs         []page.ID
	Flow        page.ID
	Job         page.ID
	States      []model.ParkedState
	Class       fault.Class
	Code        string
	Fingerprint string
	TraceHash   page.Hash
}

// ParkedList is one piece of a list. Next continues it; empty at its end.
type ParkedList struct {
	Items []Parked
	Next  string
}

// RetryPage is one fixed page of a retry job. Root is its name (seq from 0 in its
// chain), Published the name under which it goes into the queue, Records the
// parked records in it, in order, and Seen when each of them was last changed as
// the page was made: a record edited since is refused. Pure steps before the queue may have been run:
// Steps, Outcomes and Parked say what they did, and Published is empty when
// nothing was left.
type RetryPage struct {
	Root      string
	Hash      page.Hash
	Published string
	Bytes     uint64
	Records   []page.ID
	Seen      []time.Time // nil = not checked
	Steps     []model.StepCount
	Outcomes  Outcomes
	Parked    []NewParked
}

// NewRetry is a retry job with its pages (DELIVERY §3.6).
type NewRetry struct {
	Job   NewJob // Kind is model.JobRetry, Export is nil
	Pages []RetryPage
	Actor string // who asked; with an actor an audit row is written
}

// FixedPage is a page of a retry job that is not known to be in the queue.
type FixedPage struct {
	Scope     Scope
	Job       page.ID
	Flow      page.ID
	Version   uint64
	Root      string
	Published string
}
