package control

import (
	"math"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

// FromError makes the message of any error; nil stays nil. Texts are cut at
// fault.MaxText, and what an error wraps stays behind.
func FromError(err error) *Fault {
	e := fault.From(err)
	if e == nil {
		return nil
	}
	ms := int64(e.RetryAfter / time.Millisecond)
	if e.RetryAfter%time.Millisecond > 0 {
		ms++
	}
	return &Fault{
		Code:         text(e.Code),
		Class:        text(string(e.Class)),
		Source:       text(e.Source),
		Sentence:     text(e.Sentence),
		Cause:        text(e.Cause),
		Fix:          text(e.Fix),
		Field:        text(e.Field),
		RetryAfterMs: max(ms, 0),
	}
}

// ToError reads a fault of the other side; nil stays nil. An unknown class is
// internal, as in the JSON form.
func ToError(f *Fault) *fault.Error {
	if f == nil {
		return nil
	}
	e := &fault.Error{
		Code:       text(f.GetCode()),
		Class:      fault.Class(f.GetClass()),
		Source:     text(f.GetSource()),
		Sentence:   text(f.GetSentence()),
		Cause:      text(f.GetCause()),
		Fix:        text(f.GetFix()),
		Field:      text(f.GetField()),
		RetryAfter: millis(f.GetRetryAfterMs()),
	}
	if e.Code == "" {
		e.Code = "E_INTERNAL"
	}
	if !e.Class.Known() {
		e.Class = fault.Internal
	}
	return e
}

func millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// text makes s fit for a message: valid UTF-8, at most fault.MaxText bytes.
func text(s string) string {
	if len(s) > fault.MaxText {
		s = s[:fault.MaxText]
	}
	return strings.ToValidUTF8(s, "")
}
