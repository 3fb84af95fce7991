package flow

import (
	"context"
	"errors"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// accept takes one page of an export in (DELIVERY §2.3, §3.1): check, run the
// pure steps, publish what they made, then record it all in one transaction.
// When it returns Accepted or Already the page may be forgotten by its sender.
//
// A read without a key cannot be repeated, so that a trouble of this hub that
// passes must not end it: the page waits here, and those behind it in the agent's
// buffer.
func (r *reading) accept(ctx context.Context, p *page.Page) (control.AckStatus, *fault.Error) {
	for wait := patienceFirst; ; wait = min(2*wait, patienceMost) {
		status, err := r.take(ctx, p)
		if err == nil {
			r.loggedIn(nil)
			return status, nil
		}
		if ctx.Err() != nil {
			// Nobody has judged the page; whoever joins the read sends it again.
			return control.Refused, fault.New(fault.Intermittent, "E_TUNNEL_CUT", "the hub gave up this call").
				WithSource("hub").WithCause(context.Cause(ctx))
		}
		if r.plan.unkeyed() && r.end.group.IsZero() && fault.CodeOf(err) == "E_DISK" {
			return control.Refused, fault.Of("E_SPILL").WithSource("hub").WithCause(fault.From(err).Cause)
		}
		if !r.plan.unkeyed() || !passes(err) {
			return control.Refused, fault.From(err)
		}
		r.engine.Log.Warn("page of a read without a key waits", "page", p.Header.Name(), "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// How long a page waits before the next try.
const (
	patienceFirst = 200 * time.Millisecond
	patienceMost  = 5 * time.Second
)

// passes reports whether an error may be gone in a while: the queue or the store
// does not work. What the steps or the ledger say of the page stays.
func passes(err error) bool {
	var f *fault.Error
	return !errors.As(err, &f) || f.Class == fault.Intermittent
}

func (r *reading) take(ctx context.Context, p *page.Page) (control.AckStatus, error) {
	h := &p.Header
	if err := r.belongs(h); err != nil {
		return control.Refused, err
	}
	e := r.engine
	hash := h.Hash()
	known, why, err := e.Store.CheckPage(ctx, store.PageCheck{
		Scope: r.scope, Root: h.Name(), Hash: hash, Prev: h.Prev, Records: uint64(h.Records),
		Last: h.Last, TotalPages: h.TotalPages, TotalRecords: h.TotalRecords,
	})
	if err != nil {
		return control.Refused, err
	}
	if known != store.PageNew {
		return e.verdict(known, why, h)
	}
	give, err := e.memory.take(ctx, r.end.object.ID, weight(h, len(p.Payload)))
	if err != nil {
		return control.Refused, err
	}
	defer give()
	payload, cursor, err := r.open(p)
	if err != nil {
		return control.Refused, err
	}
	m, err := r.pureOf(ctx, h, payload)
	if err != nil {
		return control.Refused, err
	}
	names, bytes, err := e.finish(ctx, r.work, 0, h, &m)
	if err != nil {
		return control.Refused, err
	}
	if err := e.at("accept published", r.work); err != nil {
		return control.Refused, err
	}
	accepted, err := e.Store.Accept(ctx, store.Acceptance{
		Scope: r.scope, Root: h.Name(), PageHash: hash, Prev: h.Prev,
		Records: uint64(h.Records), Bytes: uint64(h.PayloadSize),
		Published: names, PublishedBytes: bytes, Steps: m.counts, Outcomes: m.outcomes,
		Parked: m.parked, Cursor: r.seal(cursor),
		Last: h.Last, TotalPages: h.TotalPages, TotalRecords: h.TotalRecords, Now: e.Clock(),
	})
	if err != nil {
		return control.Refused, err
	}
	if err := e.at("accepted", r.work); err != nil {
		return control.Refused, err
	}
	e.moved(ctx, r.work, r.chain, accepted.Progress)
	if accepted.Settled {
		e.settledTo(ctx, r.work, h, accepted.SettledTo)
	}
	return e.verdict(accepted.Status, accepted.Fault, h)
}

// open reads a page's payload, gives its records their trace keys, and returns
// the cursor behind it.
func (r *reading) open(p *page.Page) (payload, cursor []byte, err error) {
	if payload, err = p.Open(); err != nil {
		return nil, nil, err
	}
	decoder, err := page.NewDecoder(payload)
	if err != nil {
		return nil, nil, err
	}
	cursor = decoder.Cursor()
	switch {
	case decoder.Records() != int(p.Header.Records):
		return nil, nil, fault.Of("E_CHECKSUM").WithCause("the header counts other records than the payload holds")
	case !r.plan.unkeyed() && !p.Header.Last && len(cursor) == 0:
		// The next request would begin from the start.
		return nil, nil, fault.Of("E_PAGE_FORMAT").WithCause("a page of a read with a key does not say where to go on")
	}
	payload, err = traced(decoder, payload, r.plan.traceKey)
	return payload, cursor, err
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
func (r *reading) pureOf(ctx context.Context, h *page.Header, payload []byte) (made, error) {
	w := *r.work
	w.inPage = h.Name() // the message is the read request
	m, err := w.pure(ctx, 0, 0, h, payload)
	if err != nil {
		return m, err
	}
	n := int64(h.Records)
	head := model.StepCount{Step: w.plan.hops[0].Head, In: n, Out: n}
	m.counts = append([]model.StepCount{head}, m.counts...)
	return m, nil
}
