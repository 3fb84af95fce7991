package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ropeway/protocol/page"
)

const (
	// smallStream is the number of messages up to which Active reads all
	// subjects; above it that would cost seconds.
	smallStream = 10_000
	// scanEvery is the time between two full scans of a large stream.
	scanEvery = 5 * time.Minute
)

// known is what this client has learned: which streams exist, and which
// connections have ever had a message. Every message makes its connection known
// through its publisher, its wake message or a full scan.
type known struct {
	mu     sync.Mutex
	places map[Place]*knownPlace
}

type knownPlace struct {
	ensured     bool
	scanned     time.Time
	connections map[page.ID]struct{}
}

func newKnown() *known { return &known{places: map[Place]*knownPlace{}} }

func (k *known) edit(p Place, do func(*knownPlace)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.places[p]
	if s == nil {
		s = &knownPlace{connections: map[page.ID]struct{}{}}
		k.places[p] = s
	}
	do(s)
}

func (k *known) ensured(p Place) (yes bool) {
	k.edit(p, func(s *knownPlace) { yes = s.ensured })
	return yes
}

func (k *known) ensure(p Place) { k.edit(p, func(s *knownPlace) { s.ensured = true }) }
func (k *known) forget(p Place) { k.edit(p, func(s *knownPlace) { s.ensured = false }) }

func (k *known) add(p Place, c page.ID) {
	k.edit(p, func(s *knownPlace) { s.connections[c] = struct{}{} })
}

// all lists the places whose stream is known to exist.
func (k *known) all() (out []Place) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, s := range k.places {
		if s.ensured {
			out = append(out, p)
		}
	}
	return out
}

func (k *known) forgetScans() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.places {
		s.ensured, s.scanned = false, time.Time{}
	}
}

func (k *known) connections(p Place) (out []page.ID, scanned time.Time) {
	k.edit(p, func(s *knownPlace) {
		for c := range s.connections {
			out = append(out, c)
		}
		scanned = s.scanned
	})
	return out, scanned
}

// Active lists the connections of p that have messages, waiting or in flight.
// Call it at start, after a Rescan event and every 10 s.
func (q *Queue) Active(ctx context.Context, p Place) ([]page.ID, error) {
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
	messages := s.CachedInfo().State.Msgs
	connections, scanned := q.known.connections(p)
	switch {
	case messages == 0:
		return nil, nil
	case messages <= smallStream || time.Since(scanned) > scanEvery:
		return q.scan(ctx, p, s)
	}
	return q.active(ctx, p, s, connections)
}

// scan reads all subjects of the stream.
func (q *Queue) scan(ctx context.Context, p Place, s jetstream.Stream) ([]page.ID, error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(p.subject("pages", ">")))
	if err != nil {
		return nil, fmt.Errorf("scan stream %s: %w", p.stream(), err)
	}
	var out []page.ID
	seen := map[page.ID]bool{}
	for subject := range info.State.Subjects {
		_, c, err := parsePageSubject(subject)
		if err != nil || seen[c] {
			continue
		}
		seen[c] = true
		out = append(out, c)
		q.known.add(p, c)
	}
	q.known.edit(p, func(k *knownPlace) { k.scanned = time.Now() })
	slices.SortFunc(out, comparePageID)
	return out, nil
}

// active asks for each connection whether it has a message.
func (q *Queue) active(
	ctx context.Context, p Place, s jetstream.Stream, connections []page.ID,
) ([]page.ID, error) {
	var out []page.ID
	for _, c := range connections {
		_, found, err := oldest(ctx, s, p.subject("pages", c.String(), "*"))
		if err != nil {
			return nil, err
		}
		if found {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, comparePageID)
	return out, nil
}

func comparePageID(a, b page.ID) int { return slices.Compare(a[:], b[:]) }

// oldest reads the first message on a subject filter.
func oldest(
	ctx context.Context, s jetstream.Stream, subject string,
) (*jetstream.RawStreamMsg, bool, error) {
	return next(ctx, s, subject, 1)
}

// next reads the first message on a subject filter from sequence seq on.
func next(
	ctx context.Context, s jetstream.Stream, subject string, seq uint64,
) (*jetstream.RawStreamMsg, bool, error) {
	m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", subject, err)
	}
	return m, true, nil
}
