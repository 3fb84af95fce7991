package storetest

import (
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

const day = 24 * time.Hour

// cleanUntil calls Clean every hour from one time to another, as the engine does.
func (r *Rig) cleanUntil(from, to time.Time) (sum store.Cleaned) {
	r.T.Helper()
	for now := from; !now.After(to); now = now.Add(time.Hour) {
		got, err := r.S.Clean(Ctx, now)
		r.OK(err)
		sum.Jobs, sum.Rows = sum.Jobs+got.Jobs, sum.Rows+got.Rows
		sum.Parked, sum.Waiting = sum.Parked+got.Parked, sum.Waiting+got.Waiting
		sum.Expiring = got.Expiring
	}
	return sum
}

func cleanLedger(r *Rig) {
	run, list := r.parkedRun(3)
	r.OK(r.S.ResolveParked(Ctx, r.Scope, list[0].ID, model.ParkedIgnored, "ann", r.Now()))
	before := run.State()
	ended := *before.Ended
	if got := r.cleanUntil(ended, ended.Add(30*day-time.Hour)); got.Rows != 0 || got.Parked != 0 || got.Expiring != 2 {
		r.T.Fatalf("within 30 days %+v is removed or announced", got)
	}
	run.MustProve()
	got := r.cleanUntil(ended.Add(30*day), ended.Add(30*day+2*time.Hour))
	if got.Jobs != 1 || got.Rows < 4 || got.Parked != 3 || got.Waiting != 2 || got.Expiring != 0 {
		r.T.Fatalf("after 30 days %+v is removed", got)
	}
	if len(run.parked()) != 0 {
		r.T.Fatal("parked records are kept")
	}
	_, err := r.S.Prove(Ctx, r.Scope, run.Job, r.Now())
	r.Refused(err, "E_NOT_FOUND") // and not: the sum is open
	if after := run.State(); after.Records != before.Records || after.State != before.State {
		r.T.Fatalf("the job is %+v, was %+v", after, before)
	}
	if entry := run.admit(page.ReadName(run.Chain, 0), 1, true); entry.Entry != store.EntryOrphan {
		r.T.Fatalf("a message of the job that is left is %+v", entry)
	}
	if again := r.cleanUntil(ended.Add(30*day), ended.Add(40*day)); again.Rows != 0 {
		r.T.Fatalf("the second time %+v is removed", again)
	}
}

func cleanKeeps(r *Rig) {
	ended, list := r.parkedRun(2)
	running := r.StartRun()
	running.Resume(0)
	a := running.Next(8)
	running.Accept(a)
	retry := ended.retry(list[:1])
	_, err := r.S.CreateRetry(Ctx, retry)
	r.OK(err)
	from := r.Now()
	got := r.cleanUntil(from, from.Add(90*day))
	if got.Jobs != 1 || got.Parked != 1 {
		r.T.Fatalf("%+v is removed", got)
	}
	p, err := r.S.ParkedByID(Ctx, r.Scope, list[0].ID)
	if err != nil || p.State != model.ParkedRetrying {
		r.T.Fatalf("a record on its way is %+v, %v", p, err)
	}
	running.MustProveOpen()
	running.Settle(running.Receipt(a, 0))
	running.Accept(running.Last(running.Next(0)))
	if j := running.State(); j.State != model.JobCompleted || j.Records.Delivered != 6 {
		r.T.Fatalf("the job that ran all the time ends as %+v", j)
	}
}

// MustProveOpen ends the test unless the only finding is that the job runs.
func (run *JobRun) MustProveOpen() {
	run.T.Helper()
	p, err := run.S.Prove(Ctx, run.Scope, run.Job, run.Now())
	run.OK(err)
	if len(p.Findings) != 1 {
		run.T.Fatalf("findings of a running job: %v", p.Findings)
	}
}

func cleanClock(r *Rig) {
	run, _ := r.parkedRun(2)
	ended := *run.State().Ended
	r.cleanUntil(ended, ended.Add(day))
	for range 48 { // two days with a clock ten years ahead
		got, err := r.S.Clean(Ctx, ended.Add(10*365*day))
		r.OK(err)
		if got.Rows != 0 || got.Parked != 0 {
			r.T.Fatalf("a clock that jumped removes %+v", got)
		}
	}
	run.MustProve()
	r.cleanUntil(ended.Add(-365*day), ended.Add(-364*day)) // and one that was set back
	run.MustProve()
}

func unkeyedMarks(r *Rig) {
	run := &JobRun{Rig: r, Job: page.NewID(), Flow: page.NewID(), Conn: page.NewID()}
	run.Chain = page.Chain{Job: run.Job, Step: "read"}
	n := run.newJob()
	n.Export.Resumable = false
	_, err := r.S.CreateJob(Ctx, n)
	r.OK(err)
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	run.Accept(run.Next(4))
	run.Settle(run.Receipt(a, 0))
	expect := func(mark uint64) {
		r.T.Helper()
		got, err := r.S.UnkeyedMarks(Ctx, r.Scope, run.Conn)
		r.OK(err)
		if len(got) != 1 || got[0].Chain != run.Chain || got[0].Epoch != run.Epoch || got[0].SettledTo != mark {
			r.T.Fatalf("marks %+v, want one at %d", got, mark)
		}
	}
	expect(1)
	_, err = r.S.CancelJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	expect(2)
}

func tryResumes(r *Rig) {
	run := r.StartRun()
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 0, r.Now()))
	run.Resume(0)
	a, b := run.Next(4), store.Acceptance{}
	run.Accept(a)
	b = run.Next(4)
	run.Accept(b)
	at := r.Now()
	r.OK(r.S.PauseJob(Ctx, r.Scope, run.Job, store.Pause{Cause: fault.Of("E_TABLE_MISSING"), RetryAt: &at}, at))
	if got := run.endRead(0, false); got.ReadNext != nil || got.Resumed {
		r.T.Fatalf("a read that was under way lets a paused job go on: %+v", got)
	}
	if got := run.Settle(run.Receipt(a, 0)); got.Resumed || run.State().State != model.JobPaused {
		r.T.Fatalf("a page that was under way lets a paused job go on: %+v", got)
	}
	receipt := run.Receipt(b, 0)
	receipt.Tried = true
	got := run.Settle(receipt)
	if j := run.State(); !got.Resumed || j.State != model.JobRunning || j.Cause != nil {
		r.T.Fatalf("after the try %+v, job %+v", got, j)
	}
	if got.ReadNext == nil || *got.ReadNext != 1 {
		r.T.Fatalf("the next read is not to be published: %+v", got)
	}
}

func stopsWithReceipt(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(8)
	run.Accept(a)
	receipt := run.Receipt(a, 1)
	receipt.Stop = fault.New(fault.Internal, "E_STOPPED", "stopped")
	run.Settle(receipt)
	if j := run.State(); j.State != model.JobPaused || j.Cause == nil || j.Cause.Code != "E_STOPPED" {
		r.T.Fatalf("the job is %+v", j)
	}
	b := run.Last(run.Next(8))
	run.Accept(b)
	last := run.Receipt(b, 1)
	last.Stop, last.Tried = receipt.Stop, true
	run.Settle(last)
	if j := run.State(); j.State != model.JobCompletedWithErrors {
		r.T.Fatalf("the job with nothing left to stop is %+v", j)
	}
}

func retryLate(r *Rig) {
	run, list := r.parkedRun(3)
	n := run.retry(list)
	_, err := r.S.CreateRetry(Ctx, n)
	r.OK(err)
	_, err = r.S.CancelJob(Ctx, r.Scope, n.Job.ID, r.Now())
	r.OK(err)
	again := Parked(n.Pages[0].Published, n.Pages[0].Root, 1)
	again.Origin = list[1].Origin
	got, err := r.S.Settle(Ctx, store.Receipt{Scope: r.Scope, Name: n.Pages[0].Published, Job: n.Job.ID, Step: "load",
		Counts:   []model.StepCount{{Step: "load", In: 3, Out: 2, Parked: 1}},
		Outcomes: store.Outcomes{Delivered: 2, Parked: 1}, Parked: []store.NewParked{again}, Now: r.Now()})
	r.OK(err)
	if !got.Over {
		r.T.Fatalf("a receipt of a cancelled retry gives %+v", got)
	}
	for i, want := range []model.ParkedState{model.ParkedResolved, model.ParkedWaiting, model.ParkedResolved} {
		p, err := r.S.ParkedByID(Ctx, r.Scope, list[i].ID)
		r.OK(err)
		if p.State != want {
			r.T.Errorf("record %d is %s, want %s: a second retry would deliver it twice", i, p.State, want)
		}
	}
}

func retryEdited(r *Rig) {
	run, list := r.parkedRun(2)
	n := run.retry(list)
	for _, p := range list {
		n.Pages[0].Seen = append(n.Pages[0].Seen, p.Updated)
	}
	r.OK(r.S.EditParked(Ctx, r.Scope, list[1].ID, []byte("edited"), "ann", r.Now()))
	_, err := r.S.CreateRetry(Ctx, n)
	r.Refused(err, "E_CONFLICT")
	list = run.parked()
	n = run.retry(list)
	for _, p := range list {
		n.Pages[0].Seen = append(n.Pages[0].Seen, p.Updated)
	}
	_, err = r.S.CreateRetry(Ctx, n)
	r.OK(err)
}
