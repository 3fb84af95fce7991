package uplink_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ropeway/agent/internal/uplink"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/tunnel"
)

// offers lets a test say when there is a better session.
type offers struct {
	asked chan tunnel.Info
	dial  chan func(ctx context.Context) (tunnel.Session, error)
}

func newOffers() *offers {
	return &offers{asked: make(chan tunnel.Info, 10), dial: make(chan func(context.Context) (tunnel.Session, error), 10)}
}

func (o *offers) better(ctx context.Context, now tunnel.Info) (tunnel.Session, error) {
	o.asked <- now
	select {
	case dial := <-o.dial:
		return dial(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestMove_OldCallsEndWhereTheyBegan(t *testing.T) {
	release := make(chan struct{})
	o := newOffers()
	u, hubs := rig(t, uplink.Config{
		Better: o.better,
		Run: func(_ context.Context, c uplink.Call) *control.StepDone {
			if c.Step.GetName() == "long" {
				<-release
			}
			return &control.StepDone{Answer: []byte(c.Step.GetName())}
		},
	})
	h := <-hubs
	h.welcome(t)
	if now := <-o.asked; now.Transport != "tcp" {
		t.Errorf("asked for something better than %+v", now)
	}
	h.step(t, 1, "long")
	eventually(t, "running", func() bool { return u.State().Running == 1 })
	o.dial <- h.dialAgain
	second := <-hubs
	h.step(t, 2, "crossed") // the hub does not know yet
	if d := h.done(t); string(d.GetAnswer()) != "crossed" {
		t.Errorf("a step sent before the welcome: %v", d)
	}
	second.welcome(t)
	<-o.asked // it goes on looking, from the new session
	second.step(t, 1, "new")
	if d := second.done(t); string(d.GetAnswer()) != "new" {
		t.Errorf("answer %v", d)
	}
	m, err := h.work.Recv() // the agent takes leave of the old session
	if err != nil || m.GetDraining() == nil {
		t.Fatalf("got %v, %v, want draining", m, err)
	}
	close(release)
	if d := h.done(t); string(d.GetAnswer()) != "long" {
		t.Errorf("answer %v", d)
	}
	<-h.session.Done()
	if s := u.State(); !s.Connected || second.session.Err() != nil {
		t.Errorf("state %+v, second session %v", s, second.session.Err())
	}
}

func TestMove_RefusedSessionChangesNothing(t *testing.T) {
	o := newOffers()
	u, hubs := rig(t, uplink.Config{Better: o.better})
	h := <-hubs
	h.welcome(t)
	<-o.asked
	o.dial <- h.dialAgain
	second := <-hubs
	second.begin(t)
	second.send(t, &control.ToAgent{Message: &control.ToAgent_Refusal{
		Refusal: &control.Refusal{Fault: control.FromError(fault.Of("E_DRAINING"))}}})
	<-o.asked // the choice is asked again: it knows that the last one was not taken
	if s := u.State(); !s.Connected || s.LastError != nil || h.session.Err() != nil {
		t.Errorf("state %+v, first session %v", s, h.session.Err())
	}
}

func TestMove_OldSessionDiesMeanwhile(t *testing.T) {
	o := newOffers()
	u, hubs := rig(t, uplink.Config{Better: o.better})
	h := <-hubs
	h.welcome(t)
	<-o.asked
	o.dial <- h.dialAgain
	second := <-hubs
	if _, err := second.client.Hello(t.Context(), &control.HubHello{PageFormats: []uint32{1}, ControlFormats: []uint32{1}}); err != nil {
		t.Fatal(err) // it is served: the move has begun
	}
	h.session.Close()
	eventually(t, "down", func() bool { return !u.State().Connected })
	second.welcome(t)
	eventually(t, "connected", func() bool { return u.State().Connected })
	select {
	case <-hubs:
		t.Error("a third session was made although the second works")
	case <-time.After(200 * time.Millisecond):
	}
}

func TestMove_LateOfferIsClosed(t *testing.T) {
	o := newOffers()
	late := make(chan tunnel.Session, 1)
	_, hubs := rig(t, uplink.Config{Better: o.better})
	h := <-hubs
	h.welcome(t)
	<-o.asked
	dial := h.dialAgain
	o.dial <- func(ctx context.Context) (tunnel.Session, error) {
		<-ctx.Done() // the session that was to be bettered has ended
		s, err := dial(context.WithoutCancel(ctx))
		late <- s
		return s, err
	}
	h.session.Close()
	s := <-late
	select {
	case <-s.Done():
	case <-time.After(5 * time.Second):
		t.Error("a session that nobody waits for stays open")
	}
	if !errors.Is(s.Err(), tunnel.ErrClosed) {
		t.Errorf("it ended with %v", s.Err())
	}
}
