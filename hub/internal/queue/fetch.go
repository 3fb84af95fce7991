package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"ropeway/protocol/page"
)

// errReaped says that the consumer does not exist (any more).
var errReaped = errors.New("consumer does not exist")

// errEnd says that the engine has ended a pull: nothing came, or all is said.
var errEnd = errors.New("end of pull")

// fetch asks the engine for up to free messages, waits a quarter of AckWait for
// them and starts a handler for each. The client library's own Fetch forgets
// messages that arrive while its context ends, which would block their slots
// for AckWait; this one gives them back.
func (l *loop) fetch(ctx, fetching context.Context, free int) error {
	nc := l.q.nc
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	sent := l.q.clock()
	if err := l.pull(sub, free); err != nil {
		return errors.Join(err, sub.Unsubscribe())
	}
	waiting, cancel := context.WithTimeout(fetching, l.q.timing.fetch+time.Second)
	defer cancel()
	for got := 0; got < free; {
		batch, err := gather(waiting, sub, free-got)
		l.handle(ctx, batch, sent)
		got += len(batch)
		if err != nil {
			l.giveBack(ctx, sub)
			if errors.Is(err, errEnd) || waiting.Err() != nil {
				return nil
			}
			return err
		}
	}
	return sub.Unsubscribe()
}

func (l *loop) pull(sub *nats.Subscription, batch int) error {
	body, err := json.Marshal(map[string]int64{
		"batch": int64(batch), "expires": int64(l.q.timing.fetch),
	})
	if err != nil {
		return err
	}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + l.lane.stream() + "." + l.lane.consumer(l.generation)
	if err := l.q.nc.PublishRequest(subject, sub.Subject, body); err != nil {
		return fmt.Errorf("ask for messages: %w", err)
	}
	return nil
}

// gather waits for a message and takes along what has arrived with it.
func gather(ctx context.Context, sub *nats.Subscription, most int) ([]*nats.Msg, error) {
	var batch []*nats.Msg
	for len(batch) < most {
		if n, _, err := sub.Pending(); len(batch) > 0 && (err != nil || n == 0) {
			return batch, nil
		}
		m, err := sub.NextMsgWithContext(ctx)
		if err == nil {
			err = status(m)
		}
		if errors.Is(err, nats.ErrNoResponders) {
			err = errReaped
		}
		if err != nil {
			return batch, err
		}
		batch = append(batch, m)
	}
	return batch, nil
}

// status turns the engine's control messages into errors.
func status(m *nats.Msg) error {
	code := m.Header.Get("Status")
	if len(m.Data) > 0 || code == "" {
		return nil
	}
	description := m.Header.Get("Description")
	switch code {
	case "404", "408":
		return errEnd
	case "503":
		return errReaped
	case "409":
		switch strings.ToLower(description) {
		case "consumer deleted":
			return errReaped
		case "batch completed":
			return errEnd
		}
	}
	return fmt.Errorf("ask for messages: %s %s", code, description)
}

// handle starts a handler for each message.
func (l *loop) handle(ctx context.Context, batch []*nats.Msg, sent time.Duration) {
	for _, m := range batch {
		d, err := l.delivery(m, sent)
		if err != nil {
			// Nothing in this process writes such a message. It stays, and loud.
			l.q.log.Error("message on the queue cannot be read", "error", err)
			continue
		}
		l.start(ctx, d)
	}
}

// giveBack ends the pull before its time and returns what was on its way.
func (l *loop) giveBack(ctx context.Context, sub *nats.Subscription) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := sub.Drain(); err != nil {
		return
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return
		}
		if status(m) == nil {
			_ = m.Respond([]byte("-NAK"))
		}
	}
}

// delivery reads the message and the claim of its delivery.
func (l *loop) delivery(m *nats.Msg, sent time.Duration) (*Delivery, error) {
	message, err := decode(m.Subject, m.Header, m.Data)
	if err != nil {
		return nil, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read delivery of %s: %w", message.Name, err)
	}
	d := &Delivery{Message: message, Published: meta.Timestamp, q: l.q, reply: m.Reply}
	d.Claim = page.Claim{Created: l.generation, Delivery: meta.NumDelivered}
	d.NeedClaim = meta.NumDelivered > 1 || meta.Sequence.Stream < l.firstNew
	d.lease = newLease(l.q.clock, sent, l.q.timing.lease, l.q.noLease)
	return d, nil
}
