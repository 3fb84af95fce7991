package odata

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// importBatch applies one page, a chunk of records at a time. Each record is
// answered on its own; an error of the whole page comes only for what is about
// no single record.
func (c *conn) importBatch(ctx context.Context, spec connectors.ImportSpec,
	in connectors.Batch) (connectors.Answer, error) {
	spec, err := spec.Normal()
	if err != nil {
		return connectors.Answer{}, err
	}
	if spec.Inbox == connectors.InboxTrue {
		return connectors.Answer{}, fault.Of("E_UNSUPPORTED").WithSource(name).
			WithSentence("OData has no transactions for an inbox").WithFix("set inbox: auto in the import")
	}
	svc, set, err := c.set(ctx, spec.Table)
	if err != nil {
		return connectors.Answer{}, err
	}
	w := &work{conn: c, spec: spec, batch: in, set: set, form: form{svc.version}}
	if err := w.checkKey(); err != nil {
		return connectors.Answer{}, c.noticed(err)
	}
	if in.Records == 0 {
		return connectors.Answer{}, nil
	}
	w.results = c.begun.take(in, in.Records)
	items, err := w.items()
	if err == nil {
		err = w.apply(ctx, items)
	}
	if err != nil {
		c.begun.keep(in, w.results)
		return connectors.Answer{}, c.noticed(err)
	}
	return w.answer(), nil
}

// Work is the import of one batch.
type work struct {
	conn  *conn
	spec  connectors.ImportSpec
	batch connectors.Batch
	set   *structure
	form

	results []result // by index of the record
	waited  time.Duration
	cuts    int // requests whose answer never came
}

// A result is what became of a record.
type result struct {
	settled  bool
	failed   *fault.Error
	degraded *fault.Error
}

// checkKey compares the import's key with the entity's: changes go to the
// address of an entity, which is its key.
func (w *work) checkKey() error {
	if len(w.spec.Key) == 0 {
		return nil
	}
	want, have := slices.Sorted(slices.Values(w.spec.Key)), slices.Sorted(slices.Values(w.set.key))
	if slices.Equal(want, have) {
		return nil
	}
	return fault.Of("E_SCHEMA_DRIFT").WithSource(name).
		WithSentence("the key of the import is not the key of the entity set").
		WithCause(fmt.Sprintf("the key of %s is %q", w.spec.Table, w.set.key)).
		WithFix("name exactly these properties in `key`, then resume the job")
}

func (w *work) answer() connectors.Answer {
	var a connectors.Answer
	for i, r := range w.results {
		if r.failed != nil {
			a.Failed = append(a.Failed, connectors.Failure{Index: i, Fault: r.failed})
			continue
		}
		a.Applied++
		if r.degraded != nil {
			a.Degraded = append(a.Degraded, connectors.Failure{Index: i, Fault: r.degraded})
		}
	}
	return a
}

// apply sends what is not settled yet.
func (w *work) apply(ctx context.Context, items []*item) error {
	for len(items) > 0 {
		n := w.chunk(items)
		if err := w.settle(ctx, items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

const maxChunk = 1 << 20 // bytes of bodies in one request, unless one is larger

func (w *work) chunk(items []*item) int {
	bytes := 0
	for i, it := range items {
		bytes += len(it.body)
		if i > 0 && (i == int(w.conn.settings.Int("batch")) || bytes > maxChunk) {
			return i
		}
	}
	return len(items)
}

func (w *work) progressed() bool {
	return slices.ContainsFunc(w.results, func(r result) bool { return r.settled })
}

const (
	maxWait  = 20 * time.Second // that a page waits by itself in its middle, each time
	maxWaits = time.Minute      // and in all
)

// pause waits when the endpoint asks to slow down in the middle of a page. What
// was created already must not be sent again, so a short wait is better than
// another delivery. It reports whether it waited.
func (w *work) pause(ctx context.Context, f *fault.Error) bool {
	wait := max(f.RetryAfter, time.Second)
	if f.Class != fault.RateLimit || !w.progressed() || wait > maxWait || w.waited+wait > maxWaits {
		return false
	}
	w.waited += wait
	return sleep(ctx, wait) == nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begun remembers pages whose import was broken off in the middle, so that the
// next delivery to this connection does not create their first records again.
// It is a comfort, not a promise: another process knows nothing of it.
type begun struct {
	mu    sync.Mutex
	pages map[string][]result
	order []string
}

const maxBegun = 64

func (b *begun) take(in connectors.Batch, records int) []result {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := in.Page + "\x00" + in.Step
	kept := b.pages[name]
	delete(b.pages, name)
	if len(kept) != records {
		return make([]result, records)
	}
	return kept
}

func (b *begun) keep(in connectors.Batch, results []result) {
	if !slices.ContainsFunc(results, func(r result) bool { return r.settled }) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pages == nil {
		b.pages = map[string][]result{}
	}
	name := in.Page + "\x00" + in.Step
	b.pages[name] = results
	b.order = append(b.order, name)
	if len(b.order) > maxBegun {
		delete(b.pages, b.order[0])
		b.order = b.order[1:]
	}
}

// missing is a record without its key.
func missing(key string) *fault.Error {
	return fault.Of("E_MISSING").WithSource(name).WithField(key).
		WithSentence("the record has no value for a field of the key").
		WithFix("give the record its key, then retry it")
}

// unknownField is a field that the entity does not have: the whole page waits,
// for every record would fail.
func (w *work) unknownField(field string) error {
	return fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(field).
		WithCause(fmt.Sprintf("%s has no property %q", w.set.name, field))
}
