package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ropeway/protocol/page"
)

// Stats is what people see of a lane. Retries that wait for their time are not
// among the queued.
type Stats struct {
	Queued   uint64    // waiting for a slot
	InFlight uint64    // in the hands of a handler
	Oldest   time.Time // when the oldest of both was published; zero if there is none
}

// Stats counts the messages of the lane, borrowers included. Its cost does not
// grow with their number.
func (q *Queue) Stats(ctx context.Context, l Lane) (Stats, error) {
	if err := l.validate(); err != nil {
		return Stats{}, err
	}
	s, err := q.js.Stream(ctx, l.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Stats{}, nil
	}
	if err != nil {
		return Stats{}, fmt.Errorf("open stream %s: %w", l.stream(), err)
	}
	if s.CachedInfo().State.Msgs == 0 {
		return Stats{}, nil
	}
	// The consumer holds the counts; the engine reaps it again if nobody pulls.
	if len(q.engine.lanes.inTheWay(l)) == 0 {
		if _, err := q.ensure(ctx, l); err != nil {
			return Stats{}, err
		}
	}
	info, err := q.info(ctx, l)
	if absent(err) {
		info, err = &jetstream.ConsumerInfo{}, nil // a lane that is about to change
	}
	if err != nil {
		return Stats{}, fmt.Errorf("read consumer of connection %s: %w", l.Connection, err)
	}
	out := Stats{Queued: info.NumPending, InFlight: uint64(max(info.NumAckPending, 0))}
	for _, c := range append([]page.ID{l.Connection}, l.Borrowers...) {
		m, found, err := oldest(ctx, s, l.subject("pages", c.String(), "*"))
		if err != nil {
			return Stats{}, err
		}
		if found && (out.Oldest.IsZero() || m.Time.Before(out.Oldest)) {
			out.Oldest = m.Time
		}
	}
	return out, nil
}

// Size is what a place occupies.
type Size struct{ Messages, Bytes uint64 }

// Size counts everything in the stream of p, delayed retries included.
func (q *Queue) Size(ctx context.Context, p Place) (Size, error) {
	s, err := q.js.Stream(ctx, p.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Size{}, nil
	}
	if err != nil {
		return Size{}, fmt.Errorf("open stream %s: %w", p.stream(), err)
	}
	state := s.CachedInfo().State
	return Size{Messages: state.Msgs, Bytes: state.Bytes}, nil
}
