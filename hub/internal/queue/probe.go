package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// DefaultProbeEvery is the time between two write probes.
	DefaultProbeEvery = 5 * time.Second
	// probeFailures is how many probes in a row must fail before the engine is
	// started anew.
	probeFailures = 2

	canaryTimeout = 2 * time.Second
	canaryStream  = "CANARY"
	canarySubject = "canary"
)

// probe writes canaries from time to time: one into a stream of its own, and one
// into each stream that lately left a publish without an answer. After a full
// disk or an I/O error the engine stays mute on such a stream although it calls
// itself healthy; only a restart of it helps (measured), and nothing that was
// acknowledged is lost by one.
func (q *Queue) probe(every time.Duration) {
	if every == 0 {
		every = DefaultProbeEvery
	}
	wait, failures := every, 0
	for sleep(q.closing, wait) {
		err := q.canaries(q.closing)
		if err == nil {
			wait, failures = every, 0
			continue
		}
		if q.closing.Err() != nil {
			return
		}
		if q.Space() != nil {
			continue // a restart would not help before there is space
		}
		failures++
		wait = min(every, time.Second)
		q.log.Warn("queue engine does not answer a write", "failures", failures, "error", err)
		if failures < probeFailures {
			continue
		}
		wait, failures = every, 0
		if err := q.engine.restart(); err != nil {
			q.log.Error("restart queue engine", "error", err)
		}
	}
}

func (q *Queue) canaries(ctx context.Context) error {
	err := q.canary(ctx)
	for _, p := range q.engine.mute.list() {
		if one := q.placeCanary(ctx, p); one != nil {
			err = errors.Join(err, one)
		} else {
			q.engine.mute.clear(p)
		}
	}
	return err
}

// canary writes one small message and waits until it is durable.
func (q *Queue) canary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	_, err := q.js.Publish(ctx, canarySubject, []byte("x"), jetstream.WithExpectStream(canaryStream))
	if err == nil {
		return nil
	}
	_, created := q.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: canaryStream, Subjects: []string{canarySubject},
		Storage: jetstream.FileStorage, MaxMsgs: 1, Discard: jetstream.DiscardOld,
	})
	if created != nil {
		return fmt.Errorf("write canary: %w", errors.Join(err, created))
	}
	if _, err := q.js.Publish(ctx, canarySubject, []byte("x")); err != nil {
		return fmt.Errorf("write canary: %w", err)
	}
	return nil
}

// placeCanary writes into the stream of p and takes it away again.
func (q *Queue) placeCanary(ctx context.Context, p Place) error {
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	m := nats.NewMsg(p.subject("probe", canarySubject))
	m.Header[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject}
	answer, err := q.js.PublishMsg(ctx, m, jetstream.WithExpectStream(p.stream()))
	if err != nil {
		return fmt.Errorf("write canary to %s: %w", p.stream(), err)
	}
	s, err := q.js.Stream(ctx, p.stream())
	if err == nil {
		err = s.DeleteMsg(ctx, answer.Sequence)
	}
	if err != nil {
		return fmt.Errorf("delete canary of %s: %w", p.stream(), err)
	}
	return nil
}

// mute are the places in which a publish got no answer since the last canary.
type mute struct {
	mu     sync.Mutex
	places map[Place]struct{}
}

func newMute() *mute { return &mute{places: map[Place]struct{}{}} }

func (m *mute) add(p Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.places[p] = struct{}{}
}

func (m *mute) clear(p Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.places, p)
}

func (m *mute) list() []Place {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.places))
}

// restart stops and starts the server in place. Clients reconnect by themselves,
// and what their handlers have in flight stays theirs.
func (e *engine) restart() error {
	e.log.Warn("queue engine restarts")
	e.halt()
	if err := e.start(); err != nil {
		return err
	}
	e.log.Info("queue engine has restarted")
	return nil
}
