package control

import (
	"context"
	"errors"
	"sync"
)

// ErrOverflow ends an Outbox whose other side takes no messages.
var ErrOverflow = errors.New("too many messages wait to be sent")

// maxQueue bounds an outbox: far more than the calls of a session can need.
const maxQueue = 16384

// An Outbox lets many goroutines send on one gRPC stream, which takes one sender
// at a time. Messages leave in the order they were put in. Put never waits for
// the network; an outbox that overflows ends its session instead.
type Outbox[T any] struct {
	mu     sync.Mutex
	queue  []T
	closed bool
	full   bool
	ready  chan struct{}
}

// NewOutbox makes an empty outbox.
func NewOutbox[T any]() *Outbox[T] {
	return &Outbox[T]{ready: make(chan struct{}, 1)}
}

// Put adds a message; false if the outbox is closed or has overflowed.
func (o *Outbox[T]) Put(m T) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.full {
		return false
	}
	o.full = len(o.queue) >= maxQueue
	o.queue = append(o.queue, m)
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return true
}

// Close lets Run end after the messages that were put in.
func (o *Outbox[T]) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// Run sends until send fails, ctx ends or the outbox was closed and is empty
// (then it returns nil), or until it overflowed. It is called once.
func (o *Outbox[T]) Run(ctx context.Context, send func(T) error) error {
	for {
		batch, closed, full := o.take()
		if full {
			return ErrOverflow
		}
		for _, m := range batch {
			if err := send(m); err != nil {
				return err
			}
		}
		if closed && len(batch) == 0 {
			return nil
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-o.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *Outbox[T]) take() (batch []T, closed, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch = o.queue
	o.queue = nil
	return batch, o.closed, o.full
}
