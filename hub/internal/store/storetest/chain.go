package storetest

import (
	"crypto/sha256"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

func agentsInTurn(r *Rig) {
	run := r.StartRun()
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 0, r.Now()))
	run.Resume(0)
	first := run.Accept(run.Next(4))
	if first.ReadNext != nil {
		r.T.Fatalf("read.0 runs, but read %d is to be published", *first.ReadNext)
	}
	lost := run.Next(4) // published by the first agent, never accepted
	got := run.Resume(0)
	want := store.Resumed{Seq: 1, Prev: got.Prev, Cursor: []byte("cursor 0"), Pages: 1, Records: 4}
	if d := cmp.Diff(want, got); d != "" || got.Prev == (page.Hash{}) {
		r.T.Fatalf("the second agent does not go on where the first stopped: %s", d)
	}
	status, err := r.S.Accept(Ctx, lost)
	r.OK(err)
	if status.Status != store.PageSuperseded {
		r.T.Fatalf("the first agent's tail is %s, want superseded", status.Status)
	}
	run.Accept(run.Next(4))
	run.Resume(0) // and back to the first
	run.Accept(run.Last(run.Next(4)))
	if j := run.State(); j.Pages != 3 || j.Records.Exported != 12 {
		r.T.Fatalf("got %d pages with %d records, want 3 with 12", j.Pages, j.Records.Exported)
	}
}

func resumeTwice(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	run.Accept(run.Next(4))
	first := run.Resume(0)
	for range 2 {
		again, err := r.S.Resume(Ctx, run.request(0, 1))
		r.OK(err)
		if d := cmp.Diff(first, again); d != "" {
			r.T.Fatal(d)
		}
	}
	run.Accept(run.Next(4))
	again, err := r.S.Resume(Ctx, run.request(0, 1))
	r.OK(err)
	if d := cmp.Diff(first, again); d != "" {
		r.T.Fatalf("the answer moved on: %s", d)
	}
}

func resumeAfterReceipt(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	run.Accept(run.Next(4))
	run.endRead(0, false)
	run.Epoch = page.NewEpoch()
	_, err := r.S.Resume(Ctx, run.request(0, 2))
	r.Refused(err, "E_SUPERSEDED")
	_, err = r.S.Resume(Ctx, run.request(7, 2))
	r.Refused(err, "E_SUPERSEDED")
	if got := run.Resume(1); got.Seq != 1 || string(got.Cursor) != "cursor 0" {
		r.T.Fatalf("read.1 begins at %+v", got)
	}
}

func (run *JobRun) endRead(n uint64, exhausted bool) store.ReadEnded {
	run.T.Helper()
	got, err := run.S.EndRead(Ctx, store.ReadEnd{Scope: run.Scope, Chain: run.Chain, Request: n,
		Claim: Claim(1),
		Epoch: run.Epoch, Cursor: []byte("continuation"), Exhausted: exhausted, Now: run.Now()})
	run.OK(err)
	return got
}

func resumeUnderClaim(r *Rig) {
	run := r.StartRun()
	run.Epoch = page.NewEpoch()
	_, err := r.S.Resume(Ctx, run.request(0, 2))
	r.OK(err)
	newer := run.Epoch
	run.Epoch = page.NewEpoch()
	_, err = r.S.Resume(Ctx, run.request(0, 1))
	r.Refused(err, "E_SUPERSEDED")
	run.Epoch, run.seq = newer, 0
	run.Accept(run.Next(4))
}

func epochNotReused(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	old := run.Epoch
	run.Resume(0)
	run.Epoch = old
	_, err := r.S.Resume(Ctx, run.request(0, 1))
	r.Refused(err, "E_SUPERSEDED")
}

func unkeyedNotResumable(r *Rig) {
	run := &JobRun{Rig: r, Job: page.NewID(), Flow: page.NewID(), Conn: page.NewID()}
	run.Chain = page.Chain{Job: run.Job, Step: "read"}
	n := run.newJob()
	n.Export.Resumable = false
	_, err := r.S.CreateJob(Ctx, n)
	r.OK(err)
	run.Resume(0)
	run.Resume(0) // nothing accepted yet: it may begin again
	run.Accept(run.Next(4))
	run.Epoch = page.NewEpoch()
	_, err = r.S.Resume(Ctx, run.request(0, 2))
	r.Refused(err, "E_NOT_RESUMABLE")
}

func acceptedInOrder(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	run.seq = 1
	early := run.Next(4)
	run.seq = 0
	run.expect(early, store.PageGap)
	run.Accept(run.Next(4))
	early.Prev = run.prev
	run.Accept(early)
}

// expect checks and accepts a page that must get another status than accepted.
func (run *JobRun) expect(a store.Acceptance, want store.PageStatus) {
	run.T.Helper()
	status, _, err := run.S.CheckPage(Ctx, store.PageCheck{Scope: run.Scope, Root: a.Root,
		Hash: a.PageHash, Prev: a.Prev})
	run.OK(err)
	got, err := run.S.Accept(Ctx, a)
	run.OK(err)
	if status != want || got.Status != want {
		run.T.Fatalf("page %s: check says %s, accept says %s, want %s", a.Root, status, got.Status, want)
	}
	if (got.Fault != nil) != (want != store.PageAlready) {
		run.T.Fatalf("page %s is %s with fault %v", a.Root, got.Status, got.Fault)
	}
}

func acceptedTwice(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	before := run.State()
	run.expect(a, store.PageAlready)
	run.Resume(0)
	run.expect(a, store.PageAlready) // also when another execution reads now
	if d := cmp.Diff(before, run.State(), faults); d != "" {
		r.T.Fatalf("a page that is there already changed the job: %s", d)
	}
}

func otherHash(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	a.PageHash = sha256.Sum256([]byte("other"))
	run.expect(a, store.PageConflict)
}

func wrongPrev(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	run.Accept(run.Next(4))
	a := run.Next(4)
	a.Prev = sha256.Sum256([]byte("other"))
	run.expect(a, store.PageConflict)
}

func olderEpoch(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Resume(0)
	run.expect(a, store.PageSuperseded)
}

func afterTheEnd(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	run.Accept(run.Last(run.Next(4)))
	run.expect(run.Next(4), store.PageConflict)
}

func wrongTotals(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	run.Accept(run.Next(4))
	a := run.Last(run.Next(4))
	for _, change := range []func(*store.Acceptance){
		func(a *store.Acceptance) { a.TotalPages++ },
		func(a *store.Acceptance) { a.TotalRecords-- },
	} {
		bad := a
		change(&bad)
		status, why, err := r.S.CheckPage(Ctx, store.PageCheck{Scope: r.Scope, Root: bad.Root,
			Hash: bad.PageHash, Prev: bad.Prev, Records: bad.Records, Last: true,
			TotalPages: bad.TotalPages, TotalRecords: bad.TotalRecords})
		r.OK(err)
		if status != store.PageRefused || why == nil || why.Code != "E_TOTALS" {
			r.T.Fatalf("before the publish wrong totals are %s with %v", status, why)
		}
		got, err := r.S.Accept(Ctx, bad)
		r.OK(err)
		if got.Status != store.PageRefused || got.Fault == nil || got.Fault.Code != "E_TOTALS" {
			r.T.Fatalf("wrong totals are %s with %v", got.Status, got.Fault)
		}
	}
	run.Accept(a)
}

func zeroRecords(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	got := run.Accept(run.Last(run.Next(0)))
	if !got.Settled || got.JobEnded == nil || got.JobEnded.State != model.JobCompleted {
		r.T.Fatalf("an empty last page gives %+v", got)
	}
	if j := run.State(); j.Pages != 1 || j.Records.Exported != 0 || j.Ended == nil {
		r.T.Fatalf("got %+v", j)
	}
	ended := run.endRead(0, true)
	if !ended.Over || ended.ReadNext != nil {
		r.T.Fatalf("the end of the read after the end of the job gives %+v", ended)
	}
	run.MustProve()
}

func readContinues(r *Rig) {
	run := r.StartRun()
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 0, r.Now()))
	run.Resume(0)
	run.Accept(run.Next(4))
	for _, already := range []bool{false, true} {
		got := run.endRead(0, false)
		if got.Already != already || got.ReadNext == nil || *got.ReadNext != 1 {
			r.T.Fatalf("the end of read.0 gives %+v", got)
		}
	}
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 1, r.Now()))
	run.Resume(1)
	_, err := r.S.EndRead(Ctx, store.ReadEnd{Scope: r.Scope, Chain: run.Chain, Request: 1,
		Claim: Claim(1), Exhausted: true, Now: r.Now()})
	r.Refused(err, "E_TOTALS") // exhausted without a last page
	a := run.Accept(run.Last(run.Next(4)))
	if got := run.endRead(1, true); got.ReadNext != nil || a.ReadNext != nil {
		r.T.Fatalf("the chain has ended, but a read is to be published: %+v", got)
	}
}

func sweepFindsReads(r *Rig) {
	run := r.StartRun()
	find := func(now time.Time) int {
		list, err := r.S.PendingReads(Ctx, now)
		r.OK(err)
		return len(list)
	}
	if n := find(start); n != 1 {
		r.T.Fatalf("%d reads are pending, want the first", n)
	}
	at := r.Now()
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 0, at))
	if n, later := find(at), find(at.Add(time.Hour)); n != 0 || later != 1 {
		r.T.Fatalf("%d reads are pending after the publish and %d an hour later, want 0 and 1", n, later)
	}
	run.Resume(0)
	run.Accept(run.Next(4))
	run.endRead(0, false)
	list, err := r.S.PendingReads(Ctx, at)
	r.OK(err)
	want := []store.PendingRead{{Scope: r.Scope, Chain: run.Chain, Request: 1, Connection: run.Conn,
		Flow:        run.Flow,
		FlowVersion: 3, Cursor: []byte("cursor 0")}}
	if d := cmp.Diff(want, list); d != "" {
		r.T.Fatal(d)
	}
	_, err = r.S.CancelJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	if n := find(at); n != 0 {
		r.T.Fatalf("%d reads are pending of a cancelled job", n)
	}
}

func readsWait(r *Rig) {
	run := r.StartRun()
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 0, r.Now()))
	run.Resume(0)
	a, b := run.Next(4), store.Acceptance{}
	run.Accept(a)
	b = run.Next(4)
	run.Accept(b)
	if got := run.endRead(0, false); got.ReadNext != nil {
		r.T.Fatal("two pages are outstanding, and the next read is to be published")
	}
	if got := run.Settle(run.Receipt(b, 0)); got.ReadNext == nil || *got.ReadNext != 1 {
		r.T.Fatalf("a page was settled, but the next read is not to be published: %+v", got)
	}
}

func readsWaitForBytes(r *Rig) {
	run := r.StartRun()
	r.OK(r.S.MarkReadPublished(Ctx, r.Scope, run.Chain, 0, r.Now()))
	run.Resume(0)
	a, b := run.Next(4), store.Acceptance{}
	run.Accept(a)
	b = run.Next(4)
	run.Accept(b)
	if got := run.endRead(0, false); got.ReadNext != nil {
		r.T.Fatal("160 of 100 bytes are outstanding, and the next read is to be published")
	}
	if got := run.Settle(run.Receipt(a, 0)); got.ReadNext == nil {
		r.T.Fatal("80 of 100 bytes are outstanding, but the next read is not to be published")
	}
}

func contiguousMark(r *Rig) {
	run := r.StartRun()
	run.Resume(0)
	var pages []store.Acceptance
	for range 4 {
		a := run.Next(4)
		run.Accept(a)
		pages = append(pages, a)
	}
	for _, step := range []struct {
		page int
		mark uint64
	}{{1, 0}, {0, 2}, {3, 2}, {2, 4}} {
		if got := run.Settle(run.Receipt(pages[step.page], 0)); got.SettledTo != step.mark ||
			!got.Settled {
			r.T.Fatalf("after page %d everything below %d is settled, want %d", step.page, got.SettledTo,
				step.mark)
		}
		w, err := r.S.Watermark(Ctx, r.Scope, run.Chain)
		r.OK(err)
		if w.SettledTo != step.mark || (step.mark == 2 && string(w.Cursor) != "cursor 1") {
			r.T.Fatalf("the watermark is %+v", w)
		}
	}
}
