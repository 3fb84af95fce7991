package storetest

import (
	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

func storedAnswer(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	name := a.Published[0]
	for _, answer := range []string{"sealed answer", "another answer"} { // the first one stands
		stands, err := r.S.StoreAnswer(Ctx, r.Scope, name, Claim(1), []byte(answer), r.Now())
		r.OK(err)
		if string(stands) != "sealed answer" {
			r.T.Fatalf("the answer that stands is %q", stands)
		}
	}
	got := run.admit(name, 2, true)
	if got.Entry != store.EntryGo || string(got.Answer) != "sealed answer" {
		r.T.Fatalf("a redelivery is admitted with %+v", got)
	}
	_, err := r.S.StoreAnswer(Ctx, r.Scope, name, Claim(1), []byte("late answer"), r.Now())
	r.Refused(err, "E_SUPERSEDED")
}

func (run *JobRun) admit(name string, delivery uint64, claim bool) store.Admitted {
	run.T.Helper()
	got, err := run.S.Admit(Ctx, store.Admission{Scope: run.Scope, Name: name, Job: run.Job,
		Claim:     Claim(delivery),
		NeedClaim: claim, Now: run.Now()})
	run.OK(err)
	return got
}

func admissions(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	expect := func(name string, want store.Entry) {
		r.T.Helper()
		for _, claim := range []bool{false, true} {
			if got := run.admit(name, 1, claim); got.Entry != want || got.JobState != model.JobRunning {
				r.T.Fatalf("%s is admitted as %+v, want %s", name, got, want)
			}
		}
	}
	a := run.Next(4)
	expect(a.Published[0], store.EntryPending)
	run.Accept(a)
	expect(a.Published[0], store.EntryGo)
	tail := run.Next(4)
	expect(tail.Published[0], store.EntryPending)
	run.Resume(0)
	expect(tail.Published[0], store.EntryOrphan)
	run.Settle(run.Receipt(a, 0))
	expect(a.Published[0], store.EntryDone)

	expect(page.ReadName(run.Chain, 0), store.EntryGo)
	expect(page.ReadName(run.Chain, 1), store.EntryOrphan)
	run.endRead(0, false)
	expect(page.ReadName(run.Chain, 0), store.EntryDone)
	_, err := r.S.CancelJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	if got := run.admit(page.ReadName(run.Chain, 1), 1, true); got.Entry != store.EntryOrphan {
		r.T.Fatalf("a read of a cancelled job is admitted as %s", got.Entry)
	}
}

func claimsFence(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	stale, fresh := run.Receipt(a, 0), run.Receipt(a, 1)
	if got := run.admit(stale.Name, 1, true); got.Entry != store.EntryGo {
		r.T.Fatalf("the first delivery is %s", got.Entry)
	}
	newer := store.Admission{Scope: r.Scope, Name: stale.Name, Job: run.Job, Now: r.Now(),
		NeedClaim: true,
		Claim:     page.Claim{Created: 2, Delivery: 1}} // a consumer made again outranks every older delivery
	got, err := r.S.Admit(Ctx, newer)
	r.OK(err)
	if got.Entry != store.EntryGo {
		r.T.Fatalf("the delivery of a newer consumer is %s", got.Entry)
	}
	if got := run.admit(stale.Name, 9, true); got.Entry != store.EntrySuperseded {
		r.T.Fatalf("a delivery of the older consumer is %s", got.Entry)
	}
	_, err = r.S.Settle(Ctx, stale)
	r.Refused(err, "E_SUPERSEDED")
	if j := run.State(); j.Records.Delivered != 0 {
		r.T.Fatal("the refused receipt was counted")
	}
	fresh.Claim = newer.Claim
	run.Settle(fresh)
	if got := run.Settle(stale); !got.Already { // now the receipt stands: ack and forget
		r.T.Fatalf("the stale owner's receipt after the other gives %+v", got)
	}
	if j := run.State(); j.Records.Delivered != 2 || j.Records.Parked != 1 {
		r.T.Fatalf("got %+v", j.Records)
	}
}

func receiptOnce(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	receipt := run.Receipt(a, 1)
	if got := run.Settle(receipt); got.Already || !got.Settled {
		r.T.Fatalf("the first time gives %+v", got)
	}
	before := run.State()
	if got := run.Settle(receipt); !got.Already {
		r.T.Fatalf("the second time gives %+v", got)
	}
	if d := cmp.Diff(before, run.State(), faults); d != "" {
		r.T.Fatal(d)
	}
	list, err := r.S.Parked(Ctx, r.Scope, store.ParkedFilter{Job: run.Job}, 10, "")
	r.OK(err)
	if len(list.Items) != 1 {
		r.T.Fatalf("%d records are parked, want 1", len(list.Items))
	}
}

func failingWrite(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	before := run.State()
	bad := run.Receipt(a, 1)
	bad.Counts = append(bad.Counts, model.StepCount{Step: "unknown", In: 1})
	if _, err := r.S.Settle(Ctx, bad); err == nil {
		r.T.Fatal("a receipt for an unknown step was taken")
	}
	if d := cmp.Diff(before, run.State(), faults); d != "" {
		r.T.Fatal(d)
	}
	if got := run.admit(bad.Name, 1, false); got.Entry != store.EntryGo {
		r.T.Fatalf("the failed receipt is there: %s", got.Entry)
	}
	run.Settle(run.Receipt(a, 1))
}

func settledAfterSplit(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Last(run.Next(8))
	a.Published = []string{a.Root + "/load.0", a.Root + "/load.1"}
	run.Accept(a)
	half := func(name string, published ...string) store.Receipt {
		return store.Receipt{Scope: r.Scope, Name: name, Job: run.Job, Step: "load", Published: published,
			Counts: []model.StepCount{{Step: "load", In: 3, Out: 3}}, Outcomes: store.Outcomes{Delivered: 3},
			Now: r.Now()}
	}
	first := half(a.Published[0], a.Published[0]+"/more")
	first.Outcomes = store.Outcomes{}
	for i, receipt := range []store.Receipt{first, half(a.Published[1])} {
		if got := run.Settle(receipt); got.Settled || got.JobEnded != nil {
			r.T.Fatalf("receipt %d settles the page", i)
		}
	}
	last := half(first.Published[0])
	last.Counts = nil
	if got := run.Settle(last); !got.Settled || got.JobEnded == nil {
		r.T.Fatalf("the last receipt gives %+v", got)
	}
	run.MustProve()
}

func receiptFirst(r *Rig) {
	for _, last := range []bool{false, true} {
		run := r.StartRun()
		run.Resume(0)
		a := run.Next(4)
		if last {
			a = run.Last(a)
		}
		if got := run.Settle(run.Receipt(a, 1)); got.Settled || got.JobEnded != nil {
			r.T.Fatalf("a page that is not accepted is settled: %+v", got)
		}
		got := run.Accept(a)
		if !got.Settled || got.SettledTo != 1 || (got.JobEnded != nil) != last {
			r.T.Fatalf("the acceptance after the receipt gives %+v", got)
		}
		if last {
			run.MustProve()
		}
	}
	run := r.StartRun()
	run.Resume(0)
	orphan := run.Receipt(run.Next(4), 0)
	run.Resume(0)
	_, err := r.S.Settle(Ctx, orphan)
	r.Refused(err, "E_SUPERSEDED")
}

func badNames(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	for _, names := range [][]string{{a.Root}, {a.Published[0], a.Published[0]}, {"other/load"}} {
		bad := a
		bad.Published = names
		_, err := r.S.Accept(Ctx, bad)
		r.Refused(err, "E_REQUEST")
	}
	run.Accept(a)
	receipt := run.Receipt(a, 0)
	receipt.Published = []string{receipt.Name}
	_, err := r.S.Settle(Ctx, receipt)
	r.Refused(err, "E_REQUEST")
	receipt.Name = a.Root
	receipt.Published = nil
	_, err = r.S.Settle(Ctx, receipt)
	r.Refused(err, "E_REQUEST")
}

func jobEnds(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a, b := run.Next(8), store.Acceptance{}
	run.Accept(a)
	if got := run.Settle(run.Receipt(a, 0)); got.JobEnded != nil {
		r.T.Fatal("the job ended before its chain")
	}
	b = run.Last(run.Next(4))
	if got := run.Accept(b); got.JobEnded != nil {
		r.T.Fatal("the job ended with a page outstanding")
	}
	got := run.Settle(run.Receipt(b, 1))
	if got.JobEnded == nil || got.JobEnded.State != model.JobCompletedWithErrors {
		r.T.Fatalf("the last receipt gives %+v", got)
	}
	want := model.RecordCounts{Exported: 12, Delivered: 8, Filtered: 3, Parked: 1}
	if d := cmp.Diff(want, got.JobEnded.Records); d != "" {
		r.T.Fatal(d)
	}
	run.MustProve()

	clean := r.StartRun()
	clean.Resume(0)
	c := clean.Last(clean.Next(4))
	clean.Accept(c)
	if got := clean.Settle(clean.Receipt(c, 0)); got.JobEnded == nil ||
		got.JobEnded.State != model.JobCompleted {
		r.T.Fatalf("a job without errors gives %+v", got)
	}
}

func openSum(r *Rig) {
	for _, change := range []func(*store.Receipt){
		func(x *store.Receipt) { x.Outcomes.Delivered-- },
		func(x *store.Receipt) { x.Counts[0].Out-- },
	} {
		run := r.StartRun()
		run.Resume(0)
		a := run.Last(run.Next(4))
		run.Accept(a)
		receipt := run.Receipt(a, 0)
		change(&receipt)
		got := run.Settle(receipt)
		if got.JobEnded != nil || got.SumOpen == nil || got.SumOpen.State != model.JobPaused ||
			got.SumOpen.Cause.Code != "E_SUM_OPEN" {
			r.T.Fatalf("an open sum gives %+v", got)
		}
		reads, err := r.S.ResumeJob(Ctx, r.Scope, run.Job, r.Now())
		r.OK(err)
		if reads.Job.State != model.JobPaused || reads.Job.Cause.Code != "E_SUM_OPEN" {
			r.T.Fatalf("resuming a job with an open sum gives %+v", reads.Job)
		}
		p, err := r.S.Prove(Ctx, r.Scope, run.Job, r.Now())
		r.OK(err)
		if p.Closed || len(p.Findings) == 0 {
			r.T.Fatalf("prove does not see the open sum: %+v", p)
		}
	}
}

func endedJobIsFixed(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a, b := run.Next(4), store.Acceptance{}
	run.Accept(a)
	b = run.Next(4)
	_, err := r.S.CancelJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	before := run.State()
	if got := run.Settle(run.Receipt(a, 1)); !got.Over || got.Already {
		r.T.Fatalf("a receipt for a cancelled job gives %+v", got)
	}
	run.expect(b, store.PageSuperseded)
	_, err = r.S.Resume(Ctx, run.request(0, 5))
	r.Refused(err, "E_SUPERSEDED")
	if got := run.endRead(0, false); !got.Over || got.ReadNext != nil {
		r.T.Fatalf("the end of a read of a cancelled job gives %+v", got)
	}
	if d := cmp.Diff(before, run.State(), faults); d != "" {
		r.T.Fatal(d)
	}
}

func proveCloses(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	for i := range 5 {
		a := run.Next(int64(4 * i))
		if i == 4 {
			a = run.Last(a)
		}
		run.Accept(a)
		if p, err := r.S.Prove(Ctx, r.Scope, run.Job, r.Now()); err != nil || p.Closed ||
			len(p.Findings) != 1 {
			r.T.Fatalf("a running job proves as %+v, %v", p, err)
		}
		if len(a.Published) > 0 {
			run.Settle(run.Receipt(a, 1))
		}
	}
	run.endRead(0, true)
	run.MustProve()
	p, err := r.S.Prove(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	if len(p.Chains) != 1 || p.Chains[0].Pages != 5 || p.Chains[0].Settled != 5 ||
		p.Chains[0].OutstandingXOR != "0000000000000000" ||
		p.Guarantee != "exactly-once" || len(p.Steps) != 3 {
		r.T.Fatalf("got %+v", p)
	}
}
