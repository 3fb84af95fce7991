package runner_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ropeway/agent/internal/uplink"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// TestDelivery_2_1_TwoAgentsTakeTurns lets two agents of one group serve one
// export in turn, request by request.
func TestDelivery_2_1_TwoAgentsTakeTurns(t *testing.T) {
	y, h := &system{records: 1000}, newHub()
	agents := []*site{newSite(t, t.TempDir(), allowAll, y, 0), newSite(t, t.TempDir(), allowAll, y, 0)}
	for n := uint64(0); ; n++ {
		done := h.read(t, agents[n%2], n, n+1, keyed)
		if code(done) != "" {
			t.Fatal(done.GetFault())
		}
		if done.GetEnd().GetExhausted() {
			break
		}
		if n > 20 {
			t.Fatal("the read does not end")
		}
	}
	h.whole(t, 1000)
}

// TestDelivery_2_1_AStaleAgentIsSuperseded freezes an agent in the middle of a
// read; another takes the request over and the first loses nothing but its tail.
func TestDelivery_2_1_AStaleAgentIsSuperseded(t *testing.T) {
	y, h := &system{records: 130}, newHub()
	a, b := newSite(t, t.TempDir(), allowAll, y, 0), newSite(t, t.TempDir(), allowAll, y, 0)
	frozen, thaw := make(chan struct{}), make(chan struct{})
	stale := h.start(a, h.readStep(0, 1, keyed), func(p *page.Page) (control.Ack, bool) {
		if p.Header.Seq == 5 {
			close(frozen)
			<-thaw
		}
		return h.accept(p), true
	})
	<-frozen
	if done := h.read(t, b, 0, 2, keyed); code(done) != "" {
		t.Fatal(done.GetFault())
	}
	close(thaw)
	if done := wait(t, stale); code(done) != "E_SUPERSEDED" {
		t.Fatalf("the stale agent ended with %v", done)
	}
	h.whole(t, 130)
}

// TestDelivery_2_4_AReadMeetsItsEndExactly reads sources whose size is at the
// edges of pages and requests.
func TestDelivery_2_4_AReadMeetsItsEndExactly(t *testing.T) {
	for _, records := range []int{0, 1, 9, 10, 11, 159, 160, 161, 320} {
		y, h := &system{records: records}, newHub()
		s := newSite(t, t.TempDir(), allowAll, y, 0)
		for n := uint64(0); ; n++ {
			done := h.read(t, s, n, n+1, keyed)
			if code(done) != "" {
				t.Fatalf("%d records: %v", records, done.GetFault())
			}
			if done.GetEnd().GetExhausted() {
				break
			}
		}
		h.whole(t, records)
		s.stop()
	}
}

// TestDelivery_2_1_JoinAfterACut cuts the session while pages wait for their
// acks; the second call gets them again under the same epoch.
func TestDelivery_2_1_JoinAfterACut(t *testing.T) {
	y, h := &system{records: 155}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	seen := make(chan page.Epoch, 1)
	first := h.start(s, h.readStep(0, 1, keyed), func(p *page.Page) (control.Ack, bool) {
		if p.Header.Seq < 3 {
			return h.accept(p), true
		}
		h.accept(p) // taken, but the ack is lost
		seen <- p.Header.Epoch
		return control.Ack{}, false
	})
	epoch := <-seen
	first.drop(t)
	if s.Running() != 1 {
		t.Fatal("the execution did not survive the cut")
	}
	step := h.readStep(0, 2, keyed)
	step.JoinOnly = true
	again := map[uint64]bool{}
	done := wait(t, h.start(s, step, func(p *page.Page) (control.Ack, bool) {
		if p.Header.Epoch != epoch {
			t.Error("the joined execution changed its epoch")
		}
		again[p.Header.Seq] = true
		return h.accept(p), true
	}))
	if code(done) != "" || !done.GetJoined() || !again[3] || again[2] {
		t.Fatalf("joined: %v, pages again: %v", done, again)
	}
	h.whole(t, 155)
	if done := h.read(t, s, 0, 3, keyed); !done.GetJoined() || done.GetEnd().GetRecords() != 155 {
		t.Fatalf("the recorded answer: %v", done)
	}
}

// TestANewerCallTakesOver joins while the first call still lives.
func TestANewerCallTakesOver(t *testing.T) {
	y, h := &system{records: 50}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	held, release := make(chan struct{}), make(chan struct{})
	first := h.start(s, h.readStep(0, 1, keyed), func(*page.Page) (control.Ack, bool) {
		close(held)
		<-release
		return control.Ack{}, false
	})
	<-held
	if done := h.read(t, s, 0, 2, keyed); code(done) != "" || !done.GetJoined() {
		t.Fatalf("the newer call: %v", done)
	}
	close(release)
	wait(t, first)
	h.whole(t, 50)
}

// TestAnAbandonedReadEndsAfterAMinute waits in the bubble's time. It makes no page
// there: the compressor's pool must not hold channels of a bubble.
func TestAnAbandonedReadEndsAfterAMinute(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		y, h := &system{hold: true}, newHub()
		s := newSite(t, dir, allowAll, y, 0)
		first := h.start(s, h.readStep(0, 1, keyed), nil)
		synctest.Wait()
		first.drop(t)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if s.Running() != 1 {
			t.Fatal("it ended within the minute")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s.Running() != 0 {
			t.Fatal("it goes on after the minute")
		}
		step := h.readStep(0, 2, keyed)
		step.JoinOnly = true
		if done := wait(t, h.start(s, step, h.all)); code(done) != "E_NOT_RESUMABLE" {
			t.Fatalf("joining what has ended: %v", done)
		}
		s.stop()
	})
}

func TestACancelledReadEnds(t *testing.T) {
	y, h := &system{records: 1000}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	held := make(chan struct{})
	c := h.start(s, h.readStep(0, 1, keyed), func(*page.Page) (control.Ack, bool) {
		close(held)
		return control.Ack{}, false
	})
	<-held
	c.cut(uplink.ErrCancelled)
	wait(t, c)
	eventually(t, "the cancelled execution ends", func() bool { return s.Running() == 0 })
}

func TestAConflictIsLoud(t *testing.T) {
	y, h := &system{records: 30}, newHub()
	h.conflict = true
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	if done := h.read(t, s, 0, 1, keyed); code(done) != "E_PAGE_CONFLICT" {
		t.Fatalf("got %v, want E_PAGE_CONFLICT", done)
	}
}

// TestDelivery_1_4_UnkeyedGoesThroughTheBuffer holds the acks back: the read
// must finish all the same, into the buffer.
func TestDelivery_1_4_UnkeyedGoesThroughTheBuffer(t *testing.T) {
	y, h := &system{records: 995}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	open := make(chan struct{})
	var inFlight atomic.Int64
	c := h.start(s, h.readStep(0, 1, unkeyed), func(p *page.Page) (control.Ack, bool) {
		inFlight.Add(1)
		<-open
		return h.accept(p), true
	})
	eventually(t, "all 100 pages are in the buffer", func() bool {
		st, err := s.buffer.Stats(t.Context())
		return err == nil && st.Pages == 100
	})
	if n := inFlight.Load(); n > control.Window {
		t.Fatalf("%d pages are under way without an ack", n)
	}
	close(open)
	if done := wait(t, c); code(done) != "" || !done.GetEnd().GetExhausted() {
		t.Fatal(done)
	}
	h.whole(t, 995)
	st, err := s.buffer.Stats(t.Context())
	must(t, err)
	if st.Unacked != 0 || st.Pages != 100 {
		t.Fatalf("after the acks: %+v", st)
	}
	must(t, s.buffer.Settled(t.Context(), h.chain, h.epoch, h.pages))
	if st, _ = s.buffer.Stats(t.Context()); st.Pages != 0 {
		t.Fatalf("after settling: %+v", st)
	}
}

func TestDelivery_1_4_UnkeyedSurvivesACut(t *testing.T) {
	y, h := &system{records: 500}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	seen := make(chan struct{})
	first := h.start(s, h.readStep(0, 1, unkeyed), func(p *page.Page) (control.Ack, bool) {
		if p.Header.Seq == 7 {
			close(seen)
			return control.Ack{}, false
		}
		return h.accept(p), true
	})
	<-seen
	first.drop(t)
	if done := h.read(t, s, 0, 2, unkeyed); code(done) != "" || !done.GetJoined() {
		t.Fatal(done)
	}
	h.whole(t, 500)
}

func TestDelivery_1_4_AFullBufferEndsItWithSpill(t *testing.T) {
	y, h := &system{records: 1_000_000}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 64<<10)
	held := make(chan struct{})
	c := h.start(s, h.readStep(0, 1, unkeyed), func(p *page.Page) (control.Ack, bool) {
		<-held
		return control.Ack{}, false
	})
	eventually(t, "the execution ends", func() bool { return s.Running() == 0 })
	close(held)
	if done := wait(t, c); code(done) != "E_SPILL" {
		t.Fatalf("got %v, want E_SPILL", done)
	}
	if st, err := s.buffer.Stats(t.Context()); err != nil || st.Pages != 0 {
		t.Fatalf("pages of the failed job are kept: %+v, %v", st, err)
	}
}

// TestDelivery_1_4_NotResumableAfterProcessDeath ends the agent's process in the
// middle: with accepted pages the job cannot go on, without any it starts anew.
func TestDelivery_1_4_NotResumableAfterProcessDeath(t *testing.T) {
	for name, c := range map[string]struct {
		acked uint64
		want  string
	}{
		"pages were accepted": {5, "E_NOT_RESUMABLE"},
		"none was accepted":   {0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			y, h, dir := &system{records: 400}, newHub(), t.TempDir()
			s := newSite(t, dir, allowAll, y, 0)
			reached := make(chan struct{})
			first := h.start(s, h.readStep(0, 1, unkeyed), func(p *page.Page) (control.Ack, bool) {
				if p.Header.Seq == c.acked {
					close(reached)
					return control.Ack{}, false
				}
				return h.accept(p), true
			})
			<-reached
			eventually(t, "the read is in the buffer", func() bool {
				st, err := s.buffer.Stats(t.Context())
				return err == nil && st.Pages == 40
			})
			must(t, s.buffer.Close()) // as a killed process leaves it
			first.drop(t)
			s.stop()

			s = newSite(t, dir, allowAll, y, 0)
			done := h.read(t, s, 0, 2, unkeyed)
			if code(done) != c.want {
				t.Fatalf("got %v, want %q", done, c.want)
			}
			if c.want == "" {
				h.whole(t, 400)
			}
			if _, left, err := s.buffer.Execution(t.Context(), page.ReadName(h.chain, 0)); left || err != nil {
				t.Fatalf("the execution is still recorded: %v", err)
			}
			st, err := s.buffer.Stats(t.Context())
			must(t, err)
			if st.Unacked != 0 {
				t.Fatalf("pages of the dead process are kept: %+v", st)
			}
		})
	}
}

func TestAFailingReadTellsItsFault(t *testing.T) {
	for _, q := range []bool{true, false} {
		y, h := &system{records: 25, fail: fault.Of("E_TABLE_MISSING")}, newHub()
		s := newSite(t, t.TempDir(), allowAll, y, 0)
		query := unkeyed
		if q {
			query = keyed
		}
		if done := h.read(t, s, 0, 1, query); code(done) != "E_TABLE_MISSING" {
			t.Fatal(done)
		}
	}
}
