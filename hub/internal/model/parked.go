package model

import (
	"encoding/json"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// ParkedState is what happens to a parked record.
type ParkedState string

// The states of a parked record. A retry moves it parked → retrying(job); what
// the retry makes of it decides the rest (DELIVERY §3.6).
const (
	ParkedWaiting    ParkedState = "parked"
	ParkedRetrying   ParkedState = "retrying"
	ParkedResolved   ParkedState = "resolved"
	ParkedIgnored    ParkedState = "ignored"
	ParkedSuperseded ParkedState = "superseded"
)

// ParkedRecord is a record that could not be processed, as it was at the step.
// At rest the record is sealed; Record is filled only when the API shows one.
type ParkedRecord struct {
	ID          page.ID         `json:"id"`
	Tenant      page.ID         `json:"-"`
	Environment page.ID         `json:"-"`
	Job         page.ID         `json:"job"`
	Flow        page.ID         `json:"flowId"`
	FlowName    string          `json:"flow"`
	FlowVersion uint64          `json:"flowVersion"`
	Step        string          `json:"step"`
	Page        string          `json:"page"` // name of the page it was in
	Index       uint32          `json:"index"`
	Origin      page.Origin     `json:"origin"`
	TraceKey    string          `json:"traceKey,omitempty"`
	Class       fault.Class     `json:"class"`
	Code        string          `json:"code"`
	Fault       *fault.Error    `json:"fault"`
	State       ParkedState     `json:"state"`
	RetryJob    *page.ID        `json:"retryJob,omitempty"` // set while retrying
	Attempts    int             `json:"attempts"`
	Edited      bool            `json:"edited"`
	Created     time.Time       `json:"created"`
	Updated     time.Time       `json:"updated"`
	Record      json.RawMessage `json:"record,omitempty"`
}
