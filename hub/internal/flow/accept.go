package flow

import (
	"context"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// accept takes one page of an export in (DELIVERY §2.3, §3.1): check, run the
// pure steps, publish what they made, then record it all in one transaction.
// When it returns Accepted or Already the page may be forgotten by its sender.
func (r *reading) accept(ctx context.Context, p *page.Page) (control.AckStatus, *fault.Error) {
	status, err := r.take(ctx, p)
	if err != nil {
		return control.Refused, fault.From(err)
	}
	return status, nil
}

func (r *reading) take(ctx context.Context, p *page.Page) (control.AckStatus, error) {
	h := &p.Header
	if err := r.belongs(h); err != nil {
		return control.Refused, err
	}
	e := r.engine
	hash := h.Hash()
	known, err := e.Store.CheckPage(ctx, store.PageCheck{
		Scope: r.scope, Root: h.Name(), Hash: hash, Prev: h.Prev,
	})
	if err != nil {
		return control.Refused, err
	}
	if known != store.PageNew {
		return e.verdict(known, nil, h)
	}
	payload, err := p.Open()
	if err != nil {
		return control.Refused, err
	}
	decoder, err := page.NewDecoder(payload)
	if err != nil {
		return control.Refused, err
	}
	if decoder.Records() != int(h.Records) {
		return control.Refused, fault.Of("E_CHECKSUM").WithCause("the header counts other records than the payload holds")
	}
	pageWork := *r.work
	pageWork.Name = h.Name()
	m, err := pageWork.pureOf(ctx, r.Delivery.Name, h, payload)
	if err != nil {
		return control.Refused, err
	}
	names, bytes, err := e.finish(ctx, r.work, 0, h, &m)
	if err != nil {
		return control.Refused, err
	}
	accepted, err := e.Store.Accept(ctx, store.Acceptance{
		Scope: r.scope, Root: h.Name(), PageHash: hash, Prev: h.Prev,
		Records: uint64(h.Records), Bytes: uint64(h.PayloadSize),
		Published: names, PublishedBytes: bytes, Steps: m.counts, Outcomes: m.outcomes,
		Parked: m.parked, Cursor: r.seal(decoder.Cursor()),
		Last: h.Last, TotalPages: h.TotalPages, TotalRecords: h.TotalRecords, Now: e.Clock(),
	})
	if err != nil {
		return control.Refused, err
	}
	if err := e.moved(ctx, r.work, r.chain, accepted.Progress); err != nil {
		return control.Refused, err
	}
	return e.verdict(accepted.Status, accepted.Fault, h)
}

// belongs refuses a page that names anything but what was asked for; a hostile
// agent gains nothing by sending another tenant's ids.
func (r *reading) belongs(h *page.Header) error {
	want := r.header()
	if h.Tenant != want.Tenant || h.Environment != want.Environment || h.Flow != want.Flow ||
		h.FlowVersion != want.FlowVersion || h.Chain != want.Chain || h.Path != "" || h.Pushed() {
		return fault.New(fault.Internal, "E_PAGE_FOREIGN", "The agent sent a page that was not asked for").
			WithCause("page " + h.Name() + " on request " + r.Name)
	}
	return nil
}

// verdict turns what the ledger makes of a page into the answer on the wire.
func (e *Engine) verdict(s store.PageStatus, f *fault.Error, h *page.Header) (control.AckStatus, error) {
	switch s {
	case store.PageAccepted:
		return control.Accepted, nil
	case store.PageAlready:
		return control.Already, nil
	case store.PageSuperseded:
		return control.Superseded, nil
	case store.PageConflict:
		e.Log.Error("page conflict", "page", h.Name())
		return control.Conflict, orElse(f, "E_PAGE_CONFLICT", h)
	case store.PageGap:
		return control.Refused, orElse(f, "E_PAGE_GAP", h)
	}
	return control.Refused, orElse(f, "E_CHECKSUM", h)
}

func orElse(f *fault.Error, code string, h *page.Header) error {
	if f != nil {
		return f
	}
	return fault.Of(code).WithCause("page " + h.Name())
}

// pureOf counts the export itself and runs the pure steps behind it.
func (w *work) pureOf(ctx context.Context, _ string, h *page.Header, payload []byte) (made, error) {
	m, err := w.pure(ctx, 0, 0, h, payload)
	if err != nil {
		return m, err
	}
	n := int64(h.Records)
	head := model.StepCount{Step: w.plan.hops[0].Head, In: n, Out: n}
	m.counts = append([]model.StepCount{head}, m.counts...)
	return m, nil
}
