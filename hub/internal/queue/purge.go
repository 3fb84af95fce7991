package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ropeway/protocol/page"
)

// PurgeJob deletes the messages of a cancelled job from p, delayed retries
// included, and returns how many. It reads every message of the place once; a
// handler that has one of them in flight ends as usual.
func (q *Queue) PurgeJob(ctx context.Context, p Place, job page.ID) (int, error) {
	if job.IsZero() {
		return 0, fmt.Errorf("purge without a job: %w", ErrInvalid)
	}
	s, err := q.purgeable(ctx, p)
	if s == nil || err != nil {
		return 0, err
	}
	ofJob := func(h nats.Header) bool { return first(h, headerJob) == job.String() }
	total := 0
	for _, subject := range []string{p.subject("later", "*"), p.subject("pages", ">")} {
		n, err := deleteIf(ctx, s, subject, ofJob)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// PurgeConnection deletes everything that waits for connection c, delayed
// retries included, and returns how many messages that were.
func (q *Queue) PurgeConnection(ctx context.Context, p Place, c page.ID) (int, error) {
	if c.IsZero() {
		return 0, fmt.Errorf("purge without a connection: %w", ErrInvalid)
	}
	s, err := q.purgeable(ctx, p)
	if s == nil || err != nil {
		return 0, err
	}
	target := p.subject("pages", c.String(), "")
	total, err := deleteIf(ctx, s, p.subject("later", "*"), func(h nats.Header) bool {
		to := first(h, jetstream.ScheduleTargetHeader)
		return len(to) > len(target) && to[:len(target)] == target
	})
	if err != nil {
		return total, err
	}
	n, err := q.purge(ctx, p, p.subject("pages", c.String(), "*"))
	return total + n, err
}

// purge deletes all messages of a subject filter. The client library hides the
// count that the engine answers.
func (q *Queue) purge(ctx context.Context, p Place, subject string) (int, error) {
	body, err := json.Marshal(map[string]string{"filter": subject})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	answer, err := q.nc.RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+p.stream(), body)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, err)
	}
	var result struct {
		Error  *jetstream.APIError `json:"error"`
		Purged int                 `json:"purged"`
	}
	if err := json.Unmarshal(answer.Data, &result); err != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, err)
	}
	if result.Error != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, result.Error)
	}
	return result.Purged, nil
}

func (q *Queue) purgeable(ctx context.Context, p Place) (jetstream.Stream, error) {
	if err := p.valid(); err != nil {
		return nil, err
	}
	s, err := q.js.Stream(ctx, p.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", p.stream(), err)
	}
	return s, nil
}

// deleteIf walks the messages of a subject filter that exist now.
func deleteIf(
	ctx context.Context, s jetstream.Stream, subject string, match func(nats.Header) bool,
) (int, error) {
	total := 0
	last := s.CachedInfo().State.LastSeq
	for seq := uint64(1); seq <= last; {
		m, found, err := next(ctx, s, subject, seq)
		if err != nil || !found {
			return total, err
		}
		if match(m.Header) {
			err := s.DeleteMsg(ctx, m.Sequence)
			if err != nil && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
				return total, fmt.Errorf("delete message %d: %w", m.Sequence, err)
			}
			total++
		}
		seq = m.Sequence + 1
	}
	return total, nil
}
