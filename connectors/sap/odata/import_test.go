package odata_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/connectors"
	"ropeway/protocol/page"
)

var insert = connectors.ImportSpec{Table: "Orders"}

func upsert(mode string) connectors.ImportSpec {
	return connectors.ImportSpec{Table: "Orders", Mode: mode, Key: []string{"id"}}
}

// TestInsertAnswersRecordByRecord: one bad record in the middle does not touch
// its neighbours, and its answer names class and field.
func TestInsertAnswersRecordByRecord(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		for _, batch := range []int{100, 2, 1} {
			s.wipe()
			s.post("Orders", `{"id":3,"customer":"first"}`)
			c := s.open(version, func(m map[string]any) { m["batch"] = batch })
			a := mustLoad(t, c, insert,
				rec("id", 1, "customer", "one"),
				rec("id", 2, "customer", "two", "status", "nope"), // the server's own check
				rec("id", 3, "customer", "again"),                 // there already: CAP answers 500
				rec("id", 4, "customer", nil),                     // mandatory
				rec("id", 5, "customer", "five", "note", strings.Repeat("x", 21)),
				rec("id", 6, "customer", "O'Brien 😀 & söhne"),
				rec("id", 6, "customer", "twice in the page"),
			)
			want := map[int]string{1: "E_VALUE", 2: "E_DUPLICATE", 3: "E_MISSING", 4: "E_VALUE", 6: "E_DUPLICATE"}
			if diff := cmp.Diff(want, codes(a)); diff != "" || a.Applied != 2 {
				t.Fatalf("batch %d: applied %d, %s %v", batch, a.Applied, diff, a.Failed)
			}
			for i, field := range map[int]string{0: "status", 2: "customer", 3: "note"} {
				if a.Failed[i].Fault.Field != field {
					t.Errorf("batch %d: fault %d names field %q, want %q", batch, i, a.Failed[i].Fault.Field, field)
				}
			}
			if cause := a.Failed[0].Fault.Cause; !strings.Contains(cause, "allowed values") || !strings.Contains(cause, "ASSERT_ENUM") {
				t.Errorf("the cause is not SAP's: %q", cause)
			}
			if s.count() != 3 || !strings.Contains(s.order(6), "O'Brien 😀 & söhne") {
				t.Errorf("batch %d: %d orders, order 6 is %s", batch, s.count(), s.order(6))
			}
		}
	})
}

func TestUpsertUpdateDelete(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		for _, batch := range []int{100, 1} {
			s.wipe()
			s.post("Orders", `{"id":1,"customer":"old","note":"kept"}`)
			c := s.open(version, func(m map[string]any) { m["batch"] = batch })
			spec := upsert("upsert")
			for range 2 { // twice leaves the same
				a := mustLoad(t, c, spec, rec("id", 1, "customer", "new"), rec("id", 2, "customer", "made"),
					rec("id", 3, "status", "nope"), rec("id", 2, "customer", "last"), rec("id", nil, "customer", "x"))
				if diff := cmp.Diff(map[int]string{2: "E_VALUE", 4: "E_MISSING"}, codes(a)); diff != "" {
					t.Fatalf("upsert: %s %v", diff, a.Failed)
				}
			}
			if one := s.order(1); !strings.Contains(one, `"new"`) || !strings.Contains(one, `"kept"`) {
				t.Errorf("order 1: %s", one)
			}
			if two := s.order(2); !strings.Contains(two, `"last"`) || s.count() != 2 {
				t.Errorf("order 2: %s of %d", two, s.count())
			}
			a := mustLoad(t, c, upsert("update"), rec("id", 1, "note", "updated"), rec("id", 9, "note", "gone"))
			if diff := cmp.Diff(map[int]string{1: "E_MISSING"}, codes(a)); diff != "" || s.order(9) != "" {
				t.Fatalf("update: %s %v", diff, a.Failed)
			}
			a = mustLoad(t, c, upsert("delete"), rec("id", 1), rec("id", 77))
			if len(a.Failed) > 0 || s.count() != 1 {
				t.Fatalf("delete: %v, %d left", a.Failed, s.count())
			}
		}
	})
}

func TestDeepInsert(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		c := s.open(version)
		item := page.Object(page.NewShape("pos", "product", "price"), []page.Value{page.Int(1), page.String("bolt"), dec("1.10")})
		a := mustLoad(t, c, insert,
			rec("id", 1, "customer", "c", "items", page.Array([]page.Value{item})),
			rec("id", 2, "customer", "c", "items", page.JSON([]byte(`[{"pos": 7, "price": 0.29}]`))),
			rec("id", 3, "customer", "c", "items", page.JSON([]byte(`[{"nosuch": 7}]`))))
		if diff := cmp.Diff(map[int]string{2: "E_VALUE"}, codes(a)); diff != "" {
			t.Fatalf("%s %v", diff, a.Failed)
		}
		_, body := s.call("GET", "/Items?$orderby=parent_id", "")
		if !strings.Contains(body, `"price":"1.10"`) && !strings.Contains(body, `"price":"1.1"`) || !strings.Contains(body, `0.29`) {
			t.Errorf("items: %s", body)
		}
	})
}

func TestFieldErrorsRemove(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		c := s.open(version)
		spec := insert
		spec.FieldErrors.Remove = []string{"status", "note"}
		a := mustLoad(t, c, spec, rec("id", 1, "customer", "c", "status", "nope"),
			rec("id", 2, "customer", "c", "note", strings.Repeat("x", 30)), rec("id", 3, "customer", nil))
		if a.Applied != 2 || len(a.Degraded) != 2 || len(a.Failed) != 1 {
			t.Fatalf("%+v", a)
		}
		if one := s.order(1); !strings.Contains(one, `"status":null`) {
			t.Errorf("order 1: %s", one)
		}
	})
}

func TestCSRFIsRenewedInTheMiddle(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		c := s.open(version, func(m map[string]any) { m["batch"] = 2 })
		for i := range 3 {
			a := mustLoad(t, c, insert, rec("id", i*4+1, "customer", "c"), rec("id", i*4+2, "customer", "c"),
				rec("id", i*4+3, "customer", "c"), rec("id", i*4+4, "customer", "c"))
			if a.Applied != 4 {
				t.Fatalf("%+v", a.Failed)
			}
			s.front.Expire()
		}
		if n := s.front.Counts(); n.Fetched != 3 || n.Refused != 2 || s.count() != 12 {
			t.Errorf("%+v, %d orders", n, s.count())
		}
	})
}
