package queue

import (
	"context"
	"fmt"
	"time"
)

// drainSlack is how long after AckWait Reshape still waits for messages in
// flight: under pause an expired one stays pending for ever (DELIVERY §5.6).
const drainSlack = 5 * time.Second

// Reshape changes who borrows from whom: it pauses the lanes as they were, waits
// until nothing of them is in flight (at most AckWait + 5 s), deletes their
// consumers and makes those of next, whose claims outrank all older ones. Loops
// of both return ErrChanging. The caller has marked the lanes as changing in the
// store before and calls Reshape again after a crash.
func (q *Queue) Reshape(ctx context.Context, old, next []Lane) error {
	q.engine.lanes.reshape.Lock()
	defer q.engine.lanes.reshape.Unlock()
	for _, l := range append(append([]Lane{}, old...), next...) {
		if err := l.validate(); err != nil {
			return err
		}
		defer q.hold(l)()
	}
	for _, l := range old {
		if err := q.changePause(ctx, l, true); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(q.timing.ackWait + drainSlack)
	for _, l := range old {
		if err := q.waitIdle(ctx, l, deadline); err != nil {
			return err
		}
	}
	for _, l := range old {
		if err := q.remove(ctx, l); err != nil {
			return err
		}
	}
	for _, l := range next {
		if _, err := q.ensure(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// clear reshapes what stands in the way of serving l with its borrowers, if
// anything does.
func (q *Queue) clear(ctx context.Context, l Lane) error {
	old := q.engine.lanes.inTheWay(l)
	if len(old) == 0 {
		return nil
	}
	q.log.Info("lane changes its borrowers", "connection", l.Connection)
	return q.Reshape(ctx, old, []Lane{l})
}

// hold keeps new loops off the lane and ends the fetching of those that run,
// until the returned function is called.
func (q *Queue) hold(l Lane) (release func()) {
	s := q.engine.lanes.of(l)
	s.mu.Lock()
	s.changing = true
	for p := range s.loops {
		p.stop(ErrChanging)
	}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changing = false
	}
}

// waitIdle waits until the lane has nothing in flight, or deadline. The engine is
// embedded, so that every loop of a lane is known here: when all have ended, what
// it still counts as in flight was given back, and stays so only because a paused
// consumer hands nothing out.
func (q *Queue) waitIdle(ctx context.Context, l Lane, deadline time.Time) error {
	for time.Now().Before(deadline) {
		info, err := q.info(ctx, l)
		if absent(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read consumer of connection %s: %w", l.Connection, err)
		}
		if info.NumAckPending == 0 || !q.engine.lanes.of(l).served() {
			return nil
		}
		if !sleep(ctx, retryWait) {
			return context.Cause(ctx)
		}
	}
	return nil
}
