package flow

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// dieAt makes the engine die when it comes to a point for the n-th time.
func dieAt(point string, n int) (prepare func(*rig), hit chan struct{}) {
	hit = make(chan struct{})
	var mu sync.Mutex
	return func(r *rig) {
		r.crashAt = func(at, _ string) error {
			mu.Lock()
			if at == point {
				n--
			}
			dies := at == point && n == 0
			mu.Unlock()
			if !dies {
				return nil
			}
			close(hit)
			<-r.dying
			return errors.New("the process died here")
		}
	}, hit
}

// TestDelivery_3_CrashAtEachPoint ends the engine at each point of a page's way
// and begins anew on what is on disk. The target's inbox answers a page that it
// had before; every record must be there once, and every sum close.
func TestDelivery_3_CrashAtEachPoint(t *testing.T) {
	t.Parallel()
	points := []string{
		"accept published", "accepted", "read done", "read ended", "executed", "answered", "published", "settled",
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			prepare, hit := dieAt(point, 2)
			r := newRig(t, prepare)
			r.memory.rows = 2000
			second := load()
			second.Name = "archive"
			r.flow("orders", 50, paid(), load(), second)
			id := r.start("orders").ID
			<-hit
			r.stop()
			r = newRigAt(t, r.dir, r.memory)
			job := r.wait(id, ended)
			if job.State != model.JobCompleted || job.Records.Delivered != 1500 || job.Records.Filtered != 500 {
				t.Errorf("job %s, %+v", job.State, job.Records)
			}
			r.times(func(id int64) int {
				if isPaid(id) {
					return 2 // two imports
				}
				return 0
			})
			r.proves(id)
		})
	}
}

// times checks the ledger of the target.
func (r *rig) times(want func(id int64) int) {
	r.t.Helper()
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	for id := range int64(r.memory.rows) {
		if n := r.memory.applied[id]; n != want(id) {
			r.t.Fatalf("record %d was applied %d times, want %d", id, n, want(id))
		}
	}
}

func (r *rig) proves(id page.ID) {
	r.t.Helper()
	proof, err := r.Store.Prove(context.Background(), r.scope, id, time.Now())
	if err != nil || !proof.Closed || proof.Lost != 0 || proof.Doubled != 0 {
		r.t.Errorf("proof %+v, %v", proof, err)
	}
}

// TestDelivery_3_2_TheFirstAnswerStands runs an import without inbox, whose second
// execution refuses as duplicate what the first one applied. The hub dies after it
// has published what follows: the page of that name must not change any more.
func TestDelivery_3_2_TheFirstAnswerStands(t *testing.T) {
	t.Parallel()
	prepare, hit := dieAt("published", 1)
	r := newRig(t, prepare)
	r.memory.rows, r.memory.noInbox = 20, true // one page: another would be under way
	tag := model.Step{Name: "tag", Set: model.Assignments{{Field: "tag", Expr: `1`}}}
	r.memory.bad = func(id int64) *fault.Error {
		if r.memory.applied[id] > 0 {
			return fault.Of("E_DUPLICATE")
		}
		return nil
	}
	r.flow("orders", 20, load(), tag)
	id := r.start("orders").ID
	<-hit
	r.stop()
	r = newRigAt(t, r.dir, r.memory)
	job := r.wait(id, ended)
	if job.State != model.JobCompleted || job.Records.Delivered != 20 || job.Records.Parked != 0 {
		t.Errorf("job %s, %+v", job.State, job.Records)
	}
	r.once(func(int64) bool { return true })
	r.proves(id)
}

// TestDelivery_1_2_ReadThatFailsInTheMiddleIsTriedAgain: a read request that meets
// a passing fault after its first page is put off under its own name.
func TestDelivery_1_2_ReadThatFailsInTheMiddleIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 400
	r.memory.atRow = func(_ context.Context, read, next int) error {
		if read == 1 && next == 150 {
			return fault.Of("E_INTERMITTENT")
		}
		return nil
	}
	r.flow("orders", 50, load())
	id := r.start("orders").ID
	job := r.wait(id, ended)
	r.once(func(int64) bool { return true })
	if job.State != model.JobCompleted || job.Duration > 10 {
		t.Errorf("job %s after %f s", job.State, job.Duration)
	}
}

// TestDelivery_1_2_ReadPublishedTwice: two copies of one read request must not take
// the chain from each other, however slow the first page is.
func TestDelivery_1_2_ReadPublishedTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 100
	begun := make(chan struct{}, 64)
	r.memory.atRow = func(ctx context.Context, _, next int) error {
		if next == 0 {
			begun <- struct{}{}
			select {
			case <-time.After(1500 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	r.flow("orders", 50, load())
	job := r.start("orders")
	<-begun
	source, err := r.object(context.Background(), r.scope, "source")
	if err != nil {
		t.Fatal(err)
	}
	err = r.Queue.PublishLater(context.Background(), queue.Message{ // a schedule passes the dedup window
		Place: place(r.scope), Connection: source.ID, Kind: queue.KindRead, Job: job.ID, Step: "export",
		Name: page.ReadName(page.Chain{Job: job.ID, Step: "export"}, 0), Flow: job.Flow, FlowVersion: job.FlowVersion,
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if job := r.wait(job.ID, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
	r.once(func(int64) bool { return true })
	r.memory.see(func() {
		if r.memory.reads != 1 {
			t.Errorf("the request was executed %d times", r.memory.reads)
		}
	})
}

// TestDelivery_8_PausedJobGoesOnWithTheReceiptOfItsTry kills the hub right after
// the receipt of the page that was the one try of a paused job. Nothing of the job
// is in the queue then: only that receipt can make it go on.
func TestDelivery_8_PausedJobGoesOnWithTheReceiptOfItsTry(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	missing, tries := true, 0
	prepare, hit := dieAt("settled", 1)
	r := newRig(t, prepare)
	// Enough for a second read; its request is not published while the job is paused.
	r.memory.rows = 50 * 20
	r.memory.fail = func(int) error {
		mu.Lock()
		defer mu.Unlock()
		tries++
		if missing {
			return fault.Of("E_TABLE_MISSING")
		}
		return nil
	}
	r.flow("orders", 50, load())
	id := r.start("orders").ID
	r.wait(id, func(j model.Job) bool { return j.State == model.JobPaused && j.Pages == 16 })
	mu.Lock()
	missing = false
	mu.Unlock()
	<-hit
	r.stop()
	r = newRigAt(t, r.dir, r.memory)
	if job := r.wait(id, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
	r.once(func(int64) bool { return true })
}

// TestDelivery_8_CancelledWhileAPageFails: the reaction to a page of a job that was
// cancelled meanwhile must end the message, not leave it to its lease.
func TestDelivery_8_CancelledWhileAPageFails(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*fault.Error{
		"pause": fault.Of("E_TABLE_MISSING"), "fail": fault.Of("E_NOT_RESUMABLE"), "ok": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.memory.rows = 10
			begun, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			r.memory.atPut = func(context.Context, connectors.Batch) error {
				once.Do(func() { close(begun) })
				<-release
				if f != nil {
					return f
				}
				return nil
			}
			r.flow("orders", 50, load())
			id := r.start("orders").ID
			<-begun
			if _, err := r.Cancel(context.Background(), r.scope, id); err != nil {
				t.Fatal(err)
			}
			close(release)
			at := time.Now()
			r.drained("target")
			if took := time.Since(at); took > 2*time.Second {
				t.Errorf("the message of the cancelled job was there for %s", took)
			}
			job, err := r.Store.Job(context.Background(), r.scope, id)
			if err != nil || job.State != model.JobCancelled || job.Records.Delivered != 0 {
				t.Errorf("job %s, %+v, %v", job.State, job.Records, err)
			}
		})
	}
}

// TestPanicIsAFaultOfItsMessage: the other pages go on.
func TestPanicIsAFaultOfItsMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 100
	var once sync.Once
	r.memory.atPut = func(context.Context, connectors.Batch) error {
		once.Do(func() { panic("canary") })
		return nil
	}
	r.flow("orders", 10, load())
	id := r.start("orders").ID
	if job := r.wait(id, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
	r.once(func(int64) bool { return true })
}

// TestSemantics_3_5_JobOfAConnectionThatCameBackRuns: a job that is created while
// its connection goes offline and comes back must not stay paused.
func TestSemantics_3_5_JobOfAConnectionThatCameBackRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 10
	r.flow("orders", 50, load())
	ctx := context.Background()
	target, err := r.object(ctx, r.scope, "target")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.states.Report(ctx, r.scope, target.ID, fault.Of("E_UNREACHABLE")); err != nil {
		t.Fatal(err)
	}
	if job := r.start("orders"); job.State != model.JobPaused || job.Cause == nil {
		t.Errorf("a job over an offline connection is %s, %v", job.State, job.Cause)
	}
	old, err := r.states.State(ctx, r.scope, target.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.states.online(ctx, r.scope, target.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.StateChanged(ctx, r.scope, old); err != nil { // of a replica that was late
		t.Fatal(err)
	}
	list, err := r.Store.Jobs(ctx, r.scope, store.JobFilter{}, 10, "")
	if err != nil {
		t.Fatal(err)
	}
	if job := r.wait(list.Items[0].ID, ended); job.State != model.JobCompleted {
		t.Errorf("job %s", job.State)
	}
}
