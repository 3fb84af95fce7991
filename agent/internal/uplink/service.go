package uplink

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
)

// service is the control service of one session.
type service struct {
	control.UnimplementedAgentServer
	link *link
}

// Hello implements control.AgentServer.
func (s *service) Hello(_ context.Context, h *control.HubHello) (*control.AgentHello, error) {
	answer := proto.Clone(s.link.u.hello).(*control.AgentHello)
	if f := control.Speaks("hub", h.GetControlFormats(), h.GetPageFormats()); f != nil {
		answer.Fault = control.FromError(f)
		time.AfterFunc(time.Second, func() { s.link.end(f) }) // after the answer has left
	}
	return answer, nil
}

// Health implements control.AgentServer.
func (s *service) Health(context.Context, *control.HealthRequest) (*control.HealthReport, error) {
	u := s.link.u
	report := &control.HealthReport{Ready: true}
	if u.cfg.Health != nil {
		report = u.cfg.Health()
	}
	report.Running = uint32(s.link.running())
	return report, nil
}

// Work implements control.AgentServer. It returns when everything was sent after
// a drain, or when the session has ended.
func (s *service) Work(stream grpc.BidiStreamingServer[control.ToAgent, control.ToHub]) error {
	l := s.link
	l.mu.Lock()
	again := l.working
	l.working = true
	l.mu.Unlock()
	if again {
		return status.Error(codes.AlreadyExists, "work is called once a session")
	}
	l.work.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				l.workEnded()
				return
			}
			if !l.receive(m) {
				return
			}
		}
	})
	if err := l.out.Run(stream.Context(), stream.Send); err != nil {
		return status.Error(codes.Aborted, "session ended")
	}
	return nil
}

// workEnded ends the session, whose own end says why if there is one. A drain
// ends it by itself.
func (l *link) workEnded() {
	wait := time.NewTimer(time.Second)
	defer wait.Stop()
	select {
	case <-l.session.Done():
	case <-wait.C:
	}
	if !l.isDraining() {
		l.end(l.broken())
	}
}

// receive takes one message of the hub; false when it was the last.
func (l *link) receive(m *control.ToAgent) bool {
	w := m.GetWelcome()
	if r := m.GetRefusal(); r != nil {
		l.end(refusal(r))
		return false
	}
	if w == nil && l.welcomed().IsZero() {
		l.end(fault.New(fault.Internal, "E_HELLO", "the hub gave work before its welcome"))
		return false
	}
	switch m := m.GetMessage().(type) {
	case *control.ToAgent_Welcome:
		l.mu.Lock()
		first := l.welcomedAt.IsZero()
		l.welcomedAt = time.Now()
		l.mu.Unlock()
		l.u.up(l, w)
		if first {
			close(l.taken)
		}
	case *control.ToAgent_RunStep:
		l.start(m.RunStep)
	case *control.ToAgent_Cancel:
		l.cancelCall(m.Cancel)
	case *control.ToAgent_Resumed:
		if c := l.call(m.Resumed.GetId()); c != nil {
			c.answer(m.Resumed)
		}
	case *control.ToAgent_Settled:
		if l.u.cfg.Settled != nil {
			l.u.cfg.Settled(m.Settled)
		}
	case *control.ToAgent_Drain:
		l.log.Info("hub drains")
		l.mu.Lock()
		l.yieldLocked()
		l.mu.Unlock()
	case *control.ToAgent_Ping:
		l.out.Put(&control.ToHub{Message: &control.ToHub_Pong{Pong: &control.Pong{SentUs: m.Ping.GetSentUs()}}})
	}
	return true
}

// refusal is why the hub does not want this session.
func refusal(r *control.Refusal) *fault.Error {
	if f := control.ToError(r.GetFault()); f != nil {
		return f
	}
	return fault.New(fault.Connection, "E_UNREACHABLE", "the hub refuses the session").WithSource("hub")
}

// reportBuffer tells the hub about the buffer when it has changed.
func (l *link) reportBuffer() {
	if l.u.cfg.Buffer == nil {
		return
	}
	tick := time.NewTicker(l.u.cfg.BufferEvery)
	defer tick.Stop()
	var last *control.BufferState
	for {
		if !l.welcomed().IsZero() {
			if now := l.u.cfg.Buffer(); now != nil && !proto.Equal(now, last) {
				last = proto.Clone(now).(*control.BufferState)
				l.out.Put(&control.ToHub{Message: &control.ToHub_BufferState{BufferState: now}})
			}
		}
		select {
		case <-tick.C:
		case <-l.gone:
			return
		}
	}
}
