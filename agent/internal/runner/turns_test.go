package runner_test

import (
	"testing"
	"time"

	"ropeway/agent/internal/runner"
	"ropeway/agent/internal/uplink"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// takeTurns lets two agents of one group serve one export while the table changes
// and the hub dies between publish and record: A reads and is cut, B takes over and
// is cut, A gets it back. It returns what was lost and doubled of the rows that were
// there all the time.
func takeTurns(t *testing.T, options ...runner.Option) (lost, doubled int, refused string) {
	t.Helper()
	const rows, gone = 200, 30
	y, h := &system{records: rows, deleted: map[int]bool{}}, newHub()
	a, b := newSite(t, t.TempDir(), allowAll, y, 0, options...), newSite(t, t.TempDir(), allowAll, y, 0, options...)
	cutAt := func(s *site, claim, seq uint64) {
		reached := make(chan struct{})
		c := h.start(s, h.readStep(0, claim, keyed), func(p *page.Page) (control.Ack, bool) {
			if p.Header.Seq < seq {
				return h.accept(p), true
			}
			h.dies(t, p)
			close(reached)
			return control.Ack{}, false
		})
		<-reached
		c.cut(uplink.ErrCancelled)
		_ = c.hub.Close()
		wait(t, c)
		eventually(t, "the execution ends", func() bool { return s.Running() == 0 })
	}
	cutAt(a, 1, 3)
	y.mu.Lock()
	y.deleted[gone] = true // page 3 begins with another row now
	y.mu.Unlock()
	cutAt(b, 2, 3)
	for n, claim := uint64(0), uint64(3); ; n, claim = n+1, claim+1 {
		done := h.read(t, a, n, claim, keyed)
		if code(done) != "" {
			return 0, 0, code(done)
		}
		if done.GetEnd().GetExhausted() {
			break
		}
	}
	delivered := h.delivered()
	for n := range int64(rows) {
		switch times := delivered[n]; {
		case n == gone:
		case times == 0:
			lost++
		case times > 1:
			doubled++
		}
	}
	return lost, doubled, ""
}

func TestDelivery_2_1_TwoAgentsTakeTurnsWhileTheTableChanges(t *testing.T) {
	if lost, doubled, refused := takeTurns(t); lost != 0 || doubled != 0 || refused != "" {
		t.Errorf("lost %d, doubled %d, %s", lost, doubled, refused)
	}
}

// TestMutation_2_1_AnEpochPerProcess: without an epoch per execution the test above
// must fail, or it proves nothing.
func TestMutation_2_1_AnEpochPerProcess(t *testing.T) {
	lost, doubled, refused := takeTurns(t, runner.MutationProcessEpoch())
	if lost == 0 && doubled == 0 && refused == "" {
		t.Fatal("nothing was lost or doubled with an epoch per process")
	}
	t.Logf("lost %d, doubled %d, %s", lost, doubled, refused)
}

// TestDelivery_1_4_ALostLeaseDoesNotEndAnUnkeyedRead: the hub gives up a call, says
// so in the middle of a page and cancels the step. The next call joins it.
func TestDelivery_1_4_ALostLeaseDoesNotEndAnUnkeyedRead(t *testing.T) {
	y, h := &system{records: 300}, newHub()
	h.strict = true
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	reached := make(chan struct{})
	first := h.start(s, h.readStep(0, 1, unkeyed), func(p *page.Page) (control.Ack, bool) {
		if p.Header.Seq < 3 {
			return h.accept(p), true
		}
		if p.Header.Seq == 3 {
			close(reached)
			return control.Ack{Seq: 3, Status: control.Refused, Fault: fault.Of("E_TUNNEL_CUT")}, true
		}
		return control.Ack{}, false
	})
	<-reached
	first.cut(uplink.ErrCancelled)
	_ = first.hub.Close()
	wait(t, first)
	<-time.After(50 * time.Millisecond)
	if s.Running() != 1 {
		t.Fatal("the execution was cancelled; it cannot be repeated")
	}
	if done := h.read(t, s, 0, 2, unkeyed); code(done) != "" || !done.GetJoined() {
		t.Fatal(done)
	}
	h.whole(t, 300)
}

// TestDelivery_1_4_DeadPagesLeaveTheBuffer: what a dead process left of an unkeyed
// read is given up, whether the hub refuses to resume it or never asks again.
func TestDelivery_1_4_DeadPagesLeaveTheBuffer(t *testing.T) {
	for _, asked := range []bool{true, false} {
		y, h, dir := &system{records: 400}, newHub(), t.TempDir()
		h.strict = true
		s := newSite(t, dir, allowAll, y, 0)
		reached := make(chan struct{})
		first := h.start(s, h.readStep(0, 1, unkeyed), func(p *page.Page) (control.Ack, bool) {
			if p.Header.Seq == 5 {
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
		if asked {
			if done := h.read(t, s, 0, 2, unkeyed); code(done) != "E_NOT_RESUMABLE" {
				t.Fatal(done)
			}
		} else {
			wait(t, h.start(s, h.step(control.KindPing, "ping", 1, nil), nil))
		}
		st, err := s.buffer.Stats(t.Context())
		must(t, err)
		names, err := s.buffer.Executions(t.Context())
		if st.Unacked != 0 || len(names) != 0 || err != nil {
			t.Fatalf("asked %v: %+v and executions %v are left, %v", asked, st, names, err)
		}
	}
}

// TestAConnectorThatPanics ends its step, not the agent.
func TestAConnectorThatPanics(t *testing.T) {
	y, h := &system{records: 10, panics: true}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	if done := h.read(t, s, 0, 1, keyed); code(done) != "E_INTERNAL" {
		t.Fatal(done)
	}
	y.mu.Lock()
	y.panics = false
	y.mu.Unlock()
	if done := h.read(t, s, 0, 2, keyed); code(done) != "" {
		t.Fatal(done)
	}
	h.whole(t, 10)
}
