package storetest

import (
	"fmt"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// parkedRun ends a job of 8 records of which n are parked, and returns those.
func (r *Rig) parkedRun(n int64) (*JobRun, []store.Parked) {
	r.T.Helper()
	run := r.StartRun()
	run.Resume(0)
	a := run.Last(run.Next(8))
	run.Accept(a)
	run.Settle(run.Receipt(a, n))
	return run, run.parked()
}

func (run *JobRun) parked() []store.Parked {
	run.T.Helper()
	list, err := run.S.Parked(Ctx, run.Scope, store.ParkedFilter{Job: run.Job}, 100, "")
	run.OK(err)
	return list.Items
}

// retry is a retry job with one page of the given records.
func (run *JobRun) retry(list []store.Parked) store.NewRetry {
	n := run.newJob()
	n.ID, n.Kind, n.Export = page.NewID(), model.JobRetry, nil
	root := page.ChainedName(page.Chain{Job: n.ID, Step: "retry"}, page.Epoch{}, 0)
	p := store.RetryPage{Root: root, Published: root + "/load", Bytes: 50, Hash: page.Hash{1}}
	for _, r := range list {
		p.Records = append(p.Records, r.ID)
	}
	return store.NewRetry{Job: n, Pages: []store.RetryPage{p}, Actor: "admin"}
}

func retryOnce(r *Rig) {
	run, list := r.parkedRun(3)
	n := run.retry(list[:2])
	job, err := r.S.CreateRetry(Ctx, n)
	r.OK(err)
	if job.State != model.JobRunning || job.Kind != model.JobRetry || job.Records.Exported != 2 ||
		job.Pages != 1 {
		r.T.Fatalf("got %+v", job)
	}
	second := run.retry(list)
	_, err = r.S.CreateRetry(Ctx, second)
	r.Refused(err, "E_CONFLICT")
	_, err = r.S.Job(Ctx, r.Scope, second.Job.ID)
	r.Refused(err, "E_NOT_FOUND")

	waiting, err := r.S.PendingRetries(Ctx, r.Now())
	r.OK(err)
	want := []store.FixedPage{{Scope: r.Scope, Job: n.Job.ID, Flow: run.Flow, Version: 3,
		Root:      n.Pages[0].Root,
		Published: n.Pages[0].Published}}
	if d := cmp.Diff(want, waiting); d != "" {
		r.T.Fatal(d)
	}
	records, err := r.S.RetryRecords(Ctx, r.Scope, n.Pages[0].Root)
	r.OK(err)
	if len(records) != 2 || records[0].ID != list[0].ID || records[1].ID != list[1].ID ||
		records[0].State != model.ParkedRetrying || records[0].RetryJob != n.Job.ID {
		r.T.Fatalf("the page is to be made of %+v", records)
	}
	r.OK(r.S.MarkRetryPublished(Ctx, r.Scope, n.Pages[0].Root, r.Now()))
	if waiting, err = r.S.PendingRetries(Ctx, r.Now()); err != nil || len(waiting) != 0 {
		r.T.Fatalf("after the publish %d pages wait, %v", len(waiting), err)
	}
}

func retryOutcome(r *Rig) {
	run, list := r.parkedRun(3)
	n := run.retry(list)
	_, err := r.S.CreateRetry(Ctx, n)
	r.OK(err)
	again := Parked(n.Pages[0].Published, n.Pages[0].Root, 1)
	again.Origin = list[1].Origin
	got, err := r.S.Settle(Ctx, store.Receipt{Scope: r.Scope, Name: n.Pages[0].Published,
		Job: n.Job.ID, Step: "load",
		Counts:   []model.StepCount{{Step: "load", In: 3, Out: 2, Parked: 1}},
		Outcomes: store.Outcomes{Delivered: 2, Parked: 1}, Parked: []store.NewParked{again},
		Now: r.Now()})
	r.OK(err)
	if got.JobEnded == nil || got.JobEnded.State != model.JobCompletedWithErrors {
		r.T.Fatalf("the retry ends as %+v", got)
	}
	for i, want := range []model.ParkedState{model.ParkedResolved, model.ParkedSuperseded,
		model.ParkedResolved} {
		p, err := r.S.ParkedByID(Ctx, r.Scope, list[i].ID)
		r.OK(err)
		if p.State != want {
			r.T.Errorf("record %d is %s, want %s", i, p.State, want)
		}
	}
	p, err := r.S.ParkedByID(Ctx, r.Scope, again.ID)
	r.OK(err)
	if p.State != model.ParkedWaiting || p.Attempts != 2 {
		r.T.Errorf("the record that parked again is %+v", p)
	}
	proof, err := r.S.Prove(Ctx, r.Scope, n.Job.ID, r.Now())
	r.OK(err)
	if !proof.Closed {
		r.T.Errorf("the retry does not close: %v", proof.Findings)
	}
}

func retryCancelled(r *Rig) {
	run, list := r.parkedRun(2)
	n := run.retry(list)
	_, err := r.S.CreateRetry(Ctx, n)
	r.OK(err)
	_, err = r.S.CancelJob(Ctx, r.Scope, n.Job.ID, r.Now())
	r.OK(err)
	for _, p := range run.parked() {
		if p.State != model.ParkedWaiting || !p.RetryJob.IsZero() {
			r.T.Fatalf("after the cancelled retry a record is %+v", p)
		}
	}
	waiting, err := r.S.PendingRetries(Ctx, r.Now())
	r.OK(err)
	if len(waiting) != 0 {
		r.T.Fatalf("%d pages of the cancelled retry wait", len(waiting))
	}
	_, err = r.S.CreateRetry(Ctx, run.retry(run.parked()))
	r.OK(err)
}

func retryParksAtOnce(r *Rig) {
	run, list := r.parkedRun(1)
	n := run.retry(list)
	p := &n.Pages[0]
	p.Published = ""
	p.Steps = []model.StepCount{{Step: "filter-1", In: 1, Parked: 1}}
	p.Outcomes = store.Outcomes{Parked: 1}
	again := Parked(p.Root, p.Root, 0)
	again.Origin = list[0].Origin
	p.Parked = []store.NewParked{again}
	job, err := r.S.CreateRetry(Ctx, n)
	r.OK(err)
	if job.State != model.JobCompletedWithErrors {
		r.T.Fatalf("a retry with nothing left to do is %+v", job)
	}
	if p, err := r.S.ParkedByID(Ctx, r.Scope, list[0].ID); err != nil ||
		p.State != model.ParkedSuperseded {
		r.T.Fatalf("the older entry is %s, %v", p.State, err)
	}
}

func parkedRecords(r *Rig) {
	run, list := r.parkedRun(3)
	id := list[0].ID
	r.OK(r.S.EditParked(Ctx, r.Scope, id, []byte("edited"), "ann", r.Now()))
	got, err := r.S.ParkedByID(Ctx, r.Scope, id)
	r.OK(err)
	if string(got.Record) != "edited" || !got.Edited || string(got.Detail) != "sealed detail" {
		r.T.Fatalf("after the edit the record is %+v", got)
	}
	r.OK(r.S.ResolveParked(Ctx, r.Scope, id, model.ParkedIgnored, "ann", r.Now()))
	r.Refused(r.S.EditParked(Ctx, r.Scope, id, []byte("late"), "ann", r.Now()), "E_STATE_CONFLICT")
	r.Refused(r.S.EditParked(Ctx, r.Scope, page.NewID(), nil, "ann", r.Now()), "E_NOT_FOUND")
	for filter, want := range map[*store.ParkedFilter]int{
		{Flow: run.Flow, States: []model.ParkedState{model.ParkedWaiting}}: 2,
		{Job: run.Job, Class: "value", Code: "E_VALUE"}:                    3,
		{Job: run.Job, Code: "E_OTHER"}:                                    0,
		{Fingerprint: "load E_VALUE", Flow: run.Flow}:                      3,
		{IDs: []page.ID{id}}:                                               1,
	} {
		list, err := r.S.Parked(Ctx, r.Scope, *filter, 10, "")
		r.OK(err)
		if len(list.Items) != want {
			r.T.Errorf("filter %+v finds %d, want %d", filter, len(list.Items), want)
		}
	}
	counts, err := r.S.ParkedCounts(Ctx, r.Scope, run.Flow)
	r.OK(err)
	if d := cmp.Diff(map[model.ParkedState]int64{model.ParkedWaiting: 2, model.ParkedIgnored: 1},
		counts); d != "" {
		r.T.Error(d)
	}
}

func traceKeys(r *Rig) {
	flow := page.NewID()
	park := func(trace page.Hash) (*JobRun, store.Parked) {
		run := &JobRun{Rig: r, Job: page.NewID(), Flow: flow, Conn: page.NewID()}
		run.Chain = page.Chain{Job: run.Job, Step: "read"}
		_, err := r.S.CreateJob(Ctx, run.newJob())
		r.OK(err)
		run.Resume(0)
		a := run.Last(run.Next(1))
		run.Accept(a)
		receipt := run.Receipt(a, 1)
		receipt.Parked[0].TraceHash = trace
		run.Settle(receipt)
		return run, run.parked()[0]
	}
	key := page.Hash{7}
	_, first := park(key)
	second, again := park(key)
	_, other := park(page.Hash{8})
	if has, err := r.S.HasParked(Ctx, r.Scope, flow); err != nil || !has {
		r.T.Fatalf("no record of the flow waits, %v", err)
	}
	n, err := r.S.ResolveByTrace(Ctx, r.Scope, flow, second.Job, []page.Hash{key, {}}, r.Now())
	if err != nil || n != 0 {
		r.T.Fatalf("a job resolved %d of its own records, %v", n, err)
	}
	n, err = r.S.ResolveByTrace(Ctx, r.Scope, flow, page.NewID(), []page.Hash{key, {}}, r.Now())
	if err != nil || n != 1 {
		r.T.Fatalf("%d records were resolved, want 1, %v", n, err)
	}
	for id, want := range map[page.ID]model.ParkedState{
		first.ID: model.ParkedSuperseded, again.ID: model.ParkedResolved, other.ID: model.ParkedWaiting} {
		if p, err := r.S.ParkedByID(Ctx, r.Scope, id); err != nil || p.State != want {
			r.T.Errorf("record %s is %s, want %s, %v", id, p.State, want, err)
		}
	}
}

func lists(r *Rig) {
	run, _ := r.parkedRun(6)
	seen := map[page.ID]bool{}
	pieces := 0
	for cursor := ""; pieces == 0 || cursor != ""; pieces++ {
		list, err := r.S.Parked(Ctx, r.Scope, store.ParkedFilter{Flow: run.Flow}, 4, cursor)
		r.OK(err)
		for _, p := range list.Items {
			seen[p.ID] = true
		}
		cursor = list.Next
	}
	if len(seen) != 6 || pieces != 2 {
		r.T.Fatalf("%d records in %d pieces, want 6 in 2", len(seen), pieces)
	}
	for range 4 {
		r.StartRun()
	}
	jobs := 0
	for cursor, more := "", true; more; more = cursor != "" {
		list, err := r.S.Jobs(Ctx, r.Scope, store.JobFilter{}, 2, cursor)
		r.OK(err)
		jobs += len(list.Items)
		cursor = list.Next
	}
	if jobs != 5 {
		r.T.Fatalf("%d jobs in pieces, want 5", jobs)
	}
	open, err := r.S.Jobs(Ctx, r.Scope, store.JobFilter{States: []model.JobState{model.JobRunning}},
		10, "")
	r.OK(err)
	if len(open.Items) != 4 {
		r.T.Fatalf("%d jobs run, want 4", len(open.Items))
	}
	_, err = r.S.Jobs(Ctx, r.Scope, store.JobFilter{}, 2, "nonsense")
	r.Refused(err, "E_REQUEST")
	_, err = r.S.Parked(Ctx, r.Scope, store.ParkedFilter{}, 2, fmt.Sprintf("12-%s", "x"))
	r.Refused(err, "E_REQUEST")
}
