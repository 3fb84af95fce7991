package queue

import (
	"context"
	"net"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MutateNoLease switches the lease guard of this client off.
func (q *Queue) MutateNoLease() { q.noLease = true }

// MutateNoNames leaves new names of the engine's files unsynced.
func (q *Queue) MutateNoNames() { q.engine.names.off = true }

// SetClock replaces the clock of this client's leases.
func (q *Queue) SetClock(now func() time.Duration) { q.clock = now }

// ConnectVia connects another client through dial instead of a plain pipe.
func (q *Queue) ConnectVia(
	ctx context.Context, wrap func(net.Conn) net.Conn,
) (*Queue, error) {
	return q.connectVia(ctx, wrapped{q.engine, wrap})
}

type wrapped struct {
	e    *engine
	wrap func(net.Conn) net.Conn
}

func (w wrapped) InProcessConn() (net.Conn, error) {
	c, err := w.e.InProcessConn()
	if err != nil {
		return nil, err
	}
	return w.wrap(c), nil
}

// Restart restarts the engine as the write probe does.
func (q *Queue) Restart() error { return q.engine.restart() }

// DropConsumer deletes a lane's consumer as the engine does with idle ones.
func (q *Queue) DropConsumer(ctx context.Context, l Lane) error {
	return q.js.DeleteConsumer(ctx, l.stream(), l.consumer(q.engine.lanes.of(l).current()))
}

// MakeStream makes the stream of p with changed settings.
func (q *Queue) MakeStream(
	ctx context.Context, p Place, change func(*jetstream.StreamConfig),
) error {
	c := p.streamConfig()
	change(&c)
	_, err := q.js.CreateStream(ctx, c)
	return err
}

// SyncAlways reads the setting back from the engine.
func (q *Queue) SyncAlways() bool { return q.engine.server.JetStreamConfig().SyncAlways }

// Listens reports whether the engine has opened a port.
func (q *Queue) Listens() bool { return q.engine.server.Addr() != nil }

// StreamConfig reads the stream's settings back.
func (q *Queue) StreamConfig(ctx context.Context, p Place) (jetstream.StreamConfig, error) {
	s, err := q.js.Stream(ctx, p.stream())
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	return s.CachedInfo().Config, nil
}

// ConsumerConfig reads a consumer's settings back.
func (q *Queue) ConsumerConfig(ctx context.Context, l Lane) (jetstream.ConsumerConfig, error) {
	info, err := q.info(ctx, l)
	if err != nil {
		return jetstream.ConsumerConfig{}, err
	}
	return info.Config, nil
}

// NextGenerations opens the file at path and hands out n generations.
func NextGenerations(path string, n int) ([]int64, error) {
	g, err := openGenerations(path)
	if err != nil {
		return nil, err
	}
	var out []int64
	for range n {
		v, err := g.next()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Decode reads a message as a consumer would deliver it.
func Decode(subject string, h map[string][]string, body []byte) (Message, error) {
	return decode(subject, h, body)
}

// Encode is what Publish sends: subject and headers.
func Encode(m Message) (string, map[string][]string, error) {
	out, err := m.encode(m.pageSubject())
	if err != nil {
		return "", nil, err
	}
	return out.Subject, out.Header, nil
}
