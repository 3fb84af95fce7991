package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func offlinePauses(r *Rig) {
	run, other := r.StartRun(), r.StartRun()
	cause := fault.Of("E_UNREACHABLE")
	if paused, err := r.S.PauseConnection(Ctx, r.Scope, run.Conn, r.Now()); err != nil || len(paused) != 0 {
		r.T.Fatalf("the connection is online, but jobs %v are paused, %v", paused, err)
	}
	r.online(run.Conn, model.Offline, cause)
	paused, err := r.S.PauseConnection(Ctx, r.Scope, run.Conn, r.Now())
	r.OK(err)
	if d := cmp.Diff([]page.ID{run.Job}, paused); d != "" {
		r.T.Fatal(d)
	}
	if j := run.State(); j.State != model.JobPaused || j.Cause == nil || j.Cause.Code != cause.Code {
		r.T.Fatalf("the job is %+v", j)
	}
	if j := other.State(); j.State != model.JobRunning {
		r.T.Fatalf("a job over another connection is %s", j.State)
	}
	if list, err := r.S.PendingReads(Ctx, r.Now()); err != nil || len(list) != 1 {
		r.T.Fatalf("%d reads are pending, want that of the other job, %v", len(list), err)
	}
	reads, err := r.S.ResumeConnection(Ctx, r.Scope, run.Conn, r.Now())
	if err != nil || len(reads) != 0 {
		r.T.Fatalf("the connection is offline still, but %+v go on, %v", reads, err)
	}
	r.online(run.Conn, model.Online, nil)
	reads, err = r.S.ResumeConnection(Ctx, r.Scope, run.Conn, r.Now())
	r.OK(err)
	if len(reads) != 1 || reads[0].Job.State != model.JobRunning || len(reads[0].Next) != 1 ||
		reads[0].Next[0].Request != 0 {
		r.T.Fatalf("the connection is back, got %+v", reads)
	}
	reads, err = r.S.ResumeConnection(Ctx, r.Scope, run.Conn, r.Now())
	if err != nil || len(reads) != 0 {
		r.T.Fatalf("the second time got %+v, %v", reads, err)
	}
	waitsForBoth(r)
}

// online writes the state of a connection.
func (r *Rig) online(c page.ID, state model.OnlineState, f *fault.Error) {
	r.T.Helper()
	_, _, err := r.S.ChangeConnection(Ctx, r.Scope, c,
		func(model.ConnectionState) (model.ConnectionState, bool) {
			return model.ConnectionState{State: state, Fault: f}, true
		})
	r.OK(err)
}

// waitsForBoth: a job over two connections goes on when the last one is back.
func waitsForBoth(r *Rig) {
	run := &JobRun{Rig: r, Job: page.NewID(), Flow: page.NewID(), Conn: page.NewID()}
	run.Chain = page.Chain{Job: run.Job, Step: "read"}
	n := run.newJob()
	second := page.NewID()
	n.Connections = append(n.Connections, second)
	_, err := r.S.CreateJob(Ctx, n)
	r.OK(err)
	for _, c := range n.Connections {
		r.online(c, model.Offline, nil) // by hand: a job says so all the same
		_, err = r.S.PauseConnection(Ctx, r.Scope, c, r.Now())
		r.OK(err)
		if j := run.State(); j.Cause == nil || j.Cause.Class != fault.Connection {
			r.T.Fatalf("a job over a connection that is offline by hand is %+v", j)
		}
	}
	for i, c := range n.Connections {
		r.online(c, model.Online, nil)
		reads, err := r.S.ResumeConnection(Ctx, r.Scope, c, r.Now())
		r.OK(err)
		if len(reads) != i {
			r.T.Fatalf("connection %d is back and %d jobs go on", i, len(reads))
		}
	}
}

func terminalStates(r *Rig) {
	run := r.StartRun()
	_, err := r.S.FailJob(Ctx, r.Scope, run.Job, fault.Of("E_SPILL"), r.Now())
	r.OK(err)
	before := run.State()
	if before.State != model.JobFailed || before.Ended == nil || before.Cause == nil {
		r.T.Fatalf("got %+v", before)
	}
	_, err = r.S.CancelJob(Ctx, r.Scope, run.Job, r.Now())
	r.Refused(err, "E_STATE_CONFLICT")
	_, err = r.S.FailJob(Ctx, r.Scope, run.Job, fault.Of("E_SPILL"), r.Now())
	r.Refused(err, "E_STATE_CONFLICT")
	r.Refused(r.S.PauseJob(Ctx, r.Scope, run.Job, store.Pause{Cause: fault.Of("E_SPILL")}, r.Now()),
		"E_STATE_CONFLICT")
	_, err = r.S.StartJob(Ctx, r.Scope, run.Job, r.Now())
	r.Refused(err, "E_STATE_CONFLICT")
	reads, err := r.S.ResumeJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	if reads.Job.State != model.JobFailed || len(reads.Next) != 0 {
		r.T.Fatalf("resuming a failed job gives %+v", reads)
	}
	r.online(run.Conn, model.Offline, fault.Of("E_UNREACHABLE"))
	if paused, err := r.S.PauseConnection(Ctx, r.Scope, run.Conn, r.Now()); err != nil || len(paused) != 0 {
		r.T.Fatalf("an ended job was paused, %v", err)
	}
	if d := cmp.Diff(before, run.State(), faults); d != "" {
		r.T.Fatal(d)
	}
	queuedJob(r)
}

func queuedJob(r *Rig) {
	run := &JobRun{Rig: r, Job: page.NewID(), Flow: page.NewID(), Conn: page.NewID()}
	run.Chain = page.Chain{Job: run.Job, Step: "read"}
	n := run.newJob()
	n.Queued, n.Vars = true, []byte(`{"x":1}`)
	reads, err := r.S.CreateJob(Ctx, n)
	r.OK(err)
	if reads.Job.State != model.JobQueued || len(reads.Next) != 0 {
		r.T.Fatalf("a queued job gives %+v", reads)
	}
	reads, err = r.S.StartJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	if reads.Job.State != model.JobRunning || reads.Job.Started == nil || len(reads.Next) != 1 {
		r.T.Fatalf("a started job gives %+v", reads)
	}
	plan, err := r.S.Plan(Ctx, r.Scope, run.Job)
	r.OK(err)
	if plan.Version != 3 || plan.Flow != run.Flow || string(plan.Vars) != `{"x":1}` {
		r.T.Fatalf("the plan is %+v", plan)
	}
}

func tryPaused(r *Rig) {
	run := r.StartRun()
	at := r.Now().Add(time.Minute)
	r.OK(r.S.PauseJob(Ctx, r.Scope, run.Job, store.Pause{Cause: fault.Of("E_TABLE_MISSING"),
		RetryAt: &at}, r.Now()))
	try := func(now time.Time) int {
		var won atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				ok, err := r.S.TryPaused(Ctx, r.Scope, run.Job, now)
				if err != nil {
					r.T.Error(err)
				}
				if ok {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		return int(won.Load())
	}
	due, err := r.S.DuePaused(Ctx, at)
	r.OK(err)
	if len(due) != 1 || due[0].Job != run.Job {
		r.T.Fatalf("due are %+v", due)
	}
	for _, c := range []struct {
		now  time.Time
		want int
	}{{at.Add(-time.Second), 0}, {at, 1}, {at.Add(time.Second), 0}, {at.Add(time.Minute), 1}} {
		if got := try(c.now); got != c.want {
			r.T.Fatalf("at %s %d tries won, want %d", c.now, got, c.want)
		}
	}
	if got := run.admit(page.ReadName(run.Chain, 0), 1, false); got.JobState != model.JobPaused ||
		got.Cause.Code != "E_TABLE_MISSING" || got.RetryAt.IsZero() {
		r.T.Fatalf("a read of a paused job is admitted with %+v", got)
	}
	reads, err := r.S.ResumeJob(Ctx, r.Scope, run.Job, r.Now())
	r.OK(err)
	if reads.Job.State != model.JobRunning || reads.Job.Cause != nil || len(reads.Next) != 1 {
		r.T.Fatalf("got %+v", reads)
	}
}

func scopes(r *Rig) {
	run, list := r.parkedRun(1)
	tenant, err := r.S.EnsureTenant(Ctx, "other", "", r.Now())
	r.OK(err)
	env, err := r.S.EnsureEnvironment(Ctx, tenant.ID, "default", r.Now())
	r.OK(err)
	second, err := r.S.EnsureEnvironment(Ctx, r.Scope.Tenant, "second", r.Now())
	r.OK(err)
	running := r.StartRun()
	running.Resume(0)
	a := running.Next(4)
	running.Accept(a)
	for _, foreign := range []store.Scope{
		{Tenant: tenant.ID, Environment: env.ID}, {Tenant: r.Scope.Tenant, Environment: second.ID},
		{Tenant: tenant.ID, Environment: r.Scope.Environment}} {
		foreignSees(r, foreign, run, list[0].ID)
		foreignWrites(r, foreign, running, a)
	}
	running.Settle(running.Receipt(a, 0))
}

func foreignSees(r *Rig, foreign store.Scope, run *JobRun, parked page.ID) {
	_, err := r.S.Job(Ctx, foreign, run.Job)
	r.Refused(err, "E_NOT_FOUND")
	_, err = r.S.Plan(Ctx, foreign, run.Job)
	r.Refused(err, "E_NOT_FOUND")
	_, err = r.S.Prove(Ctx, foreign, run.Job, r.Now())
	r.Refused(err, "E_NOT_FOUND")
	_, err = r.S.ParkedByID(Ctx, foreign, parked)
	r.Refused(err, "E_NOT_FOUND")
	r.Refused(r.S.EditParked(Ctx, foreign, parked, nil, "x", r.Now()), "E_NOT_FOUND")
	if list, err := r.S.Parked(Ctx, foreign, store.ParkedFilter{IDs: []page.ID{parked}}, 10,
		""); err != nil || len(list.Items) > 0 {
		r.T.Fatalf("a foreign scope sees %d records, %v", len(list.Items), err)
	}
	if list, err := r.S.Jobs(Ctx, foreign, store.JobFilter{}, 10, ""); err != nil ||
		len(list.Items) > 0 {
		r.T.Fatalf("a foreign scope sees %d jobs, %v", len(list.Items), err)
	}
}

func foreignWrites(r *Rig, foreign store.Scope, run *JobRun, a store.Acceptance) {
	receipt := run.Receipt(a, 0)
	receipt.Scope = foreign
	_, err := r.S.Settle(Ctx, receipt)
	r.Refused(err, "E_NOT_FOUND")
	next := run.Next(4)
	next.Scope = foreign
	got, err := r.S.Accept(Ctx, next)
	r.OK(err)
	if got.Status != store.PageSuperseded {
		r.T.Fatalf("a foreign page is %s", got.Status)
	}
	request := run.request(0, 9)
	request.Scope, request.Epoch = foreign, page.NewEpoch()
	_, err = r.S.Resume(Ctx, request)
	r.Refused(err, "E_NOT_FOUND")
	_, err = r.S.CancelJob(Ctx, foreign, run.Job, r.Now())
	r.Refused(err, "E_NOT_FOUND")
	entry, err := r.S.Admit(Ctx, store.Admission{Scope: foreign, Name: receipt.Name, Job: run.Job,
		NeedClaim: true, Now: r.Now()})
	r.OK(err)
	if entry.Entry != store.EntryOrphan {
		r.T.Fatalf("a foreign page is admitted as %s", entry.Entry)
	}
	if won, err := r.S.TryPaused(Ctx, foreign, run.Job, r.Now()); err != nil || won {
		r.T.Fatalf("a foreign scope may try a job, %v", err)
	}
}
