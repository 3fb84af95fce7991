package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxOutstanding bounds the publishes of this client that wait for their
	// acknowledgement.
	maxOutstanding = 128
	// callTimeout bounds one try of one call to the engine.
	callTimeout = 5 * time.Second
	// publishTimeout bounds a publish over all its tries.
	publishTimeout = 30 * time.Second
	retryWait      = 100 * time.Millisecond
)

// Publish puts m on the queue and returns once it is durable. Publishing the
// same name again within two minutes does nothing, so a caller may retry after
// any error. Many calls at a time share the way to the disk.
func (q *Queue) Publish(ctx context.Context, m Message) error {
	msg, err := m.encode(m.pageSubject())
	if err != nil {
		return err
	}
	if err := q.send(ctx, m.Place, msg, jetstream.WithMsgID(m.Name)); err != nil {
		return fmt.Errorf("publish %s: %w", m.Name, err)
	}
	return q.wake(m.Place, m.Connection)
}

// PublishLater puts m on the queue after delay, which the engine keeps to about
// a second. A later call for the same name replaces the one that waits.
func (q *Queue) PublishLater(ctx context.Context, m Message, delay time.Duration) error {
	msg, err := m.encode(m.laterSubject())
	if err != nil {
		return err
	}
	at := time.Now().Add(max(delay, 0)).UTC().Format(time.RFC3339Nano)
	msg.Header[jetstream.ScheduleHeader] = []string{"@at " + at}
	msg.Header[jetstream.ScheduleTargetHeader] = []string{m.pageSubject()}
	q.known.add(m.Place, m.Connection)
	// No Msg-Id: the copy must pass the dedup window of the original, and the
	// next schedule that of this one.
	if err := q.send(ctx, m.Place, msg); err != nil {
		return fmt.Errorf("publish %s for later: %w", m.Name, err)
	}
	return nil
}

// send publishes with retries until the engine has acknowledged.
func (q *Queue) send(
	ctx context.Context, p Place, msg *nats.Msg, opts ...jetstream.PublishOpt,
) error {
	if err := q.engine.space.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	opts = append(opts, jetstream.WithExpectStream(p.stream()), jetstream.WithStallWait(callTimeout))
	for {
		err := q.Ensure(ctx, p)
		if err == nil {
			err = q.sendOnce(ctx, msg, opts)
			if errors.Is(err, jetstream.ErrAsyncPublishTimeout) || errors.Is(err, context.DeadlineExceeded) {
				q.engine.mute.add(p)
			}
		}
		if err == nil {
			err = q.engine.names.blocks(p.stream())
		}
		if err == nil || !retryable(err) {
			return err
		}
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
			q.known.forget(p)
		}
		if ctx.Err() != nil || !sleep(ctx, retryWait) {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

func (q *Queue) sendOnce(ctx context.Context, msg *nats.Msg, opts []jetstream.PublishOpt) error {
	// A try needs its own copy: the client sets headers and keeps the message.
	try := &nats.Msg{Subject: msg.Subject, Data: msg.Data, Header: nats.Header{}}
	for k, v := range msg.Header {
		try.Header[k] = v
	}
	future, err := q.js.PublishMsgAsync(try, opts...)
	if err != nil {
		return err
	}
	timer := time.NewTimer(callTimeout)
	defer timer.Stop()
	select {
	case <-future.Ok():
		return nil
	case err := <-future.Err():
		return err
	case <-timer.C:
		return jetstream.ErrAsyncPublishTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryable reports whether the engine might take the message on another try.
// What the engine refuses with a reason (an API error) it would refuse again,
// unless its storage is in trouble.
func retryable(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code >= 500 || api.Code == 429 // in trouble, or too many at once
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, ErrInvalid), errors.Is(err, ErrUnsafe),
		errors.Is(err, context.Canceled):
		return false
	}
	return true
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
