package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// inactive is after how long the engine reaps a consumer nobody pulls.
	inactive = 5 * time.Minute
	// pauseFor stands for "until Resume".
	pauseFor = 100 * 365 * 24 * time.Hour
	// resumeIn is how far ahead a resume lies: the engine wakes waiting pulls by
	// a timer, which it sets only if the time has not passed once the change is
	// on disk (DELIVERY §5.5). It is tried again with more if the disk was slower.
	resumeIn     = 25 * time.Millisecond
	resumeAtMost = time.Second
)

// ErrShape says that a lane's consumer has other borrowers than asked for;
// Reshape changes them.
var ErrShape = errors.New("lane has other borrowers")

// ErrChanging says that Reshape is at work on the lane; serve it again with its
// new borrowers.
var ErrChanging = errors.New("lane is changing its borrowers")

// lanes remembers, for all clients in this process, the present consumer of each
// lane and the loops that serve it.
type lanes struct {
	mu  sync.Mutex
	all map[string]*laneState

	reshape sync.Mutex // one Reshape at a time
}

type laneState struct {
	// edit excludes making, changing and deleting the consumer from each other.
	edit sync.Mutex

	mu         sync.Mutex
	generation int64 // of the consumer last made; 0 if there is none
	shape      Lane  // as it was made
	changing   bool
	loops      map[*loop]struct{}
}

func newLanes() *lanes { return &lanes{all: map[string]*laneState{}} }

func (l *lanes) of(lane Lane) *laneState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.all[lane.key()]
	if s == nil {
		s = &laneState{loops: map[*loop]struct{}{}}
		l.all[lane.key()] = s
	}
	return s
}

func (s *laneState) current() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

func (s *laneState) set(generation int64, shape Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation, s.shape = generation, shape
}

// inTheWay lists the lanes with a consumer that stands against making that of
// lane: they share a connection with it but not all of them.
func (l *lanes) inTheWay(lane Lane) (out []Lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		s.mu.Lock()
		shape, exists := s.shape, s.generation != 0
		s.mu.Unlock()
		if !exists || shape.Place != lane.Place || slices.Equal(shape.filters(), lane.filters()) {
			continue
		}
		shared := func(f string) bool { return slices.Contains(lane.filters(), f) }
		if slices.ContainsFunc(shape.filters(), shared) {
			out = append(out, shape)
		}
	}
	return out
}

func (s *laneState) join(l *loop) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changing {
		return ErrChanging
	}
	s.loops[l] = struct{}{}
	return nil
}

func (s *laneState) leave(l *loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.loops, l)
}

// served reports whether a loop of the lane has not ended.
func (s *laneState) served() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.loops) > 0
}

func (s *laneState) each(do func(*loop)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.loops {
		do(l)
	}
}

func (q *Queue) consumerConfig(l Lane, generation int64) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable:           l.consumer(generation),
		FilterSubjects:    l.filters(),
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           q.timing.ackWait,
		MaxDeliver:        -1,
		MaxAckPending:     l.level(),
		InactiveThreshold: inactive,
	}
	if l.Paused {
		until := time.Now().Add(pauseFor)
		c.PauseUntil = &until
	}
	return c
}

// ensure makes the lane's consumer, or brings level and pause of an existing
// one to what the lane says, and returns its generation.
func (q *Queue) ensure(ctx context.Context, l Lane) (int64, error) {
	s := q.engine.lanes.of(l)
	s.edit.Lock()
	defer s.edit.Unlock()
	info, err := q.info(ctx, l)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		q.known.forget(l.Place)
		if err := q.Ensure(ctx, l.Place); err != nil {
			return 0, err
		}
		err = jetstream.ErrConsumerNotFound
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return q.create(ctx, l, s)
	}
	if err != nil {
		return 0, fmt.Errorf("read consumer of connection %s: %w", l.Connection, err)
	}
	got := append(slices.Clone(info.Config.FilterSubjects), info.Config.FilterSubject)
	got = slices.DeleteFunc(got, func(f string) bool { return f == "" })
	slices.Sort(got)
	if !slices.Equal(got, l.filters()) {
		return 0, fmt.Errorf("connection %s: %w", l.Connection, ErrShape)
	}
	return s.current(), q.align(ctx, l, info)
}

// create makes a consumer under a name of its own: the engine removes the files
// of a deleted one late, and would take those of a successor with the same name
// along. It also tells from a delivery which consumer made it, and sends stale
// verdicts nowhere. The engine allows no two consumers for one subject.
func (q *Queue) create(ctx context.Context, l Lane, s *laneState) (int64, error) {
	generation, err := q.engine.gens.next()
	if err != nil {
		return 0, err
	}
	_, err = q.js.CreateConsumer(ctx, l.stream(), q.consumerConfig(l, generation))
	if err != nil {
		return 0, fmt.Errorf("make consumer of connection %s: %w", l.Connection, err)
	}
	s.set(generation, l)
	return generation, nil
}

// align changes level and pause where they differ from the lane.
func (q *Queue) align(ctx context.Context, l Lane, info *jetstream.ConsumerInfo) error {
	if info.Config.MaxAckPending != l.level() {
		if err := q.setLevel(ctx, l, info); err != nil {
			return err
		}
	}
	if info.Paused != l.Paused {
		return q.setPause(ctx, l, l.Paused)
	}
	return nil
}

// info reads the lane's present consumer.
func (q *Queue) info(ctx context.Context, l Lane) (*jetstream.ConsumerInfo, error) {
	generation := q.engine.lanes.of(l).current()
	if generation == 0 {
		return nil, jetstream.ErrConsumerNotFound
	}
	c, err := q.js.Consumer(ctx, l.stream(), l.consumer(generation))
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// SetLevel gives the lane the level it carries, at once and for all replicas.
// Messages in flight above a lowered level end in peace; nothing new starts
// until there is room.
func (q *Queue) SetLevel(ctx context.Context, l Lane) error {
	if err := l.validate(); err != nil {
		return err
	}
	s := q.engine.lanes.of(l)
	s.edit.Lock()
	defer s.edit.Unlock()
	info, err := q.info(ctx, l)
	if absent(err) {
		return nil // made with the level of its lane when it is needed
	}
	if err != nil {
		return fmt.Errorf("read consumer of connection %s: %w", l.Connection, err)
	}
	return q.setLevel(ctx, l, info)
}

func (q *Queue) setLevel(ctx context.Context, l Lane, info *jetstream.ConsumerInfo) error {
	c := info.Config
	c.MaxAckPending = l.level()
	if _, err := q.js.UpdateConsumer(ctx, l.stream(), c); err != nil {
		return fmt.Errorf("set level of connection %s: %w", l.Connection, err)
	}
	q.engine.lanes.of(l).each(func(p *loop) { p.slots.resize(l.level()) })
	return nil
}

// Pause stops handing out messages of the lane. Those in flight go on. The
// caller has written the desired state to the store before.
func (q *Queue) Pause(ctx context.Context, l Lane) error { return q.changePause(ctx, l, true) }

// Resume undoes Pause and wakes whoever serves the lane.
func (q *Queue) Resume(ctx context.Context, l Lane) error {
	if err := q.changePause(ctx, l, false); err != nil {
		return err
	}
	return q.wake(l.Place, l.Connection)
}

func (q *Queue) changePause(ctx context.Context, l Lane, paused bool) error {
	if err := l.validate(); err != nil {
		return err
	}
	s := q.engine.lanes.of(l)
	s.edit.Lock()
	defer s.edit.Unlock()
	return q.setPause(ctx, l, paused)
}

func (q *Queue) setPause(ctx context.Context, l Lane, paused bool) error {
	generation := q.engine.lanes.of(l).current()
	if generation == 0 {
		return nil // made in the state of its lane when it is needed
	}
	var err error
	if paused {
		until := time.Now().Add(pauseFor)
		_, err = q.js.PauseConsumer(ctx, l.stream(), l.consumer(generation), until)
	} else {
		err = q.resume(ctx, l, generation)
	}
	if err != nil && !absent(err) {
		return fmt.Errorf("pause or resume connection %s: %w", l.Connection, err)
	}
	return nil
}

func (q *Queue) resume(ctx context.Context, l Lane, generation int64) error {
	for in := resumeIn; ; in *= 4 {
		until := time.Now().Add(in)
		answer, err := q.js.PauseConsumer(ctx, l.stream(), l.consumer(generation), until)
		if err != nil {
			return err
		}
		if answer.Paused || in >= resumeAtMost {
			return nil // the timer runs; without it, waiting pulls end by themselves
		}
	}
}

// remove deletes the lane's present consumer. Its messages stay.
func (q *Queue) remove(ctx context.Context, l Lane) error {
	s := q.engine.lanes.of(l)
	generation := s.current()
	if generation == 0 {
		return nil
	}
	err := q.js.DeleteConsumer(ctx, l.stream(), l.consumer(generation))
	if err != nil && !absent(err) {
		return fmt.Errorf("delete consumer of connection %s: %w", l.Connection, err)
	}
	s.set(0, Lane{})
	return nil
}

func absent(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrStreamNotFound)
}
