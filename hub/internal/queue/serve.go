package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errIdle ends a loop that had nothing to do for long.
var errIdle = errors.New("idle")

// Handler works on one message and gives it a verdict: Ack, Nak or Later. A
// message without a verdict is handed out again after AckWait. Its context ends
// with the lease (cause ErrLease) or with the context of Serve.
type Handler func(ctx context.Context, d *Delivery)

// loop serves one lane for one replica.
type loop struct {
	q     *Queue
	lane  Lane
	state *laneState
	slots *slots
	do    Handler

	generation int64
	firstNew   uint64 // messages with a lower sequence may have been seen by an older consumer

	stop     context.CancelCauseFunc // ends fetching only
	handlers sync.WaitGroup
}

// Serve hands the lane's messages to do, at most the lane's level at a time
// over all replicas. It returns nil when nothing came for 60 s, when ctx ends or
// Drain was called, and ErrChanging when the lane must be served anew with other
// borrowers. Where the borrowers are not those of the last time, it begins with
// Reshape. It waits for all handlers it has started.
func (q *Queue) Serve(ctx context.Context, lane Lane, do Handler) error {
	return q.ServeWhile(ctx, ctx, lane, do)
}

// ServeWhile is Serve that fetches only until wanted ends; its handlers go on and
// it returns nil once they are done. Another Serve of the lane may begin meanwhile.
func (q *Queue) ServeWhile(ctx, wanted context.Context, lane Lane, do Handler) error {
	if err := lane.validate(); err != nil {
		return err
	}
	l := &loop{
		q: q, lane: lane, do: do,
		state: q.engine.lanes.of(lane), slots: newSlots(lane.level()),
	}
	fetching, stop := context.WithCancelCause(ctx)
	l.stop = stop
	defer stop(nil)
	defer context.AfterFunc(wanted, func() { stop(context.Cause(wanted)) })()
	defer context.AfterFunc(q.closing, func() { stop(errStopped) })()
	if err := q.clear(fetching, lane); err != nil {
		return err
	}
	if err := l.state.join(l); err != nil {
		return err
	}
	defer l.state.leave(l)
	for _, c := range append(lane.Borrowers, lane.Connection) {
		q.known.add(lane.Place, c)
	}
	err := l.run(ctx, fetching)
	q.wakes.forget(lane)
	l.handlers.Wait()
	switch {
	case errors.Is(context.Cause(fetching), ErrChanging):
		return ErrChanging
	case fetching.Err() != nil, errors.Is(err, errIdle):
		return nil
	}
	return err
}

// Drain makes every Serve of this client fetch nothing more and return once its
// handlers are done.
func (q *Queue) Drain() { q.close() }

// run fetches until fetching ends; handlers live on ctx.
func (l *loop) run(ctx, fetching context.Context) error {
	wait := retryWait
	for fetching.Err() == nil {
		err := l.turn(ctx, fetching)
		switch {
		case err == nil:
			wait = retryWait
		case errors.Is(err, errReaped):
			l.generation = 0
		case errors.Is(err, ErrShape), errors.Is(err, errIdle):
			return err
		case fetching.Err() == nil:
			l.q.log.Warn("queue loop", "connection", l.lane.Connection, "error", err)
			sleep(fetching, wait)
			wait = min(2*wait, callTimeout)
		}
	}
	return nil
}

// turn is one round: make sure of the consumer, wait for a slot, fetch.
func (l *loop) turn(ctx, fetching context.Context) error {
	if l.generation == 0 {
		if err := l.prepare(fetching); err != nil {
			return err
		}
	}
	free, err := l.slots.wait(fetching)
	if err != nil {
		return err
	}
	if err := l.fetch(ctx, fetching, free); err != nil {
		return err
	}
	return l.checkIdle(fetching)
}

// prepare makes sure of the consumer and notes from which message on no older
// consumer can have delivered anything.
func (l *loop) prepare(ctx context.Context) error {
	generation, err := l.q.ensure(ctx, l.lane)
	if err != nil {
		return err
	}
	s, err := l.q.js.Stream(ctx, l.lane.stream())
	if err != nil {
		return fmt.Errorf("read stream of connection %s: %w", l.lane.Connection, err)
	}
	l.generation, l.firstNew = generation, s.CachedInfo().State.LastSeq+1
	return nil
}

func (l *loop) checkIdle(ctx context.Context) error {
	if l.slots.idleFor() < l.q.timing.idle {
		return nil
	}
	info, err := l.q.info(ctx, l.lane)
	switch {
	case absent(err):
		return errIdle
	case err != nil:
		return err
	case info.NumPending > 0 && !info.Paused && info.NumAckPending < info.Config.MaxAckPending:
		return nil
	}
	return errIdle
}

// start gives m to the handler in its own goroutine.
func (l *loop) start(ctx context.Context, d *Delivery) {
	l.slots.take()
	l.handlers.Go(func() {
		defer l.slots.give()
		l.work(ctx, d)
	})
}

func (l *loop) work(ctx context.Context, d *Delivery) {
	held, cancel := context.WithCancelCause(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { d.beat(held) })
	beats.Go(func() { d.watch(held, cancel) })
	l.do(held, d)
	cancel(nil)
	beats.Wait()
	if ctx.Err() == nil || d.decided() {
		return
	}
	// Going down: let another replica have it at once.
	if err := d.Nak(0); err != nil && !errors.Is(err, ErrLease) {
		l.q.log.Info("give message back", "name", d.Name, "error", err)
	}
}

// slots counts the handlers of one loop. The bound over all replicas is the
// consumer's; this one only keeps a replica from asking for more.
type slots struct {
	mu     sync.Mutex
	level  int
	used   int
	last   time.Time // of the last take or give
	change chan struct{}
}

func newSlots(level int) *slots {
	return &slots{level: level, last: time.Now(), change: make(chan struct{}, 1)}
}

// wait blocks until a slot is free and returns how many are.
func (s *slots) wait(ctx context.Context) (int, error) {
	for {
		s.mu.Lock()
		free := s.level - s.used
		s.mu.Unlock()
		if free > 0 {
			return free, nil
		}
		select {
		case <-s.change:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *slots) edit(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	select {
	case s.change <- struct{}{}:
	default:
	}
}

func (s *slots) take() { s.edit(func() { s.used++; s.last = time.Now() }) }
func (s *slots) give() { s.edit(func() { s.used--; s.last = time.Now() }) }

func (s *slots) resize(level int) { s.edit(func() { s.level = level }) }

func (s *slots) idleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used > 0 {
		return 0
	}
	return time.Since(s.last)
}
