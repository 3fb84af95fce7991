package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// dedupWindow is how long a name is remembered by the stream (DELIVERY §9);
// the ledger remembers it for 30 days.
const dedupWindow = 2 * time.Minute

func (p Place) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               p.stream(),
		Subjects:           p.subjects(),
		Retention:          jetstream.WorkQueuePolicy,
		Storage:            jetstream.FileStorage,
		Discard:            jetstream.DiscardOld,
		MaxConsumers:       -1,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         -1,
		Duplicates:         dedupWindow,
		AllowRollup:        true,
		AllowDirect:        true,
		AllowMsgSchedules:  true,
		AllowAtomicPublish: true,
	}
}

// ErrUnsafe marks a stream whose settings break the delivery promise.
var ErrUnsafe = errors.New("unsafe stream settings")

// assertStream refuses settings under which the engine drops pages that it has
// acknowledged, or refuses to schedule (DELIVERY §5).
func assertStream(c jetstream.StreamConfig) error {
	wrong := ""
	switch {
	case c.Retention != jetstream.WorkQueuePolicy:
		wrong = "retention is not work queue"
	case c.Storage != jetstream.FileStorage:
		wrong = "storage is not file"
	case c.MaxMsgs > 0 || c.MaxBytes > 0 || c.MaxMsgsPerSubject > 0:
		wrong = "a size limit would drop acknowledged pages"
	case c.MaxAge > 0:
		wrong = "an age limit would drop acknowledged pages"
	case c.MaxConsumers > 0:
		wrong = "the number of consumers is limited"
	case c.NoAck:
		wrong = "publishes are not acknowledged"
	case !c.AllowMsgSchedules || !c.AllowRollup || !c.AllowAtomicPublish:
		wrong = "schedules, roll-ups or atomic batches are off"
	case c.Duplicates < dedupWindow:
		wrong = "the dedup window is short"
	case c.PersistMode == jetstream.AsyncPersistMode:
		wrong = "writes are not synced"
	default:
		return nil
	}
	return fmt.Errorf("stream %s: %s: %w", c.Name, wrong, ErrUnsafe)
}

// Ensure makes the stream of p if it does not exist and asserts its settings.
func (q *Queue) Ensure(ctx context.Context, p Place) error {
	if err := p.valid(); err != nil {
		return err
	}
	if q.known.ensured(p) {
		return nil
	}
	s, err := q.js.CreateStream(ctx, p.streamConfig())
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		s, err = q.js.Stream(ctx, p.stream())
	}
	if err != nil {
		return fmt.Errorf("make stream %s: %w", p.stream(), err)
	}
	if err := assertStream(s.CachedInfo().Config); err != nil {
		return err
	}
	if err := q.engine.names.tree(p.stream()); err != nil {
		return err
	}
	q.known.ensure(p)
	return nil
}

// Places lists the places that have a stream.
func (q *Queue) Places(ctx context.Context) ([]Place, error) {
	var out []Place
	names := q.js.StreamNames(ctx)
	for name := range names.Name() {
		if p, ok := parseStream(name); ok {
			out = append(out, p)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	return out, nil
}

// DeletePlace removes the stream of p with everything in it.
func (q *Queue) DeletePlace(ctx context.Context, p Place) error {
	if err := p.valid(); err != nil {
		return err
	}
	q.known.forget(p)
	err := q.js.DeleteStream(ctx, p.stream())
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", p.stream(), err)
	}
	return nil
}

// RecreateAll asserts every stream and deletes every consumer, so that nothing
// a former process had in flight waits for its AckWait; Serve makes each again
// with level and pause from the store. Call it only while nobody serves.
func (q *Queue) RecreateAll(ctx context.Context) error {
	places, err := q.Places(ctx)
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := q.recreate(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) recreate(ctx context.Context, p Place) error {
	s, err := q.js.Stream(ctx, p.stream())
	if err != nil {
		return fmt.Errorf("open stream %s: %w", p.stream(), err)
	}
	if err := assertStream(s.CachedInfo().Config); err != nil {
		return err
	}
	consumers := s.ConsumerNames(ctx)
	var names []string
	for name := range consumers.Name() {
		if generation, err := parseGeneration(name); err == nil {
			q.engine.gens.atLeast(generation)
		}
		names = append(names, name)
	}
	if err := consumers.Err(); err != nil {
		return fmt.Errorf("list consumers of %s: %w", p.stream(), err)
	}
	for _, name := range names {
		err := s.DeleteConsumer(ctx, name)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("delete consumer %s: %w", name, err)
		}
	}
	return q.Ensure(ctx, p)
}
