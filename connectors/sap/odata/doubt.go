package odata

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/page"
)

const (
	maxCuts = 2                      // times that a page goes on by itself after a cut
	cutWait = 500 * time.Millisecond // before the first of them; then twice that, …
)

// doubt goes on after a request whose answer never came: nobody knows which of
// its records were written. They are sent again; one that is then there already
// with the same values was. It reports whether to go on: not when a record
// could be created twice, because it does not bring its key.
func (w *work) doubt(ctx context.Context, err error, items []*item) bool {
	if !errors.As(err, new(cut)) || ctx.Err() != nil || w.cuts == maxCuts {
		return false
	}
	if slices.ContainsFunc(items, func(it *item) bool { return it.verb == create && it.path == "" }) {
		return false
	}
	w.cuts++
	for _, it := range items {
		it.doubt = true
	}
	return sleep(ctx, cutWait<<(w.cuts-1)) == nil
}

// compare settles the records that are there already after a cut.
func (w *work) compare(ctx context.Context, r *round) error {
	for _, it := range r.doubtful {
		// One by one: they are few, and each has fields of its own.
		err := w.lookUp(ctx, []*item{it}, w.sent(it), func(_ int, a *httpapi.Answer) {
			duplicate := it.fault
			it.fault = nil
			if a.Status == http.StatusOK && w.holds(a.Body, it) {
				w.done(it)
				return
			}
			w.failed(r, it, duplicate)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sent are the fields that were written, records within the record apart.
func (w *work) sent(it *item) []string {
	var fields []string
	for _, field := range it.record.Shape.Names {
		if field != it.drop && !w.set.byName[field].navigation {
			fields = append(fields, field)
		}
	}
	return fields
}

// holds reports whether an entity has the values that an item was sent with.
func (w *work) holds(body []byte, it *item) bool {
	var have map[string]json.RawMessage
	if json.Unmarshal(body, &have) != nil {
		return false
	}
	if inner, wrapped := have["d"]; wrapped && w.version == 2 && json.Unmarshal(inner, &have) != nil {
		return false
	}
	for _, field := range w.sent(it) {
		p := w.set.byName[field]
		v, _ := it.record.Field(field)
		written, err := w.appendJSON(nil, v, p)
		if err != nil || !sameValue(p.value(written), p.value(have[field])) {
			return false
		}
	}
	return true
}

// sameValue compares numbers by value and moments by their instant.
func sameValue(a, b page.Value) bool {
	if a.Kind() == page.KindDecimal && b.Kind() == page.KindDecimal {
		return a.Decimal().Cmp(b.Decimal()) == 0
	}
	if a.Kind() == page.KindTimestamp && b.Kind() == page.KindTimestamp {
		return a.Micros() == b.Micros()
	}
	return page.Equal(a, b)
}
