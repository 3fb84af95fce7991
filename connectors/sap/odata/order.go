package odata

import (
	"context"
	"encoding/json"
	"strings"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Many systems sort texts by the rules of a language but compare them by their
// bytes (CAP does as soon as a language is asked for). A read that goes on
// after "a" would then lose "B", which is sorted behind "a" and compares below
// it. Where the key holds texts, each step therefore proves that order and
// comparison agree about the position, and the read stops loudly if not.

// comparesTexts reports whether the key holds texts.
func (r *reader) comparesTexts() bool {
	for _, p := range r.key {
		if p.prim == text || p.prim == enumeration || p.prim == unknown {
			return true
		}
	}
	return false
}

// afterText asks for the records from the position on. When order and
// comparison agree, the first is the one at the position, and it is the last
// of those up to the position.
func (r *reader) afterText(ctx context.Context) ([]json.RawMessage, error) {
	from, err := r.beyond(r.key, r.position, "gt", "ge")
	if err != nil {
		return nil, err
	}
	records, err := r.query(ctx, both(r.where, from), "asc", r.top()+1)
	if err != nil {
		return nil, err
	}
	atFirst, err := r.isPosition(records)
	if err != nil {
		return nil, err
	}
	atLast, err := r.lastUpTo(ctx)
	if err != nil {
		return nil, err
	}
	if !atFirst || !atLast {
		if err := r.disagree(ctx); err != nil {
			return nil, err
		}
	}
	if atFirst {
		records = records[1:]
	}
	return records, nil
}

// lastUpTo reports whether the record at the position is the last of those
// that compare as up to it.
func (r *reader) lastUpTo(ctx context.Context) (bool, error) {
	upTo, err := r.beyond(r.key, r.position, "lt", "le")
	if err != nil {
		return false, err
	}
	records, err := r.query(ctx, both(r.where, upTo), "desc", 1)
	if err != nil {
		return false, err
	}
	return r.isPosition(records)
}

// isPosition reports whether the first of records is the one at the position.
func (r *reader) isPosition(records []json.RawMessage) (bool, error) {
	if len(records) == 0 {
		return false, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(records[0], &fields); err != nil {
		return false, nil
	}
	for i, p := range r.key {
		if !page.Equal(p.value(fields[p.name]), r.position[i]) {
			return false, nil
		}
	}
	return true, nil
}

// disagree is an error if the record at the position is still there: then the
// order is to blame. If it was deleted, nothing can be said about it.
func (r *reader) disagree(ctx context.Context) error {
	conditions := make([]string, len(r.key))
	for i, p := range r.key {
		literal, err := r.literal(r.position[i], p)
		if err != nil {
			return badPosition()
		}
		conditions[i] = p.name + " eq " + literal
	}
	records, err := r.query(ctx, both(r.where, strings.Join(conditions, " and ")), "", 1)
	if err != nil || len(records) == 0 {
		return err
	}
	return fault.Of("E_QUERY").WithSource(name).WithField(r.key[0].name).
		WithSentence("the endpoint sorts the key in another order than it compares it, so records would be lost").
		WithFix("take `language` out of the connection's settings, or name a key of numbers or GUIDs")
}

// checkNullKeys looks for records that no position comes before or after.
func (r *reader) checkNullKeys(ctx context.Context) error {
	for _, p := range r.key {
		if p.required || r.position == nil {
			continue
		}
		records, err := r.query(ctx, both(r.where, p.name+" eq null"), "", 1)
		if err != nil {
			return err
		}
		if len(records) > 0 {
			return nullKey(p.name)
		}
	}
	return nil
}
