package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ropeway/protocol/page"
)

// ErrLease says that the lease of a delivery is over: another replica may work
// on the message by now, so nothing was sent to the engine.
var ErrLease = errors.New("lease is over")

// ErrDecided says that the delivery has a verdict already.
var ErrDecided = errors.New("message has a verdict already")

// Delivery is a message in the hands of one handler. Its methods may be called
// from any goroutine; the first verdict that the engine confirms counts.
type Delivery struct {
	Message
	// Claim orders this delivery among all deliveries of the message; a
	// receipt with a lower claim than the stored one is refused (DELIVERY §5.2).
	Claim page.Claim
	// NeedClaim says that someone else may have had the message before, so the
	// claim must be stored before work begins.
	NeedClaim bool
	// Published is when the engine stored the message.
	Published time.Time

	q     *Queue
	reply string
	lease *lease

	mu   sync.Mutex
	done bool
}

// Ack removes the message for good and returns once the engine has confirmed
// it. Call it after the receipt is stored.
func (d *Delivery) Ack(ctx context.Context) error { return d.verdict(ctx, "+ACK") }

// Nak gives the message back; it is handed out again after delay and keeps its
// slot until then.
func (d *Delivery) Nak(delay time.Duration) error {
	ctx := context.Background() // bounded by the lease
	if delay <= 0 {
		return d.verdict(ctx, "-NAK")
	}
	return d.verdict(ctx, fmt.Sprintf(`-NAK {"delay": %d}`, delay.Nanoseconds()))
}

// Later publishes the message again for delay from now, counted as attempt, and
// removes this one. It frees the slot in between. A crash between the two steps
// leaves both, which the ledger sorts out.
func (d *Delivery) Later(ctx context.Context, delay time.Duration, attempt uint32) error {
	if d.lease.left() <= 0 {
		return fmt.Errorf("put off %s: %w", d.Name, ErrLease)
	}
	m := d.Message
	m.Attempt = attempt
	if err := d.q.PublishLater(ctx, m, delay); err != nil {
		return err
	}
	return d.Ack(ctx)
}

func (d *Delivery) decided() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

// verdict sends word and waits for the engine's answer, at most as long as the
// lease lasts.
func (d *Delivery) verdict(ctx context.Context, word string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return fmt.Errorf("answer %s: %w", d.Name, ErrDecided)
	}
	left := d.lease.left()
	if left <= 0 {
		return fmt.Errorf("answer %s: %w", d.Name, ErrLease)
	}
	if err := d.request(ctx, word, min(left, callTimeout)); err != nil {
		return fmt.Errorf("answer %s: %w", d.Name, err)
	}
	d.done = true
	return nil
}

func (d *Delivery) request(ctx context.Context, word string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := d.q.nc.RequestWithContext(ctx, d.reply, []byte(word))
	return err
}

// beat keeps the delivery alive while its handler runs. Only an answered beat
// counts, from the time it was sent.
func (d *Delivery) beat(ctx context.Context) {
	wait := d.lease.until(d.q.timing.beat)
	for sleep(ctx, wait) {
		sent := d.lease.now()
		if d.request(ctx, "+WPI", min(d.lease.left(), d.q.timing.beat)) == nil {
			d.lease.extend(sent)
			wait = d.q.timing.beat
		} else {
			wait = retryWait
		}
	}
}

// watch cancels the handler when the lease is over. It is apart from beat,
// which may hang on a frozen link.
func (d *Delivery) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for sleep(ctx, min(d.lease.left(), d.q.timing.beat)) {
		if d.lease.left() <= 0 {
			cancel(ErrLease)
			return
		}
	}
}

// lease is the time in which a handler may believe that the message is its own.
type lease struct {
	now    func() time.Duration
	length time.Duration
	off    bool

	mu   sync.Mutex
	base time.Duration
}

// newLease starts at sent, when the pull went out that brought the message: the
// engine cannot have delivered it before. So a process that was frozen while the
// message lay in its socket does not start on it.
func newLease(now func() time.Duration, sent, length time.Duration, off bool) *lease {
	return &lease{now: now, base: sent, length: length, off: off}
}

func (l *lease) extend(sent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base = max(l.base, sent)
}

// left is what remains of the lease; nothing once it is over.
func (l *lease) left() time.Duration {
	if l.off {
		return l.length
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.base + l.length - l.now()
}

// until is the time from now to after the base.
func (l *lease) until(after time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.base+after-l.now(), 0)
}
