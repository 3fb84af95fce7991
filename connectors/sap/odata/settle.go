package odata

import (
	"context"
	"net/http"
	"strings"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

// breather is the pause before a record on which the endpoint broke is sent
// once more.
const breather = 300 * time.Millisecond

// settle sends a chunk until each of its records has a result. Records that
// need another request (an update that became an insert, a field left out) are
// sent before the rest of the page, so that later records of the same key find
// them done.
func (w *work) settle(ctx context.Context, items []*item) error {
	for len(items) > 0 {
		ops := make([]operation, len(items))
		for i, it := range items {
			ops[i] = w.operation(it)
		}
		answers, err := w.conn.perform(ctx, w.version, ops)
		if err == nil && len(answers) == 0 {
			err = emptyBatch()
		}
		if err != nil {
			if w.pause(ctx, fault.From(err)) || w.doubt(ctx, err, items) {
				continue
			}
			return err
		}
		again, err := w.judge(ctx, items[:len(answers)], answers)
		if err != nil {
			return err
		}
		items = append(again, items[len(answers):]...)
	}
	return nil
}

// A round is one set of answers being judged.
type round struct {
	again    []*item        // to send once more
	suspects []*item        // creations that may have failed because the record is there
	why      []*fault.Error // of suspects
	broken   []*item        // the endpoint broke on them
	denied   []*item        // this user may not
	doubtful []*item        // there already, perhaps by a request that was cut off
	limited  *fault.Error   // the endpoint asks to slow down
	forbids  *fault.Error   // the last of denied
	breaks   *fault.Error   // the last of broken
}

func (w *work) judge(ctx context.Context, items []*item, answers []*httpapi.Answer) ([]*item, error) {
	var r round
	for i, it := range items {
		if err := w.judgeOne(&r, it, answers[i]); err != nil {
			return nil, err
		}
	}
	if err := w.examine(ctx, &r); err != nil {
		return nil, err
	}
	if err := w.compare(ctx, &r); err != nil {
		return nil, err
	}
	if err := w.judgeDenied(&r, len(items)); err != nil {
		return nil, err
	}
	if err := w.judgeBroken(ctx, &r, len(items)); err != nil {
		return nil, err
	}
	if r.limited != nil && !w.pause(ctx, r.limited) {
		return nil, r.limited
	}
	return r.again, nil
}

// judgeOne settles an item or puts it where it is looked at again.
func (w *work) judgeOne(r *round, it *item, a *httpapi.Answer) error {
	absent := a.Status == http.StatusNotFound || a.Status == http.StatusGone ||
		a.Status == http.StatusPreconditionFailed && it.verb != create
	f := (*fault.Error)(nil)
	if a.Status >= 300 {
		f = w.conn.faultOf(a, w.set)
	}
	if a.Status == http.StatusBadGateway || a.Status == http.StatusGatewayTimeout {
		it.doubt = true // what is between cannot say what was done
	}
	switch {
	case f == nil:
		w.done(it)
	case f.Class == fault.Auth:
		return f
	case f.Class == fault.RateLimit:
		r.limited, r.again = f, append(r.again, it)
	case a.Status == http.StatusForbidden:
		r.denied, r.forbids = append(r.denied, it), f
	case it.verb == remove && absent:
		w.done(it)
	case it.verb == change && absent && w.spec.Mode == connectors.Upsert && !it.posted:
		it.posted = true
		w.retry(r, it, create)
	case it.verb == change && absent:
		w.fail(it, fault.Of("E_MISSING").WithSource(name).WithCause(f.Cause).
			WithSentence("there is no record with this key"))
	case f.Code == "E_DUPLICATE":
		w.duplicate(r, it, f)
	case it.verb == create && it.path != "" && suspicious(a.Status, f):
		r.suspects, r.why = append(r.suspects, it), append(r.why, f)
	case f.Class == fault.Intermittent:
		r.broken, r.breaks = append(r.broken, it), f
	default:
		w.failed(r, it, f)
	}
	return nil
}

// suspicious reports whether a failed creation may be a duplicate that the
// endpoint does not call so: it says neither a field nor a code that is known.
func suspicious(status int, f *fault.Error) bool {
	return status >= 500 || f.Field == "" && (status == http.StatusBadRequest || status == http.StatusUnprocessableEntity)
}

func (w *work) retry(r *round, it *item, next verb) {
	if w.turn(it, next) {
		r.again = append(r.again, it)
	}
}

// duplicate handles a creation whose key is there: that is what an upsert that
// was overtaken updates.
func (w *work) duplicate(r *round, it *item, f *fault.Error) {
	if w.spec.Mode == connectors.Upsert && it.verb == create && !it.fixed {
		it.fixed = true
		w.retry(r, it, change)
		return
	}
	if it.doubt && it.path != "" {
		it.fault = f
		r.doubtful = append(r.doubtful, it)
		return
	}
	w.failed(r, it, f)
}

// failed settles an item that the endpoint refuses, after one more try without
// the field that it names if the import allows that.
func (w *work) failed(r *round, it *item, f *fault.Error) {
	if !f.Class.Parks() {
		f = fault.Of("E_VALUE").WithSource(name).WithCause(f.Cause).WithField(f.Field)
	}
	if w.mayDrop(it, f) {
		it.drop, it.fault = f.Field, f
		w.retry(r, it, it.verb)
		return
	}
	w.fail(it, f)
}

// examine asks whether the records of suspects are there.
func (w *work) examine(ctx context.Context, r *round) error {
	return w.lookUp(ctx, r.suspects, w.set.key, func(i int, a *httpapi.Answer) {
		w.examined(r, r.suspects[i], r.why[i], a)
	})
}

// lookUp reads fields of records and hands over the answers, one by one.
func (w *work) lookUp(ctx context.Context, items []*item, fields []string, f func(int, *httpapi.Answer)) error {
	for done := 0; done < len(items); {
		ops := make([]operation, 0, len(items)-done)
		for _, it := range items[done:] {
			ops = append(ops, operation{method: http.MethodGet, header: http.Header{},
				path: it.path + "?$select=" + escapeQuery(strings.Join(fields, ","))})
		}
		answers, err := w.conn.perform(ctx, w.version, ops)
		if err != nil {
			return err
		}
		if len(answers) == 0 {
			return emptyBatch()
		}
		for i, a := range answers {
			f(done+i, a)
		}
		done += len(answers)
	}
	return nil
}

func emptyBatch() error {
	return fault.Of("E_INTERMITTENT").WithSource(name).WithCause("the endpoint's answer to $batch is empty")
}

func (w *work) examined(r *round, it *item, why *fault.Error, a *httpapi.Answer) {
	switch {
	case a.Status == http.StatusOK:
		w.duplicate(r, it, fault.Of("E_DUPLICATE").WithSource(name).WithCause(why.Cause))
	case why.Class == fault.Intermittent:
		r.broken, r.breaks = append(r.broken, it), why
	default:
		w.failed(r, it, why)
	}
}

// judgeDenied: when the user may write none of the records the job waits for a
// grant; single ones are set aside.
func (w *work) judgeDenied(r *round, all int) error {
	if len(r.denied) == 0 {
		return nil
	}
	f := r.forbids
	if len(r.denied) == all && !w.progressed() {
		return fault.Of("E_PERMISSION").WithSource(name).WithCause(f.Cause)
	}
	for _, it := range r.denied {
		w.fail(it, fault.New(fault.Value, "E_PERMISSION", "the endpoint's user may not write this record").
			WithSource(name).WithCause(f.Cause))
	}
	return nil
}

// judgeBroken: an endpoint that breaks on everything is out of order and the
// page is tried again; one that breaks on a record twice, while others pass or
// its service answers, cannot take that record.
func (w *work) judgeBroken(ctx context.Context, r *round, all int) error {
	if len(r.broken) == 0 {
		return nil
	}
	f := r.breaks
	if len(r.broken) == all && all > 1 {
		return f
	}
	if len(r.broken) == all && !w.progressed() {
		if err := w.conn.ping(ctx); err != nil {
			return err
		}
	}
	if err := sleep(ctx, breather); err != nil {
		return err
	}
	for _, it := range r.broken {
		if it.broke++; it.broke == 1 {
			r.again = append(r.again, it)
			continue
		}
		w.fail(it, fault.Of("E_VALUE").WithSource(name).WithCause(f.Cause).
			WithSentence("the endpoint breaks on this record"))
	}
	return nil
}
