package odata_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// cut lets a request reach the service and loses the answer.
func (s *site) cut(r *http.Request) {
	s.front.Forward(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// TestAnswersThatNeverCome: records whose request was cut off after it was done
// are neither created twice nor called duplicates; real duplicates still are.
func TestAnswersThatNeverCome(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		s.post("Orders", `{"id":5,"customer":"another"}`)
		var batches atomic.Int32
		s.front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
			if isBatch(r) && batches.Add(1) == 2 {
				s.cut(r)
			}
			return false
		})
		c := s.open(version, func(m map[string]any) { m["batch"] = 4 })
		records := orders(1, 10)
		records[6] = rec("id", 7, "customer", "c", "total", dec("1.50"), "day", page.Date(19782), "at", page.Timestamp(1709201472123000, 3600), "paid", page.Bool(true))
		records[7] = rec("id", 1, "customer", "again")
		a := mustLoad(t, c, insert, records...)
		if diff := cmp.Diff(map[int]string{4: "E_DUPLICATE", 7: "E_DUPLICATE"}, codes(a)); diff != "" || a.Applied != 8 || s.count() != 9 {
			t.Errorf("applied %d of %d orders, %s", a.Applied, s.count(), diff)
		}
	})
}

// TestAnswersThatNeverComeWithoutKey: what could be created twice is left to the
// next delivery.
func TestAnswersThatNeverComeWithoutKey(t *testing.T) {
	s := newSite(t)
	var batches atomic.Int32
	s.front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if isBatch(r) && batches.Add(1) == 1 {
			s.cut(r)
		}
		return false
	})
	_, err := load(t, s.open("v4"), insert, rec("customer", "c"))
	if fault.ClassOf(err) != fault.Intermittent || batches.Load() != 1 {
		t.Errorf("%v after %d batches", err, batches.Load())
	}
	if _, err := load(t, s.open("v4"), upsert("upsert"), orders(1, 3)...); err != nil || s.count() != 3 {
		t.Errorf("%v, %d orders", err, s.count())
	}
}
