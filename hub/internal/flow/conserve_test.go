package flow

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/connectors"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// TestDelivery_7_EverySumCloses runs pages whose records end before the first
// publish, in part or all of them.
func TestDelivery_7_EverySumCloses(t *testing.T) {
	none := model.Step{Name: "none", Filter: `false`}
	fails := model.Step{Name: "fails", Set: model.Assignments{{Field: "x", Expr: `int("x")`}}}
	some := model.Step{Name: "some", Set: model.Assignments{{Field: "x", Expr: `record.id % 7 == 0 ? int("x") : 1`}}}
	late := model.Step{Name: "late", Set: model.Assignments{{Field: "y", Expr: `record.id % 11 == 0 ? int("y") : 1`}}}
	for name, c := range map[string]struct {
		rows  int
		steps []model.Step
		want  model.RecordCounts
	}{
		"all filtered":              {120, []model.Step{none, load()}, model.RecordCounts{Filtered: 120}},
		"all parked":                {120, []model.Step{fails, load()}, model.RecordCounts{Parked: 120}},
		"parked, then filtered":     {120, []model.Step{some, none, load()}, model.RecordCounts{Parked: 18, Filtered: 102}},
		"filtered, parked, loaded":  {120, []model.Step{paid(), some, load()}, model.RecordCounts{Filtered: 30, Parked: 13, Delivered: 77}},
		"parked behind the import":  {110, []model.Step{load(), late}, model.RecordCounts{Parked: 10, Delivered: 100}},
		"an empty last page":        {0, []model.Step{some, load()}, model.RecordCounts{}},
		"the end right at the page": {100, []model.Step{none, load()}, model.RecordCounts{Filtered: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.memory.rows = c.rows
			r.flow("orders", 50, c.steps...)
			job := r.wait(r.start("orders").ID, ended)
			c.want.Exported = int64(c.rows)
			if diff := cmp.Diff(c.want, job.Records); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			r.proves(job.ID)
		})
	}
}

// parked lists what a job parked.
func (r *rig) parked(job page.ID) (list []store.Parked, ids []page.ID) {
	r.t.Helper()
	out, err := r.Store.Parked(context.Background(), r.scope, store.ParkedFilter{Job: job}, 1000, "")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range out.Items {
		ids = append(ids, p.ID)
	}
	return out.Items, ids
}

// TestDelivery_3_6_RetryBehindTheLastImport: a record that a pure step behind the
// last import parked has no import to go to, and must not be imported again.
func TestDelivery_3_6_RetryBehindTheLastImport(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 22
	late := model.Step{Name: "late", Set: model.Assignments{{Field: "y", Expr: `record.status == "fixed" ? 1 : record.id % 11 == 0 ? int("y") : 1`}}}
	r.flow("orders", 50, load(), late)
	job := r.wait(r.start("orders").ID, ended)
	list, ids := r.parked(job.ID)
	if len(list) != 2 || job.Records.Delivered != 20 {
		t.Fatalf("%d parked, %+v", len(list), job.Records)
	}
	if err := r.Edit(context.Background(), r.scope, ids[0], []byte(`{"id":0,"status":"fixed"}`), "test"); err != nil {
		t.Fatal(err)
	}
	retry, err := r.Retry(context.Background(), r.scope, ids)
	if err != nil {
		t.Fatal(err)
	}
	again := r.wait(retry.ID, ended)
	if again.State != model.JobCompletedWithErrors || again.Records.Delivered != 1 || again.Records.Parked != 1 {
		t.Errorf("retry %s, %+v", again.State, again.Records)
	}
	r.once(func(int64) bool { return true })
	r.proves(retry.ID)
	if left, _ := r.parked(retry.ID); len(left) != 1 || left[0].Attempts != 2 {
		t.Errorf("parked again: %+v", left)
	}
}

// TestDelivery_3_6_CancelledRetryIsNotDeliveredTwice cancels a retry while its
// import runs, which then succeeds.
func TestDelivery_3_6_CancelledRetryIsNotDeliveredTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 10
	refuse := true
	r.memory.bad = func(id int64) *fault.Error {
		if refuse && id < 3 {
			return fault.Of("E_VALUE")
		}
		return nil
	}
	r.flow("orders", 50, load())
	job := r.wait(r.start("orders").ID, ended)
	_, ids := r.parked(job.ID)
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.memory.mu.Lock()
	refuse = false
	r.memory.mu.Unlock()
	r.memory.atPut = func(context.Context, connectors.Batch) error {
		once.Do(func() { close(begun) })
		<-release
		return nil
	}
	ctx := context.Background()
	retry, err := r.Retry(ctx, r.scope, ids)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	if _, err := r.Cancel(ctx, r.scope, retry.ID); err != nil {
		t.Fatal(err)
	}
	close(release)
	r.drained("target")
	if _, err := r.Retry(ctx, r.scope, ids); fault.CodeOf(err) != "E_CONFLICT" {
		t.Errorf("records that were delivered are retried: %v", err)
	}
	r.once(func(int64) bool { return true })
}

// TestDelivery_3_6_LargeRecordsAreRetried: pages of a retry are cut by size; a page
// that nothing can hold would never end.
func TestDelivery_3_6_LargeRecordsAreRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 12
	refuse := true
	r.memory.bad = func(int64) *fault.Error {
		if refuse {
			return fault.Of("E_VALUE")
		}
		return nil
	}
	r.flow("orders", 50, load())
	job := r.wait(r.start("orders").ID, ended)
	list, ids := r.parked(job.ID)
	ctx := context.Background()
	for i, p := range list {
		record := fmt.Sprintf(`{"id":%d,"status":%q}`, p.Origin.Index, strings.Repeat("x", 400<<10))
		if err := r.Edit(ctx, r.scope, ids[i], []byte(record), "test"); err != nil {
			t.Fatal(err)
		}
	}
	huge := fmt.Sprintf(`{"id":1,"status":%q}`, strings.Repeat("x", page.MaxRecord))
	if err := r.Edit(ctx, r.scope, ids[0], []byte(huge), "test"); fault.CodeOf(err) != "E_TOO_LARGE" {
		t.Errorf("a record that fits no page is taken: %v", err)
	}
	r.memory.mu.Lock()
	refuse = false
	r.memory.mu.Unlock()
	retry, err := r.Retry(ctx, r.scope, ids)
	if err != nil {
		t.Fatal(err)
	}
	if again := r.wait(retry.ID, ended); again.State != model.JobCompleted || again.Pages < 4 {
		t.Errorf("retry %s in %d pages", again.State, again.Pages)
	}
	r.once(func(int64) bool { return true })
}

// TestDelivery_8_OnErrorStop: the job stops with the receipt of the page, and a job
// that ends with that page ends.
func TestDelivery_8_OnErrorStop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.memory.rows = 10
	r.memory.bad = func(id int64) *fault.Error {
		if id == 7 {
			return fault.Of("E_VALUE")
		}
		return nil
	}
	stop := load()
	stop.Import.OnError = "stop"
	r.flow("orders", 5, stop)
	id := r.start("orders").ID
	job := r.wait(id, func(j model.Job) bool { return ended(j) || j.State == model.JobPaused })
	if job.State == model.JobPaused && job.Cause.Code != "E_STOPPED" {
		t.Errorf("paused with %v", job.Cause)
	}
	r.quiet(func() int { r.memory.mu.Lock(); defer r.memory.mu.Unlock(); return r.memory.imports })
	r.drainedOrHeld("target")
}

// drainedOrHeld demands that no message is stuck in flight.
func (r *rig) drainedOrHeld(connection string) {
	r.t.Helper()
	q, err := r.QueueOf(context.Background(), r.scope, connection)
	if err != nil || q.InFlight != 0 {
		r.t.Errorf("%d messages are in flight, %v", q.InFlight, err)
	}
}

// TestTraceKeysFollowRecords: a record keeps the values of the export's trace key
// through steps that drop the fields, into the parked records; its later success
// closes the older entry.
func TestTraceKeysFollowRecords(t *testing.T) {
	for name, c := range map[string]struct {
		key  []string
		want string
	}{
		"the key":    {nil, "5"},
		"its own":    {[]string{"status"}, "paid"},
		"two fields": {[]string{"status", "id"}, `["paid","5"]`},
		"not there":  {[]string{"nothing"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.memory.rows = 20
			refuse := true
			r.memory.bad = func(id int64) *fault.Error {
				if refuse && id == 5 {
					return fault.Of("E_VALUE")
				}
				return nil
			}
			drop := model.Step{Name: "drop", Map: model.Assignments{{Field: "id", Expr: "record.id"}}}
			fails := model.Step{Name: "fails", Set: model.Assignments{{Field: "x", Expr: `record.id == 6 ? int("x") : 1`}}}
			spec := exportAll(10, drop, fails, load())
			spec.Export.TraceKey = c.key
			r.apply("orders", spec, model.Connection{Connector: "memory"})
			job := r.wait(r.start("orders").ID, ended)
			list, _ := r.parked(job.ID)
			keys := map[string]string{}
			for _, p := range list {
				opened, err := r.Open(context.Background(), p)
				if err != nil {
					t.Fatal(err)
				}
				keys[p.Step] = opened.TraceKey
			}
			if keys["load"] != c.want || keys["fails"] != strings.ReplaceAll(c.want, "5", "6") || len(keys) != 2 {
				t.Errorf("trace keys %q, want %q", keys, c.want)
			}
			if c.key != nil {
				return
			}
			r.memory.mu.Lock()
			refuse = false
			r.memory.mu.Unlock()
			r.wait(r.start("orders").ID, ended)
			for _, p := range list {
				now, err := r.Store.ParkedByID(context.Background(), r.scope, p.ID)
				if err != nil {
					t.Fatal(err)
				}
				if want := map[string]model.ParkedState{"load": model.ParkedResolved, "fails": model.ParkedSuperseded}; now.State != want[p.Step] {
					t.Errorf("the older entry of %s is %s", p.Step, now.State)
				}
			}
		})
	}
}
