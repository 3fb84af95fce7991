package flow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"ropeway/protocol/page"
)

// traced gives the records of a page that was read their trace keys: the values
// of fields (`traceKey` of the export, else its key). What steps make of a record
// keeps its key, and so does what is parked. A record without one of the fields
// has none. d stands at the beginning of payload.
func traced(d *page.Decoder, payload []byte, fields []string) ([]byte, error) {
	if len(fields) == 0 || d.Records() == 0 {
		return payload, nil
	}
	e := page.NewEncoder()
	for d.Next() {
		if e.RawKeyed(d, traceKey(d.Record(), fields)) != nil {
			return payload, nil // the page is as full as one can be; it goes on without
		}
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return e.Finish(nil), nil
}

// traceKey is the text of one field, or a JSON list of the texts of several. A key
// that is too long for a page is its hash.
func traceKey(r page.Record, fields []string) string {
	texts := make([]string, len(fields))
	for i, name := range fields {
		v, ok := r.Field(name)
		if !ok || v.IsNull() {
			return ""
		}
		texts[i] = plain(v)
	}
	key := texts[0]
	if len(texts) > 1 {
		list, err := json.Marshal(texts)
		if err != nil {
			return ""
		}
		key = string(list)
	}
	if len(key) > page.MaxKey {
		sum := sha256.Sum256([]byte(key))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	return key
}

// plain is a value as people write it.
func plain(v page.Value) string {
	if v.Kind() == page.KindString {
		return v.Text()
	}
	return v.String()
}

// resolveOlder closes the parked entries of earlier jobs whose records have been
// delivered now (SEMANTICS §5.5). Nothing rests on it: it only tidies the list of
// errors.
func (e *Engine) resolveOlder(ctx context.Context, w *work, payload []byte) {
	waiting, err := e.Store.HasParked(ctx, w.scope, w.Flow)
	if err != nil || !waiting {
		return
	}
	d, err := page.NewDecoder(payload)
	if err != nil {
		return
	}
	var hashes []page.Hash
	for d.Next() {
		if key := d.Key(); key != "" {
			hash, err := w.trace(key)
			if err != nil {
				return
			}
			hashes = append(hashes, hash)
		}
	}
	if len(hashes) == 0 {
		return
	}
	if _, err := e.Store.ResolveByTrace(ctx, w.scope, w.Flow, w.Job, hashes, e.Clock()); err != nil {
		e.Log.Warn("older parked records not resolved", "page", w.Name, "error", err)
	}
}
