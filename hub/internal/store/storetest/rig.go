// Package storetest is the contract that every store passes: the rules of
// DELIVERY §1–§4 and §7 that are kept by transactions, one test per rule. It
// knows a store by its methods only; which engine is behind it is the caller's.
package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// start is the fixed time of all tests; each call of Rig.Now is a second later.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Rig is one store with a tenant and the helpers to play the engine's part.
type Rig struct {
	T     testing.TB
	S     *store.Store
	Scope store.Scope
	ticks int
}

// NewRig prepares a place in a store.
func NewRig(t testing.TB, s *store.Store) *Rig {
	t.Helper()
	r := &Rig{T: t, S: s}
	tenant, err := s.EnsureTenant(Ctx, "main", "private", r.Now())
	r.OK(err)
	env, err := s.EnsureEnvironment(Ctx, tenant.ID, "default", r.Now())
	r.OK(err)
	r.Scope = store.Scope{Tenant: tenant.ID, Environment: env.ID}
	return r
}

// Ctx is the context of all tests.
var Ctx = context.Background()

// Now is a second later at each call.
func (r *Rig) Now() time.Time {
	r.ticks++
	return start.Add(time.Duration(r.ticks) * time.Second)
}

// OK ends the test on an error.
func (r *Rig) OK(err error) {
	r.T.Helper()
	if err != nil {
		r.T.Fatal(err)
	}
}

// Refused ends the test unless err has the code.
func (r *Rig) Refused(err error, code string) {
	r.T.Helper()
	if got := fault.CodeOf(err); got != code {
		r.T.Fatalf("got %v, want a refusal with %s", err, code)
	}
}

// JobRun is one running export job: read → filter-1 in hop 0, load in hop 1.
type JobRun struct {
	*Rig
	Job   page.ID
	Flow  page.ID
	Chain page.Chain
	Conn  page.ID
	Epoch page.Epoch
	seq   uint64
	prev  page.Hash
	pages uint64
	total uint64
}

// StartRun creates a running job whose chain has no execution yet.
func (r *Rig) StartRun() *JobRun {
	r.T.Helper()
	run := &JobRun{Rig: r, Job: page.NewID(), Flow: page.NewID(), Conn: page.NewID()}
	run.Chain = page.Chain{Job: run.Job, Step: "read"}
	_, err := r.S.CreateJob(Ctx, run.newJob())
	r.OK(err)
	return run
}

func (run *JobRun) newJob() store.NewJob {
	return store.NewJob{Scope: run.Scope, ID: run.Job, Flow: run.Flow, FlowName: "orders",
		FlowVersion: 3,
		Kind:        model.JobRun, Guarantee: "exactly-once", Steps: []string{"read", "filter-1", "load"},
		Connections: []page.ID{run.Conn}, Now: run.Now(),
		Export: &store.NewChain{Step: "read", Connection: run.Conn, Resumable: true}}
}

// Claim makes a claim of the n-th delivery.
func Claim(n uint64) page.Claim { return page.Claim{Created: 1, Delivery: n} }

// Resume begins an execution of read n with a new epoch and goes on from there.
func (run *JobRun) Resume(n uint64) store.Resumed {
	run.T.Helper()
	run.Epoch = page.NewEpoch()
	got, err := run.S.Resume(Ctx, run.request(n, 1))
	run.OK(err)
	run.seq, run.prev = got.Seq, got.Prev
	run.pages, run.total = got.Pages, got.Records
	return got
}

func (run *JobRun) request(n, delivery uint64) store.ResumeRequest {
	return store.ResumeRequest{Scope: run.Scope, Chain: run.Chain, Request: n, Claim: Claim(delivery),
		Epoch: run.Epoch, Now: run.Now()}
}

// Next is the acceptance of the next page of the current execution: of records
// source records, 1 in 4 is filtered and the rest goes to the step load.
func (run *JobRun) Next(records int64) store.Acceptance {
	a := store.Acceptance{Scope: run.Scope, Root: page.ChainedName(run.Chain, run.Epoch, run.seq),
		Prev:    run.prev,
		Records: uint64(records), Bytes: 100, PublishedBytes: 80, Cursor: fmt.Appendf(nil, "cursor %d",
			run.seq), Now: run.Now()}
	a.PageHash = sha256.Sum256([]byte(a.Root))
	filtered := records / 4
	a.Outcomes.Filtered = filtered
	a.Steps = []model.StepCount{
		{Step: "read", In: records, Out: records},
		{Step: "filter-1", In: records, Out: records - filtered, Filtered: filtered}}
	if records > filtered {
		a.Published = []string{a.Root + "/load"}
	}
	return a
}

// Last makes the acceptance the end of the chain.
func (run *JobRun) Last(a store.Acceptance) store.Acceptance {
	a.Last, a.TotalPages, a.TotalRecords = true, run.pages+1, run.total+a.Records
	return a
}

// Accept accepts a page and moves on; it ends the test unless it is accepted.
func (run *JobRun) Accept(a store.Acceptance) store.Accepted {
	run.T.Helper()
	got, err := run.S.Accept(Ctx, a)
	run.OK(err)
	if got.Status != store.PageAccepted {
		run.T.Fatalf("page %s is %s, want accepted: %v", a.Root, got.Status, got.Fault)
	}
	run.seq++
	run.prev = a.PageHash
	run.pages++
	run.total += a.Records
	return got
}

// Receipt is the receipt of step load for what an acceptance published: parked
// of its records are parked, the rest delivered.
func (run *JobRun) Receipt(a store.Acceptance, parked int64) store.Receipt {
	in := int64(a.Records) - a.Outcomes.Filtered
	r := store.Receipt{Scope: run.Scope, Name: a.Published[0], Job: run.Job, Step: "load",
		Claim:         Claim(1),
		Counts:        []model.StepCount{{Step: "load", In: in, Out: in - parked, Parked: parked}},
		Outcomes:      store.Outcomes{Delivered: in - parked, Parked: parked},
		ConsumedBytes: a.PublishedBytes, Now: run.Now()}
	for i := range parked {
		r.Parked = append(r.Parked, Parked(r.Name, a.Root, uint32(i)))
	}
	return r
}

// Parked is a parked record of a page.
func Parked(name, root string, index uint32) store.NewParked {
	return store.NewParked{ID: page.NewID(), Step: "load", Page: name, Index: index,
		Origin: page.Origin{Root: root, Index: index}, Class: fault.Value, Code: "E_VALUE",
		Fingerprint: "load E_VALUE",
		Record:      []byte("sealed record"), Detail: []byte("sealed detail")}
}

// Settle settles a receipt and ends the test on an error.
func (run *JobRun) Settle(r store.Receipt) store.Settled {
	run.T.Helper()
	got, err := run.S.Settle(Ctx, r)
	run.OK(err)
	return got
}

// State reads the job.
func (run *JobRun) State() model.Job {
	run.T.Helper()
	j, err := run.S.Job(Ctx, run.Scope, run.Job)
	run.OK(err)
	return j
}

// MustProve ends the test unless the sums of the job close.
func (run *JobRun) MustProve() {
	run.T.Helper()
	p, err := run.S.Prove(Ctx, run.Scope, run.Job, run.Now())
	run.OK(err)
	if !p.Closed || p.Lost != 0 || p.Doubled != 0 {
		run.T.Fatalf("the sums do not close: %+v", p)
	}
}

// faults compares errors by what crosses the wire.
var faults = cmpopts.IgnoreUnexported(fault.Error{})
