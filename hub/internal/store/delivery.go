package store

import (
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Scope names the tenant and environment a call is bound to. A row of another
// scope is never read or changed; it counts as not there.
type Scope = model.Place

// PageStatus says what a chain makes of a page (DELIVERY §2.3).
type PageStatus string

// The statuses of a page.
const (
	PageNew        PageStatus = "new"        // the next one of the chain: send it on, then Accept
	PageAccepted   PageStatus = "accepted"   // Accept recorded it now
	PageAlready    PageStatus = "already"    // same name, same hash: ack again
	PageConflict   PageStatus = "conflict"   // same name or place, other hash: loud, E_PAGE_CONFLICT
	PageSuperseded PageStatus = "superseded" // another epoch reads, or the job is over
	PageGap        PageStatus = "gap"        // a page before it is missing
	PageRefused    PageStatus = "refused"    // its totals are wrong; Fault says how
)

// ResumeRequest is the first call of an execution of a read request (§2.1).
type ResumeRequest struct {
	Scope   Scope
	Chain   page.Chain
	Request uint64 // the n of read.n
	Claim   page.Claim
	Epoch   page.Epoch // drawn by this execution
	Now     time.Time
}

// Resumed says where the execution goes on. Seq counts over all epochs of the
// chain. Cursor is sealed as it was stored; nil means from the start.
type Resumed struct {
	Seq     uint64    // of the next page
	Prev    page.Hash // page hash of the last accepted page; zero before the first
	Cursor  []byte
	Pages   uint64 // accepted so far
	Records uint64 // in them
}

// PageCheck asks what the chain makes of a root page. Its fields are those of the
// Acceptance that follows.
type PageCheck struct {
	Scope        Scope
	Root         string // the page's name, "<job>.<step>:<epoch>:<seq>"
	Hash         page.Hash
	Prev         page.Hash
	Records      uint64
	Last         bool
	TotalPages   uint64
	TotalRecords uint64
}

// Outcomes counts the source records that found their end in one transaction:
// worst outcome by origin, each origin once (DELIVERY §7).
type Outcomes struct {
	Delivered, Filtered, Parked, Expired int64
}

// Acceptance records one root page of a chain with all that the pure steps of
// its first hop made of it. What it published is durable in the queue already.
type Acceptance struct {
	Scope          Scope
	Root           string // the page's name
	PageHash       page.Hash
	Prev           page.Hash
	Records        uint64 // in the root page
	Bytes          uint64 // of its payload before compression
	Published      []string
	PublishedBytes uint64
	Steps          []model.StepCount
	Outcomes       Outcomes // of records that ended in this hop
	Parked         []NewParked
	Cursor         []byte // sealed end cursor of this page
	Last           bool
	TotalPages     uint64 // with Last: of the whole chain, this page included
	TotalRecords   uint64
	Now            time.Time
}

// Accepted is the answer to an Acceptance. Fault explains a conflict, a gap or
// a refusal; it is nil otherwise.
type Accepted struct {
	Progress
	Status  PageStatus
	Fault   *fault.Error
	Settled bool // nothing of the page is left to do
}

// Progress is what a write moved besides itself.
type Progress struct {
	// SettledTo is the chain's contiguous settled mark: every page with a lower
	// seq is settled.
	SettledTo uint64
	// JobEnded is set when this write ended the job.
	JobEnded *model.Job
	// Resumed is set when this write let a paused job go on.
	Resumed bool
	// SumOpen is set when everything settled and the sum does not close: the job
	// was paused with E_SUM_OPEN. Never expected; to be reported loudly.
	SumOpen *model.Job
	// ReadNext is the read request to publish now, by its n. Publishing it twice
	// is harmless. MarkReadPublished comes after the publish.
	ReadNext *uint64
}

// Admission asks whether a fetched page or read request may be executed.
type Admission struct {
	Scope Scope
	Name  string // of the page, or "<job>.<step>/read.<n>"
	Job   page.ID
	Claim page.Claim
	// NeedClaim stores the claim before work: delivery > 1, or the consumer is
	// younger than the page (DELIVERY §5.2).
	NeedClaim bool
	Now       time.Time
}

// Entry says whether a page may be executed.
type Entry string

// The answers to an Admission.
const (
	EntryGo         Entry = "go"
	EntryDone       Entry = "done"       // it has a receipt: ack and forget
	EntryPending    Entry = "pending"    // root not accepted yet: give it back a moment
	EntryOrphan     Entry = "orphan"     // root never accepted, or job over: ack
	EntrySuperseded Entry = "superseded" // a higher claim is stored: touch nothing
)

// Admitted is the answer to an Admission. Job is filled whenever the job exists,
// so that pages of paused jobs can be held back.
type Admitted struct {
	Entry    Entry
	Answer   []byte // sealed answer of an earlier execution; nil = execute
	JobState model.JobState
	Cause    *fault.Error
	RetryAt  time.Time // of a paused job; zero = by hand or by its connection
}

// Receipt records what became of one page at a step (DELIVERY §3.4): what it
// counts, what it published and what it parked, in one transaction.
type Receipt struct {
	Scope          Scope
	Name           string // of the page; primary key of the ledger
	Job            page.ID
	Step           string // the step that heads the hop
	Claim          page.Claim
	Counts         []model.StepCount // of this step and the pure steps after it
	Outcomes       Outcomes          // of source records that ended here
	Published      []string
	PublishedBytes uint64
	ConsumedBytes  uint64 // of this page, as it was counted when published
	Parked         []NewParked
	ResultHash     page.Hash
	Now            time.Time

	// Tried says that this page was the one try of a paused job: its receipt lets
	// the job go on.
	Tried bool
	// Stop, if set, pauses the job by hand with the receipt, unless that ends it.
	Stop *fault.Error
}

// Settled is the answer to a Receipt.
type Settled struct {
	Progress
	Already bool // the receipt was there before; nothing changed
	Over    bool // the job is terminal; nothing was recorded, ack and forget
	Settled bool // the root page is settled by this receipt
}

// ReadEnd records the end of one read request.
type ReadEnd struct {
	Scope     Scope
	Chain     page.Chain
	Request   uint64
	Claim     page.Claim
	Epoch     page.Epoch // zero = not checked
	Cursor    []byte     // sealed continuation
	Exhausted bool       // the source has no more; the last page was accepted
	Tried     bool       // as in Receipt
	Now       time.Time
}

// ReadEnded is the answer to a ReadEnd.
type ReadEnded struct {
	Progress
	Already bool
	Over    bool // the job is terminal; ack and forget
}

// PendingRead is a continuation that waits to be published or published again.
type PendingRead struct {
	Scope       Scope
	Chain       page.Chain
	Request     uint64
	Connection  page.ID
	Flow        page.ID
	FlowVersion uint64
	Cursor      []byte // sealed; nil = from the start
}
