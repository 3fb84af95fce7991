package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"ropeway/protocol/page"
)

// WakeEvent says that a connection may have work. Rescan events carry no
// connection: the link to the engine was new, so ask Active of every place.
type WakeEvent struct {
	Place
	Connection page.ID
	Rescan     bool
}

// wakeEvery bounds how often one client wakes the same connection; a loop that
// runs lasts far longer.
const wakeEvery = 500 * time.Millisecond

// wakes collects events until someone takes them from the channel, each once.
type wakes struct {
	out chan WakeEvent

	mu      sync.Mutex
	waiting map[WakeEvent]struct{}
	signal  chan struct{}
	sent    map[WakeEvent]time.Time
}

func newWakes() *wakes {
	return &wakes{
		out: make(chan WakeEvent), waiting: map[WakeEvent]struct{}{},
		signal: make(chan struct{}, 1), sent: map[WakeEvent]time.Time{},
	}
}

// Wake tells which connections have new work. An event may be missing or
// superfluous; Active, called at least every 10 s, tells for sure.
func (q *Queue) Wake() <-chan WakeEvent { return q.wakes.out }

func (w *wakes) add(e WakeEvent) {
	w.mu.Lock()
	w.waiting[e] = struct{}{}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *wakes) take() []WakeEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]WakeEvent, 0, len(w.waiting))
	for e := range w.waiting {
		out = append(out, e)
	}
	clear(w.waiting)
	return out
}

func (w *wakes) pump(ctx context.Context) {
	for {
		select {
		case <-w.signal:
		case <-ctx.Done():
			return
		}
		for _, e := range w.take() {
			select {
			case w.out <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}

// due reports whether e should be sent again.
func (w *wakes) due(e WakeEvent) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.sent[e]) < wakeEvery {
		return false
	}
	w.sent[e] = time.Now()
	return true
}

// forget makes the next message of each of the lane's connections wake again: its
// loop has ended.
func (w *wakes) forget(l Lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range append([]page.ID{l.Connection}, l.Borrowers...) {
		delete(w.sent, WakeEvent{Place: l.Place, Connection: c})
	}
}

func (q *Queue) listenForWakes() error {
	_, err := q.nc.Subscribe("wake.*.*.*", func(m *nats.Msg) {
		p, c, err := parseWakeSubject(m.Subject)
		if err != nil {
			return
		}
		q.known.add(p, c)
		q.wakes.add(WakeEvent{Place: p, Connection: c})
	})
	if err != nil {
		return fmt.Errorf("listen for wake messages: %w", err)
	}
	return nil
}

// wake tells all replicas that c may have work. Losing one is harmless.
func (q *Queue) wake(p Place, c page.ID) error {
	q.known.add(p, c)
	if !q.wakes.due(WakeEvent{Place: p, Connection: c}) {
		return nil
	}
	if err := q.nc.Publish(p.subject("wake", c.String()), nil); err != nil {
		q.log.Debug("wake", "connection", c, "error", err)
	}
	return nil
}

func (q *Queue) rescan() {
	q.known.forgetScans()
	q.wakes.add(WakeEvent{Rescan: true})
}
