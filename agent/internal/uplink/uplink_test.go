package uplink

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// tries runs an uplink whose dial fails with err for a while and returns when
// it tried, from the start.
func tries(t *testing.T, during time.Duration, err error) (at []time.Duration, last State) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		u := New(Config{Hub: "hub:8443", Dial: func(context.Context) (tunnel.Session, error) {
			at = append(at, time.Since(start))
			return nil, err
		}})
		ctx, cancel := context.WithTimeout(t.Context(), during)
		defer cancel()
		if err := u.Run(ctx); err != nil {
			t.Errorf("run ended with %v", err)
		}
		last = u.State()
	})
	return at, last
}

func TestT1_NeverGivesUp(t *testing.T) {
	at, last := tries(t, time.Hour, errors.New("connection refused"))
	if at[0] != 0 {
		t.Errorf("the first try came after %s", at[0])
	}
	for i := 1; i < len(at); i++ {
		if gap := at[i] - at[i-1]; gap > 4*time.Second {
			t.Errorf("try %d came %s after the one before", i, gap)
		}
	}
	if n := len(at); n < 1500 || n > 2500 { // 2 s on average
		t.Errorf("%d tries in an hour", n)
	}
	if last.LastError == nil || last.LastError.Code != "E_UNREACHABLE" || last.Connected || last.Hub != "hub:8443" {
		t.Errorf("state %+v", last)
	}
}

func TestT2_HubMayAskToWait(t *testing.T) {
	at, _ := tries(t, time.Hour, fault.Of("E_DRAINING").WithRetryAfter(5*time.Second))
	for i := 1; i < len(at); i++ {
		if gap := at[i] - at[i-1]; gap < 5*time.Second || gap > 15*time.Second {
			t.Errorf("try %d came %s after the one before", i, gap)
		}
	}
	at, _ = tries(t, time.Hour, fault.Of("E_DRAINING").WithRetryAfter(24*time.Hour))
	if gap := at[1] - at[0]; gap < 11*time.Second || gap > 15*time.Second {
		t.Errorf("a hub may ask for 15 s at most, it was %s", gap)
	}
}

func TestRefusedAgentTriesSlowly(t *testing.T) {
	at, last := tries(t, time.Hour, fault.Of("E_REVOKED"))
	if n := len(at); n < 240 || n > 320 {
		t.Errorf("%d tries in an hour", n)
	}
	if last.LastError.Code != "E_REVOKED" {
		t.Errorf("state %+v", last)
	}
}

func TestBackoff_ResetsAfterAHealthyMinute(t *testing.T) {
	var b backoff
	for range 10 {
		b.next()
	}
	b.lived(time.Now().Add(-59*time.Second), ErrCut)
	if b.tries != 10 {
		t.Error("a session of 59 s reset the wait")
	}
	b.lived(time.Now().Add(-61*time.Second), ErrCut)
	if d := b.next(); d != 0 {
		t.Errorf("after a healthy session the first try waits %s", d)
	}
}

func TestDrain_EndsRunBeforeAnySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{Dial: func(context.Context) (tunnel.Session, error) { return nil, errors.New("no") }})
		done := make(chan error)
		go func() { done <- u.Run(t.Context()) }()
		synctest.Wait()
		u.Drain(t.Context())
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// reset is a stream that only knows whether it was reset.
type reset struct {
	tunnel.Stream
	done atomic.Bool
}

func (r *reset) Reset() error { r.done.Store(true); return nil }
func (r *reset) Close() error { return nil }

func TestBodies_EitherMayComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bodies{waiting: map[uint64]*body{}}
		early, late, twice := &reset{}, &reset{}, &reset{}
		b.arrived(1, early)
		if e := b.expect(1); e.stream != early {
			t.Error("the early body was lost")
		}
		e := b.expect(2)
		b.arrived(2, late)
		<-e.here
		if e.stream != late {
			t.Error("the late body was lost")
		}
		if b.arrived(2, twice); !twice.done.Load() || e.stream != late {
			t.Error("a second body of one step was taken")
		}
		b.forget(2)
		after := &reset{}
		if b.arrived(2, after); !after.done.Load() {
			t.Error("a body of a step that is done was taken")
		}
		var flood []*reset
		for id := range uint64(maxOrphans + 10) {
			st := &reset{}
			flood = append(flood, st)
			b.arrived(100+id, st)
		}
		for i, st := range flood {
			if st.done.Load() != (i >= maxOrphans) {
				t.Errorf("body %d without a step: reset %v", i, st.done.Load())
			}
		}
		time.Sleep(orphanLimit + time.Second) // of the bubble
		synctest.Wait()
		for i, st := range flood {
			if !st.done.Load() {
				t.Errorf("body %d still waits for its step", i)
			}
		}
		if len(b.waiting) != 1 || b.orphans != 0 || early.done.Load() {
			t.Errorf("%d bodies wait, %d without a step", len(b.waiting), b.orphans)
		}
		b.close()
		if after := (&reset{}); true {
			if b.arrived(9, after); !after.done.Load() {
				t.Error("a body was taken after the end")
			}
		}
	})
}
