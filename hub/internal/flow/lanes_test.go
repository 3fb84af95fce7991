package flow

import (
	"context"
	"sync"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// TestSemantics_3_2_LevelChangesRepeatNothing changes level and description of a
// connection while its imports run: none of them is cancelled or done twice.
func TestSemantics_3_2_LevelChangesRepeatNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows, r.memory.noInbox = 400, true // a repeated import would double
	var mu sync.Mutex
	cancelled := 0
	r.memory.atPut = func(ctx context.Context, _ connectors.Batch) error {
		select {
		case <-time.After(60 * time.Millisecond):
			return nil
		case <-ctx.Done():
			mu.Lock()
			defer mu.Unlock()
			cancelled++
			return ctx.Err()
		}
	}
	spec := exportAll(10, load())
	r.apply("orders", spec, model.Connection{Connector: "memory", Concurrency: 2})
	id := r.start("orders").ID
	for i := range 8 {
		r.apply("orders", spec, model.Connection{Connector: "memory", Concurrency: 1 + i%3, Description: string(rune('a' + i))})
		if err := r.ConnectionChanged(context.Background(), r.scope, r.id("target")); err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	job := r.wait(id, ended)
	r.once(func(int64) bool { return true })
	if cancelled != 0 || job.State != model.JobCompleted {
		t.Errorf("%d imports were cancelled, job %s", cancelled, job.State)
	}
}

// TestSemantics_3_3_NewBorrowerIsServedAtOnce adds a borrower to a lane that runs.
func TestSemantics_3_3_NewBorrowerIsServedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 100
	spec := exportAll(10, load())
	r.apply("orders", spec, model.Connection{Connector: "memory", Concurrency: 2})
	began := time.Now()
	r.wait(r.start("orders").ID, ended)
	usual := time.Since(began)
	r.memory.see(func() { r.memory.inbox, r.memory.applied = map[string]bool{}, map[int64]int{} })
	r.apply("orders", spec, model.Connection{Connector: "memory", BorrowFrom: "source"})
	if err := r.ConnectionChanged(context.Background(), r.scope, r.id("target")); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if job := r.wait(r.start("orders").ID, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
	if took := time.Since(at); took > 6*time.Second+4*usual {
		t.Errorf("the borrower waited %s", took)
	}
	r.once(func(int64) bool { return true })
}

// TestSemantics_3_5_OfflineConnectionStartsNothing: a message that was handed out
// while the connection went offline is given back, not run.
func TestSemantics_3_5_OfflineConnectionStartsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 200
	r.flow("orders", 10, load())
	var mu sync.Mutex
	puts := 0
	r.memory.atPut = func(context.Context, connectors.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if puts++; puts == 1 {
			return fault.Of("E_UNREACHABLE")
		}
		return nil
	}
	id := r.start("orders").ID
	r.wait(id, func(j model.Job) bool { return j.State == model.JobPaused })
	count := func() int { mu.Lock(); defer mu.Unlock(); return puts }
	before := count()
	r.quiet(count)
	if after := count(); after > before+1 { // the other slot was in hand
		t.Errorf("%d imports began while the connection was offline", after-before)
	}
	// Taken offline by hand while offline, and online again: nothing is stuck.
	ctx := context.Background()
	if err := r.states.TakeOffline(ctx, r.scope, r.id("target"), model.CauseManual); err != nil {
		t.Fatal(err)
	}
	if err := r.states.online(ctx, r.scope, r.id("target")); err != nil {
		t.Fatal(err)
	}
	if job := r.wait(id, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
	r.once(func(int64) bool { return true })
}

// TestDeletedConnectionIsNoOnesDebt: a state that cannot be followed because its
// connection is gone must not be owed for ever.
func TestDeletedConnectionIsNoOnesDebt(t *testing.T) {
	r := newRig(t)
	state := model.ConnectionState{Connection: page.NewID(), State: model.Offline, Cause: model.CauseAuth}
	if err := r.StateChanged(context.Background(), r.scope, state); err != nil {
		t.Error(err)
	}
}

// unkeyedExport reads without a key, in the hub.
func unkeyedExport(pageSize int, steps ...model.Step) *model.Flow {
	spec := exportAll(pageSize, steps...)
	spec.Export.Key = nil
	return spec
}

// TestDelivery_1_4_UnkeyedReadInTheHub runs to its end in one request, and fails
// loudly when its process dies after a page was accepted; delivered pages stay.
func TestDelivery_1_4_UnkeyedReadInTheHub(t *testing.T) {
	t.Parallel()
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.memory.rows = 2000
		r.apply("orders", unkeyedExport(50, load()), model.Connection{Connector: "memory", Concurrency: 4})
		job := r.wait(r.start("orders").ID, ended)
		r.once(func(int64) bool { return true })
		r.memory.see(func() {
			if job.State != model.JobCompleted || r.memory.reads != 1 {
				t.Errorf("job %s in %d reads", job.State, r.memory.reads)
			}
		})
	})
	for _, accepted := range []int{0, 5} {
		t.Run("process dies", func(t *testing.T) {
			t.Parallel()
			prepare, hit := dieAt("accepted", accepted)
			if accepted == 0 {
				prepare, hit = dieAt("accept published", 1)
			}
			r := newRig(t, prepare)
			r.memory.rows = 2000
			r.apply("orders", unkeyedExport(50, load()), model.Connection{Connector: "memory", Concurrency: 4})
			id := r.start("orders").ID
			<-hit
			r.stop()
			r = newRigAt(t, r.dir, r.memory)
			job := r.wait(id, ended)
			if accepted == 0 {
				if job.State != model.JobCompleted {
					t.Errorf("a read of which nothing was accepted begins anew: job %s, %v", job.State, job.Cause)
				}
				r.once(func(int64) bool { return true })
				return
			}
			if job.State != model.JobFailed || job.Cause == nil || job.Cause.Code != "E_NOT_RESUMABLE" {
				t.Errorf("job %s, %v", job.State, job.Cause)
			}
			if job.Records.Exported != int64(accepted*50) {
				t.Errorf("%+v", job.Records)
			}
			r.memory.see(func() {
				for _, n := range r.memory.applied {
					if n != 1 {
						t.Errorf("a delivered record was applied %d times", n)
					}
				}
			})
		})
	}
}

// TestDelivery_1_4_UnkeyedReadOutlivesTroubleOfTheHub: a page that cannot be taken
// now waits; only a full disk of the queue ends the job, with E_SPILL.
func TestDelivery_1_4_UnkeyedReadOutlivesTroubleOfTheHub(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		state model.JobState
		code  string
	}{
		"passes":    {errDraining, model.JobCompleted, ""},
		"full disk": {fault.Of("E_DISK"), model.JobFailed, "E_SPILL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			n := 0
			r := newRig(t, func(r *rig) {
				r.crashAt = func(point, _ string) error {
					mu.Lock()
					defer mu.Unlock()
					if point != "accept published" {
						return nil
					}
					if n++; n >= 3 && n < 6 {
						return c.err
					}
					return nil
				}
			})
			r.memory.rows = 500
			r.apply("orders", unkeyedExport(50, load()), model.Connection{Connector: "memory", Concurrency: 4})
			job := r.wait(r.start("orders").ID, ended)
			if job.State != c.state || fault.CodeOf(orNil(job.Cause)) != c.code {
				t.Errorf("job %s, %v", job.State, job.Cause)
			}
			if c.code == "" {
				r.once(func(int64) bool { return true })
			}
		})
	}
}

var errDraining = fault.Of("E_UNAVAILABLE")
