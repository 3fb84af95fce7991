package odata

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// An item is one record on its way.
type item struct {
	index  int
	record page.Record
	origin page.Origin
	path   string // of the entity; "" when the record does not bring its key

	verb   verb
	body   []byte // of verb
	drop   string // the field that is left out
	fault  *fault.Error
	doubt  bool // a request with it was cut off: it may have been done
	broke  int  // times that the endpoint broke on it
	posted bool // of an upsert
	fixed  bool // its upsert has come to an update after an insert
}

// A verb is what is asked for.
type verb int

const (
	create verb = iota
	change
	remove
)

// items decodes the records that are not settled yet. A record that cannot be
// written as it is fails at once, without troubling the endpoint.
func (w *work) items() ([]*item, error) {
	d, err := page.NewDecoder(w.batch.Payload)
	if err != nil {
		return nil, err
	}
	var items []*item
	for i := 0; d.Next(); i++ {
		if i >= len(w.results) || w.results[i].settled {
			continue
		}
		r := d.Record()
		for _, field := range r.Shape.Names {
			if w.set.byName[field] == nil {
				return nil, w.unknownField(field)
			}
		}
		it := &item{index: i, origin: d.Origin(w.batch.Page),
			record: page.Record{Shape: r.Shape, Values: slices.Clone(r.Values)}}
		if w.prepare(it) {
			items = append(items, it)
		}
	}
	return items, d.Err()
}

// prepare makes an item's first request; false means that it has failed.
func (w *work) prepare(it *item) bool {
	absent := missingKey(it.record, w.set.key)
	if absent != "" && w.spec.Mode != connectors.Insert {
		w.fail(it, missing(absent))
		return false
	}
	if absent == "" && len(w.set.key) > 0 {
		var err error
		if it.path, err = w.entity(w.spec.Table, w.set, it.record); err != nil {
			w.fail(it, fault.From(err))
			return false
		}
	}
	return w.turn(it, map[string]verb{connectors.Insert: create, connectors.Update: change,
		connectors.Upsert: change, connectors.Delete: remove}[w.spec.Mode])
}

// turn gives an item its next request; false means that it has failed.
func (w *work) turn(it *item, next verb) bool {
	it.verb = next
	err := w.write(it)
	if err == nil {
		return true
	}
	f := fault.From(err)
	if w.mayDrop(it, f) {
		it.drop, it.fault = f.Field, f
		if err = w.write(it); err == nil {
			return true
		}
		f = fault.From(err)
	}
	w.fail(it, f)
	return false
}

// write makes the body of an item's verb.
func (w *work) write(it *item) error {
	it.body = nil
	if it.verb == remove {
		return nil
	}
	body := []byte{'{'}
	for i, field := range it.record.Shape.Names {
		p := w.set.byName[field]
		if field == it.drop || it.verb == change && slices.Contains(w.set.key, field) {
			continue
		}
		if it.verb == change && p.navigation && w.version == 2 {
			return fault.Of("E_VALUE").WithSource(name).WithField(field).
				WithCause("version 2 cannot change records within a record").
				WithFix("use mode insert, or import the inner records by a flow of their own")
		}
		if len(body) > 1 {
			body = append(body, ',')
		}
		body = append(appendString(body, field), ':')
		var err error
		if body, err = w.appendJSON(body, it.record.Values[i], p); err != nil {
			return err
		}
	}
	it.body = append(body, '}')
	return nil
}

// mayDrop reports whether a record may be tried without the field of a fault.
func (w *work) mayDrop(it *item, f *fault.Error) bool {
	_, present := it.record.Shape.Index(f.Field)
	return it.drop == "" && present && f.Class.Parks() && w.spec.FieldErrors.Removes(f.Field) &&
		!slices.Contains(w.set.key, f.Field)
}

func (w *work) fail(it *item, f *fault.Error) {
	w.results[it.index] = result{settled: true, failed: f}
}

func (w *work) done(it *item) {
	w.results[it.index] = result{settled: true, degraded: it.fault}
}

// operation is the request of an item.
func (w *work) operation(it *item) operation {
	op := operation{path: it.path, body: it.body, header: http.Header{}}
	switch it.verb {
	case create:
		op.method, op.path = http.MethodPost, url.PathEscape(w.spec.Table)
		w.identify(it, op.header)
	case change:
		op.method = http.MethodPatch
		if w.version == 2 {
			op.method = "MERGE"
		}
	case remove:
		op.method = http.MethodDelete
	}
	if it.body != nil {
		op.header.Set("Content-Type", "application/json")
		if w.version == 4 {
			op.header.Set("Content-Type", "application/json;IEEE754Compatible=true")
			op.header.Set("Prefer", "return=minimal")
		}
	}
	// "Only if it is there" keeps an update from creating; a type with ETags
	// demands a condition for every change.
	if it.verb != create && (w.set.etag || w.version == 4 && w.spec.Mode == connectors.Update) {
		op.header.Set("If-Match", "*")
	}
	return op
}

// identify names a creation by its origin and content, so that an endpoint that
// keeps such names does it once (Idempotency-Key; OASIS Repeatable Requests).
func (w *work) identify(it *item, header http.Header) {
	h := sha256.New()
	h.Write([]byte(it.origin.Root))
	h.Write(binary.BigEndian.AppendUint32([]byte{0}, it.origin.Index))
	h.Write([]byte(w.batch.Step))
	h.Write([]byte{0})
	h.Write(it.body)
	sum := h.Sum(nil)
	header.Set("Idempotency-Key", hex.EncodeToString(sum))
	header.Set("Repeatability-Request-Id", uuid.UUID(sum[:16]).String())
	if !w.batch.Created.IsZero() {
		header.Set("Repeatability-First-Sent", w.batch.Created.UTC().Format(http.TimeFormat))
	}
}
