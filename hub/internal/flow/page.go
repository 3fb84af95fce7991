package flow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"ropeway/connectors"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/hub/internal/transform"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// page works off one page that waits for an import (DELIVERY §3.2): execute, or
// use the answer of an earlier execution, run the pure steps, publish, and
// record it all in one receipt.
func (e *Engine) page(ctx context.Context, w *work) error {
	sealed, err := page.PeekHeader(w.Body)
	if err != nil {
		return err
	}
	give, err := e.memory.take(ctx, w.Connection, weight(&sealed, len(w.Body)))
	if err != nil {
		return err
	}
	defer give()
	p, _, err := page.OpenPage(w.Body, e.keys(ctx, w.scope.Tenant))
	if err != nil {
		return err
	}
	w.inPage = w.Name
	if p.Header.Name() != w.Name {
		return fault.Of("E_CHECKSUM").WithCause("the page under this name is another one")
	}
	payload, err := p.Open()
	if err != nil {
		return err
	}
	in, err := w.enter(ctx, &p.Header, payload)
	if err != nil {
		return err
	}
	answer, out := connectors.Answer{}, in.made
	if in.records > 0 && !in.through {
		if answer, err = e.answer(ctx, w, in, p); err != nil {
			return err
		}
	}
	if !in.through {
		if out, err = w.leave(ctx, in, answer, &p.Header); err != nil {
			return err
		}
	}
	if err := e.at("answered", w); err != nil {
		return err
	}
	names, bytes, err := e.finish(ctx, w, in.hop, &p.Header, &out)
	if err != nil {
		return err
	}
	if err := e.at("published", w); err != nil {
		return err
	}
	if out.outcomes.Delivered > 0 {
		e.resolveOlder(ctx, w, out.payload)
	}
	settled, err := e.Store.Settle(ctx, store.Receipt{
		Scope: w.scope, Name: w.Name, Job: w.Job, Step: w.plan.hops[in.hop].Head, Claim: w.Claim,
		Counts: out.counts, Outcomes: out.outcomes, Published: names, PublishedBytes: bytes,
		ConsumedBytes: uint64(p.Header.PayloadSize), Parked: out.parked,
		ResultHash: hashOf(answer), Now: e.Clock(),
		Tried: w.tried, Stop: w.stop(in.hop, answer),
	})
	if err != nil {
		return err
	}
	e.moved(ctx, w, p.Header.Chain, settled.Progress)
	if len(answer.Failed) > 0 {
		e.watch.changed(w.Job) // it may have stopped
	}
	if settled.Settled {
		e.settledTo(ctx, w, &p.Header, settled.SettledTo)
	}
	return e.at("settled", w)
}

// entered is a page in front of the import that heads hop.
type entered struct {
	made
	hop     int
	own     *page.Header // header that describes payload
	through bool         // no import is behind: what is left is delivered
}

// enter finds the import of a page. A retried record may enter at a pure step:
// then the rest of its hop runs first, in this delivery.
func (w *work) enter(ctx context.Context, h *page.Header, payload []byte) (entered, error) {
	i, at, err := w.plan.entry(w.Step)
	if err != nil {
		return entered{}, err
	}
	if at < 0 {
		return entered{hop: i, own: h, made: made{payload: payload, records: int(h.Records)}}, nil
	}
	m, err := w.pure(ctx, i, at, h, payload)
	if err != nil {
		return entered{}, err
	}
	own := *h
	own.Records = uint32(m.records)
	if i+1 == len(w.plan.hops) {
		return entered{hop: i, own: &own, made: m, through: true}, nil
	}
	return entered{hop: i + 1, own: &own, made: m}, nil
}

// answer executes the import, unless an earlier execution left its answer. A
// fault that concerns the values of the whole page parks every record of it.
func (e *Engine) answer(ctx context.Context, w *work, in entered, p *page.Page) (connectors.Answer, error) {
	var answer connectors.Answer
	if w.state.Answer != nil {
		return e.openAnswer(ctx, w, w.state.Answer)
	}
	ep, err := e.endpoint(ctx, w.scope, w.plan.hops[in.hop].Connection)
	if err != nil {
		return answer, err
	}
	loggedIn, err := e.logIn(ctx, w, ep)
	if err != nil {
		return answer, err
	}
	answer, err = e.execute(ctx, w, in, ep, p)
	loggedIn(err)
	if err := e.at("executed", w); err != nil {
		return answer, err
	}
	if f := fault.From(err); f != nil {
		if !parksPage(f, w.Attempt) {
			return answer, err
		}
		answer = connectors.Answer{}
		for i := range in.records {
			answer.Failed = append(answer.Failed, connectors.Failure{Index: i, Fault: f})
		}
	}
	if err := checkAnswer(answer, in.records); err != nil {
		return answer, err
	}
	if in.hop+1 == len(w.plan.hops) && len(w.plan.hops[in.hop].Pure) == 0 {
		return answer, nil
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return answer, fmt.Errorf("encode answer: %w", err)
	}
	sealed := page.SealBytes(w.key, raw, answerAAD(w.Name))
	stands, err := e.Store.StoreAnswer(ctx, w.scope, w.Name, w.Claim, sealed, e.Clock())
	if err != nil || bytes.Equal(stands, sealed) {
		return answer, err
	}
	// Another execution has answered before, and may have published what follows.
	return e.openAnswer(ctx, w, stands)
}

func (e *Engine) openAnswer(ctx context.Context, w *work, sealed []byte) (answer connectors.Answer, err error) {
	raw, err := page.OpenBytes(sealed, answerAAD(w.Name), e.keys(ctx, w.scope.Tenant))
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	return answer, err
}

// checkAnswer refuses an answer that does not account for every record once.
func checkAnswer(a connectors.Answer, records int) error {
	last := -1
	for _, f := range a.Failed {
		if f.Index <= last || f.Index >= records || f.Fault == nil {
			return fault.New(fault.Internal, "E_INTERNAL", "the answer to an import names records that do not exist")
		}
		last = f.Index
	}
	if a.Applied+len(a.Failed) != records {
		return fault.New(fault.Internal, "E_INTERNAL", "the answer to an import does not add up").
			WithCause(fmt.Sprintf("%d applied and %d failed of %d", a.Applied, len(a.Failed), records))
	}
	return nil
}

// execute runs the import in the hub or at an agent.
func (e *Engine) execute(
	ctx context.Context, w *work, in entered, ep *endpoint, p *page.Page,
) (connectors.Answer, error) {
	head := w.plan.hops[in.hop]
	spec := importSpec(head.Import)
	if ep.group.IsZero() {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		conn, release, err := e.open.take(ctx, e, ep)
		if err != nil {
			return connectors.Answer{}, err
		}
		answer, err := ep.typ.Import(ctx, conn, spec, connectors.Batch{
			Page: w.Name, Step: head.Head, Payload: in.payload, Records: in.records, Created: p.Header.Created,
		})
		release(err)
		return answer, err
	}
	step, err := e.runStep(ctx, w.scope, ep, control.KindImport)
	if err != nil {
		return connectors.Answer{}, err
	}
	w.address(step)
	step.Step = head.Head
	if err := encodeSpec(step, spec); err != nil {
		return connectors.Answer{}, err
	}
	sent := p
	if in.own != &p.Header {
		sent = page.New(*in.own, in.payload, in.records)
	}
	done, err := e.Gateway.Run(ctx, ep.group, step, gateway.Exchange{Page: sent})
	if err != nil {
		return connectors.Answer{}, err
	}
	if f := control.ToError(done.Fault); f != nil {
		return connectors.Answer{}, f
	}
	var answer connectors.Answer
	if err := json.Unmarshal(done.Answer, &answer); err != nil {
		return answer, fault.New(fault.Internal, "E_INTERNAL", "the agent's answer cannot be read").WithCause(err)
	}
	return answer, nil
}

// leave takes the failed records out, counts the import and runs the pure steps
// behind it.
func (w *work) leave(ctx context.Context, in entered, a connectors.Answer, h *page.Header) (made, error) {
	failed := int64(len(a.Failed))
	survivors, parked, err := w.split(in, a)
	if err != nil {
		return made{}, err
	}
	out, err := w.pure(ctx, in.hop, 0, survivors.header(h), survivors.payload)
	if err != nil {
		return made{}, err
	}
	count := model.StepCount{Step: w.plan.hops[in.hop].Head, In: int64(in.records), Parked: failed}
	count.Out = count.In - failed
	out.counts = append(append(in.counts, count), out.counts...)
	out.parked = append(append(in.parked, parked...), out.parked...)
	out.outcomes.Filtered += in.outcomes.Filtered
	out.outcomes.Parked += in.outcomes.Parked + failed
	return out, nil
}

// remaining is what an import let through.
type remaining struct {
	payload []byte
	records int
}

// header describes the remaining records with the page's identity, so that
// now() and uuid() of later steps stay the same in every run.
func (r remaining) header(h *page.Header) *page.Header {
	own := *h
	own.Records = uint32(r.records)
	return &own
}

// split parts a page into what the import took and what it refused.
func (w *work) split(in entered, a connectors.Answer) (remaining, []store.NewParked, error) {
	if len(a.Failed) == 0 {
		return remaining{in.payload, in.records}, nil, nil
	}
	d, err := page.NewDecoder(in.payload)
	if err != nil {
		return remaining{}, nil, err
	}
	var parked []store.NewParked
	out, next := page.NewEncoder(), 0
	for i := 0; d.Next(); i++ {
		if next == len(a.Failed) || a.Failed[next].Index != i {
			out.Raw(d)
			continue
		}
		row, err := w.parkCurrent(d, uint32(i), w.plan.hops[in.hop].Head, a.Failed[next].Fault)
		if err != nil {
			return remaining{}, nil, err
		}
		parked = append(parked, row)
		next++
	}
	if err := d.Err(); err != nil {
		return remaining{}, nil, err
	}
	n := out.Records()
	return remaining{out.Finish(nil), n}, parked, nil
}

// parkCurrent parks the record the decoder stands on.
func (w *work) parkCurrent(d *page.Decoder, index uint32, step string, f *fault.Error) (store.NewParked, error) {
	record := d.Record()
	raw, err := record.MarshalJSON()
	if err != nil {
		return store.NewParked{}, err
	}
	return w.park(transform.Parked{
		Index: index, Origin: d.Origin(page.Root(w.inPage)), Key: d.Key(), Step: step, Record: raw, Fault: f,
	})
}

// stop is why the job pauses with the receipt of a page with failures, when the
// step says `onError: stop`.
func (w *work) stop(i int, a connectors.Answer) *fault.Error {
	if len(a.Failed) == 0 || w.plan.hops[i].Import.OnError != "stop" {
		return nil
	}
	return fault.New(fault.Internal, "E_STOPPED", "the job stopped at its first parked record, as the step asks").
		WithCause(a.Failed[0].Fault.Error()).WithFix("Fix and retry the parked record, then resume the flow")
}

func hashOf(a connectors.Answer) page.Hash {
	a.Already = false
	raw, err := json.Marshal(a)
	if err != nil {
		return page.Hash{}
	}
	return sha256.Sum256(raw)
}

// address fills in what names the work on the wire.
func (w *work) address(step *control.RunStep) {
	step.Name = w.Name
	step.Claim = &control.Claim{Created: w.Claim.Created, Delivery: w.Claim.Delivery}
	step.Job, step.Flow, step.FlowVersion = w.Job[:], w.plan.flow[:], w.plan.version
}
