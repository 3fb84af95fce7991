package flow

import (
	"context"
	"encoding/json"
	"fmt"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/queue"
	"ropeway/hub/internal/store"
	"ropeway/hub/internal/transform"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// made is what one hop made of a page: at most one page for the next connection,
// and the accounts of every record that did not get there.
type made struct {
	payload  []byte // codec bytes that go on; nil when nothing does
	records  int
	counts   []model.StepCount
	outcomes store.Outcomes
	parked   []store.NewParked
}

// pure runs the steps of hop i from its pure step number from on.
func (w *work) pure(ctx context.Context, i, from int, h *page.Header, payload []byte) (made, error) {
	records := int(h.Records)
	programs := w.plan.hops[i].programs
	if from >= len(programs) || records == 0 {
		m := made{payload: payload, records: records}
		for _, s := range w.plan.hops[i].Pure[min(from, len(programs)):] {
			m.counts = append(m.counts, model.StepCount{Step: s.Name})
		}
		return m, nil
	}
	out, err := programs[from].Run(ctx, transform.In{Header: h, Payload: payload})
	if err != nil {
		return made{}, err
	}
	m := made{payload: out.Payload, records: out.Records, counts: out.Counts}
	for _, c := range out.Counts {
		m.outcomes.Filtered += c.Filtered
		m.outcomes.Parked += c.Parked
	}
	for _, r := range out.Parked {
		row, err := w.park(r)
		if err != nil {
			return made{}, err
		}
		m.parked = append(m.parked, row)
	}
	return m, nil
}

// park seals a record that could not be processed.
func (w *work) park(r transform.Parked) (store.NewParked, error) {
	row := store.NewParked{
		ID: page.NewID(), Step: r.Step, Page: w.inPage, Index: r.Index, Origin: r.Origin,
		Class: r.Fault.Class, Code: r.Fault.Code, Fingerprint: fingerprint(r.Step, r.Fault),
	}
	if r.Key != "" {
		var err error
		if row.TraceHash, err = w.trace(r.Key); err != nil {
			return row, err
		}
	}
	detail, err := json.Marshal(parkedDetail{Key: r.Key, Fault: r.Fault})
	if err != nil {
		return row, fmt.Errorf("encode fault of parked record: %w", err)
	}
	row.Record = page.SealBytes(w.key, r.Record, recordAAD(row.ID))
	row.Detail = page.SealBytes(w.key, detail, detailAAD(row.ID))
	return row, nil
}

// derive makes the page that leaves hop i.
func (w *work) derive(from *page.Header, i int, m made) *page.Page {
	h := *from
	h.Path += "/" + w.plan.hops[i].Head
	h.Prev, h.Last, h.TotalPages, h.TotalRecords = page.Hash{}, false, 0, 0
	return page.New(h, m.payload, m.records)
}

// publish puts a page on the queue of hop i's connection. When it returns, the
// page is durable.
func (e *Engine) publish(ctx context.Context, w *work, i int, p *page.Page) error {
	target, err := e.object(ctx, w.scope, w.plan.hops[i].Connection)
	if err != nil {
		return err
	}
	return e.Queue.Publish(ctx, queue.Message{
		Place: w.Place, Connection: target.ID, Kind: queue.KindPage, Name: p.Header.Name(),
		Job: w.Job, Step: w.plan.hops[i].Head, Flow: w.plan.flow, FlowVersion: w.plan.version,
		Body: page.SealPage(w.key, p, 0),
	})
}

// finish publishes what hop i made, if anything, and returns the names and the
// bytes published. Records that leave the last hop are delivered.
func (e *Engine) finish(ctx context.Context, w *work, i int, from *page.Header, m *made) ([]string, uint64, error) {
	if m.records == 0 {
		return nil, 0, nil
	}
	if i+1 == len(w.plan.hops) {
		m.outcomes.Delivered += int64(m.records)
		return nil, 0, nil
	}
	next := w.derive(from, i, *m)
	if err := e.publish(ctx, w, i+1, next); err != nil {
		return nil, 0, err
	}
	return []string{next.Header.Name()}, uint64(next.Header.PayloadSize), nil
}

// parkedDetail is what is sealed beside a parked record.
type parkedDetail struct {
	Key   string       `json:"key,omitempty"`
	Fault *fault.Error `json:"fault"`
}

func recordAAD(id page.ID) []byte { return []byte("parked record " + id.String()) }
func detailAAD(id page.ID) []byte { return []byte("parked detail " + id.String()) }
func cursorAAD(c page.Chain) []byte {
	return []byte("cursor " + c.String())
}
func answerAAD(name string) []byte { return []byte("answer " + name) }
