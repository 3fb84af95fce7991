package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// session is one that only knows how it was made and whether it was closed.
type session struct {
	tunnel.Session
	transport string
	closed    bool
}

func (s *session) Close() error { s.closed = true; return nil }

func over(transport string) Dial {
	return func(context.Context) (tunnel.Session, error) { return &session{transport: transport}, nil }
}

func broken(err error) Dial {
	return func(context.Context) (tunnel.Session, error) { return nil, err }
}

func TestDial_FollowsTheSetting(t *testing.T) {
	for setting, want := range map[string]string{Auto: TCP, TCP: TCP, QUIC: QUIC} {
		s, err := New(Config{Setting: setting, TCP: over(TCP), QUIC: over(QUIC)}).Dial(t.Context())
		if err != nil || s.(*session).transport != want {
			t.Errorf("%s: %v, %v", setting, s, err)
		}
	}
}

func TestDial_ForcedQUICSaysWhatIsInTheWay(t *testing.T) {
	dial := func(err error) error {
		_, err = New(Config{Setting: QUIC, TCP: over(TCP), QUIC: broken(err)}).Dial(t.Context())
		return err
	}
	f := fault.From(dial(errors.New("no answer within 5s; UDP may be blocked")))
	if f.Code != "E_UNREACHABLE" || f.Class != fault.Connection || f.Fix == "" || f.Cause == "" {
		t.Errorf("blocked: %+v", f)
	}
	refusal := &net.OpError{Op: "remote error", Err: tls.AlertError(42)}
	if err := dial(fmt.Errorf("dial: %w", refusal)); !errors.Is(err, refusal) || errors.As(err, &f) {
		t.Errorf("refused: %v", err)
	}
	if err := dial(fault.Of("E_REVOKED")); fault.CodeOf(err) != "E_REVOKED" {
		t.Errorf("fault: %v", err)
	}
}

func TestBetter_OnlyForTCPUnderAuto(t *testing.T) {
	for _, c := range []struct{ setting, now string }{{TCP, TCP}, {QUIC, QUIC}, {Auto, QUIC}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			choice := New(Config{Setting: c.setting, TCP: over(TCP), QUIC: over(QUIC)})
			if s, err := choice.Better(ctx, tunnel.Info{Transport: c.now}); s != nil || err == nil {
				t.Errorf("%+v: %v, %v", c, s, err)
			}
		})
	}
}

func TestBetter_QUICAfterAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		choice := New(Config{Setting: Auto, TCP: over(TCP), QUIC: over(QUIC)})
		s, err := choice.Better(t.Context(), tunnel.Info{Transport: TCP, Local: "192.0.2.7:40000"})
		if err != nil || s.(*session).transport != QUIC {
			t.Fatalf("%v, %v", s, err)
		}
		if took := time.Since(start); took < settle || took > 3*settle {
			t.Errorf("it took %s", took)
		}
	})
}

// Promise T7: QUIC is probed again, and the longer it has failed the less often.
func TestT7_BlockedQUICIsProbedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		choice := New(Config{Setting: Auto, TCP: over(TCP), QUIC: func(context.Context) (tunnel.Session, error) {
			time.Sleep(5 * time.Second) // of the bubble: a probe into a black hole
			at = append(at, time.Now())
			return nil, errors.New("no answer")
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if _, err := choice.Better(ctx, tunnel.Info{Transport: TCP, Local: "192.0.2.7:40000"}); err == nil {
			t.Fatal("a session came out of nothing")
		}
		if len(at) < 24 || len(at) > 32 {
			t.Errorf("%d probes in a day", len(at))
		}
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1]) - 5*time.Second
			least := min(retryMost, retryFirst<<min(i-1, 10))
			if gap < least || gap > least*6/5 {
				t.Errorf("probe %d came after %s, want %s at least", i, gap, least)
			}
		}
	})
}

func TestBetter_RemembersTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		works := false
		choice := New(Config{Setting: Auto, TCP: over(TCP), QUIC: func(ctx context.Context) (tunnel.Session, error) {
			if works {
				return over(QUIC)(ctx)
			}
			return nil, errors.New("no answer")
		}})
		here := tunnel.Info{Transport: TCP, Local: "192.0.2.7:40000"}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := choice.Better(ctx, here); err == nil {
			t.Fatal("a session came out of nothing")
		}
		works = true
		start := time.Now()
		here.Local = "192.0.2.7:40001" // another session from the same place
		if _, err := choice.Better(t.Context(), here); err != nil || time.Since(start) < 45*time.Second {
			t.Errorf("the same network was probed after %s, %v", time.Since(start), err)
		}
		start = time.Now()
		elsewhere := tunnel.Info{Transport: TCP, Local: "[2001:db8::1]:40000"}
		if _, err := choice.Better(t.Context(), elsewhere); err != nil || time.Since(start) > 3*settle {
			t.Errorf("another network was probed after %s, %v", time.Since(start), err)
		}
	})
}

func TestBetter_NeverFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		choice := New(Config{Setting: Auto, TCP: over(TCP), QUIC: over(QUIC)})
		here := tunnel.Info{Transport: TCP, Local: "192.0.2.7:40000"}
		moves, start := 0, time.Now()
		for time.Since(start) < 24*time.Hour {
			if _, err := choice.Better(t.Context(), here); err != nil {
				t.Fatal(err)
			}
			moves++
			time.Sleep(30 * time.Second) // of the bubble: then UDP dies
		}
		if moves > 32 {
			t.Errorf("%d moves in a day", moves)
		}
		time.Sleep(steady)
		start = time.Now()
		if _, err := choice.Better(t.Context(), here); err != nil || time.Since(start) > 2*retryFirst {
			t.Errorf("after a session that lived long the next probe came after %s, %v", time.Since(start), err)
		}
	})
}

func TestBetter_RemembersSoManyNetworks(t *testing.T) {
	choice := New(Config{Setting: Auto})
	for i := range 10 * maxNetworks {
		choice.failed(fmt.Sprint(i))
	}
	if n := len(choice.networks); n != maxNetworks {
		t.Errorf("%d networks are remembered", n)
	}
}

func TestBetter_LateSessionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &session{}
		ctx, cancel := context.WithCancel(t.Context())
		choice := New(Config{Setting: Auto, TCP: over(TCP), QUIC: func(context.Context) (tunnel.Session, error) {
			cancel()
			return late, nil
		}})
		if _, err := choice.Better(ctx, tunnel.Info{Transport: TCP}); err == nil || !late.closed {
			t.Errorf("%v, closed %v", err, late.closed)
		}
	})
}
