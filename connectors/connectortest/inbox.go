package connectortest

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// testInbox holds DELIVERY §4.
func testInbox(t *testing.T, s *suite) {
	c := s.open(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite, connectors.Conn)
	}{
		{"the same page twice applies once", inboxTwice},
		{"two executors at once apply once", inboxConcurrent},
		{"another step applies it again", inboxOtherStep},
		{"without an inbox it applies twice", inboxOff},
		{"a failed import leaves no row", inboxRolledBack},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, c) })
	}
}

// mixed is a page with good and bad records for a table (id, v NOT NULL).
func mixed(t *testing.T) *page.Page {
	return pageOf(t, rowsOf(page.String("a"), page.Null(), page.String("c"))...)
}

func inboxTwice(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v text NOT NULL")
	spec, p := connectors.ImportSpec{Table: target}, mixed(t)
	first := s.mustLoad(t, c, spec, p)
	if first.Already || !first.Inbox || first.Applied != 2 {
		t.Fatalf("first answer %+v", first)
	}
	second := s.mustLoad(t, s.open(t), spec, p) // the answer was lost
	if !second.Already {
		t.Error("the second answer does not say that the page was applied before")
	}
	second.Already = false
	if diff := cmp.Diff(first, second, cmpopts.IgnoreUnexported(fault.Error{})); diff != "" {
		t.Errorf("the answers differ (-first +second):\n%s", diff)
	}
	if got := s.count(t, target); got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
}

func inboxConcurrent(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v text NOT NULL")
	spec, p := connectors.ImportSpec{Table: target}, mixed(t)
	const executors = 4
	var wg sync.WaitGroup
	answers := make([]connectors.Answer, executors)
	errs := make([]error, executors)
	for i := range executors {
		wg.Go(func() { answers[i], errs[i] = s.load(t.Context(), c, spec, p) })
	}
	wg.Wait()
	fresh := 0
	for i, a := range answers {
		if errs[i] != nil {
			t.Fatalf("executor %d: %v", i, errs[i])
		}
		if !a.Already {
			fresh++
		}
		checkFailed(t, a, map[int]string{1: "E_MISSING"})
	}
	if got := s.count(t, target); fresh != 1 || got != "2" {
		t.Errorf("%d executors applied it, %s rows", fresh, got)
	}
}

func inboxOtherStep(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v text NOT NULL")
	spec, p := connectors.ImportSpec{Table: target}, mixed(t)
	s.mustLoad(t, c, spec, p)
	derived := *p
	derived.Header.Path = "/shape.2"
	if a := s.mustLoad(t, c, spec, &derived); a.Already || s.count(t, target) != "4" {
		t.Errorf("a page made of the page was taken for it: %+v", a)
	}
}

func inboxOff(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v text NOT NULL")
	spec, p := connectors.ImportSpec{Table: target, Inbox: "false"}, mixed(t)
	for range 2 {
		if a := s.mustLoad(t, c, spec, p); a.Already || a.Inbox {
			t.Errorf("answer %+v", a)
		}
	}
	if got := s.count(t, target); got != "4" {
		t.Errorf("%s rows, want 4", got)
	}
}

func inboxRolledBack(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint")
	spec, p := connectors.ImportSpec{Table: target}, mixed(t)
	if _, err := s.load(t.Context(), c, spec, p); err == nil {
		t.Fatal("a record with an unknown field was imported")
	}
	s.Exec(t, "ALTER TABLE "+target+" ADD COLUMN v text")
	if a := s.mustLoad(t, c, spec, p); a.Already || a.Applied != 3 {
		t.Errorf("answer %+v", a)
	}
}
