// Package fault holds the one kind of error that people and other processes
// see: a code, a class that decides the reaction, a sentence, the cause and
// what to do. It owns the list of codes. It does not know connectors, pages or
// transports, and it never carries a wrapped error over the wire.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// A Class says what kind of trouble an error is; it alone decides the reaction
// (DELIVERY §8).
type Class string

// The classes. No others exist; an unknown class from outside reads as
// Internal.
const (
	Value        Class = "value"        // a value the target refuses
	Missing      Class = "missing"      // a row, parent or field that is not there
	Duplicate    Class = "duplicate"    // a key that is there already
	Parse        Class = "parse"        // bytes that cannot be read as a record
	TooLarge     Class = "too_large"    // a record or value beyond a limit
	Intermittent Class = "intermittent" // worth trying again as it is
	RateLimit    Class = "rate_limit"   // the endpoint asks to slow down
	Connection   Class = "connection"   // the endpoint cannot be reached
	Auth         Class = "auth"         // the endpoint rejects the credential
	Policy       Class = "policy"       // the agent's local policy says no
	SchemaDrift  Class = "schema_drift" // the target has changed its shape
	Internal     Class = "internal"     // a state that should not happen, or a person must look
)

// Parks reports whether an error of this class sets the record aside instead
// of holding up its page.
func (c Class) Parks() bool {
	switch c {
	case Value, Missing, Duplicate, Parse, TooLarge:
		return true
	}
	return false
}

// Known reports whether c is one of the classes of this package.
func (c Class) Known() bool {
	switch c {
	case Value, Missing, Duplicate, Parse, TooLarge, Intermittent, RateLimit,
		Connection, Auth, Policy, SchemaDrift, Internal:
		return true
	}
	return false
}

// An Error is what people read and what crosses the wire. Treat it as
// immutable: the With methods return changed copies.
type Error struct {
	Code       string        // stable, "E_" and upper case
	Class      Class         // decides the reaction
	Source     string        // who says so: a connector, "agent", "hub"
	Sentence   string        // what happened, one sentence without a full stop
	Cause      string        // why, as the source put it; "" if unknown
	Fix        string        // what to do, one sentence without a full stop
	Field      string        // the field that the target named, if it did
	RetryAfter time.Duration // rate_limit: how long to wait; 0 if not said

	wrapped error // for errors.Is and As inside this process only
}

// New makes an error. If code is in the list of Codes its fix is filled in;
// class and sentence are the caller's.
func New(class Class, code, sentence string) *Error {
	return &Error{Code: code, Class: class, Sentence: sentence, Fix: table[code].Fix}
}

// Of makes the error that the list of Codes describes. An unlisted code gives
// class internal and the code as its sentence.
func Of(code string) *Error {
	c, listed := table[code]
	if !listed {
		return &Error{Code: code, Class: Internal, Sentence: code}
	}
	return &Error{Code: code, Class: c.Class, Sentence: c.Sentence, Fix: c.Fix}
}

// WithCause returns a copy that says why. A cause that is an error is also
// wrapped; its text must hold no secret, for it crosses the wire.
func (e *Error) WithCause(cause any) *Error {
	c := *e
	switch v := cause.(type) {
	case nil:
	case error:
		c.Cause = v.Error()
		c.wrapped = v
	case string:
		c.Cause = v
	default:
		c.Cause = fmt.Sprint(v)
	}
	return &c
}

// WithSentence returns a copy that says what happened in other words.
func (e *Error) WithSentence(sentence string) *Error {
	c := *e
	c.Sentence = sentence
	return &c
}

// WithFix returns a copy that says what to do.
func (e *Error) WithFix(fix string) *Error {
	c := *e
	c.Fix = fix
	return &c
}

// WithSource returns a copy that says who reported it.
func (e *Error) WithSource(source string) *Error {
	c := *e
	c.Source = source
	return &c
}

// WithField returns a copy that names the offending field.
func (e *Error) WithField(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// WithRetryAfter returns a copy that says how long to wait.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = max(d, 0)
	return &c
}

// Wrap returns a copy that errors.Is and errors.As see err behind. The text of
// err is not shown; use WithCause for that.
func (e *Error) Wrap(err error) *Error {
	c := *e
	c.wrapped = err
	return &c
}

// Error reads "sentence: cause (fix)", leaving out what is empty.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Sentence)
	if e.Sentence == "" {
		b.WriteString(e.Code)
	}
	if e.Cause != "" {
		b.WriteString(": ")
		b.WriteString(e.Cause)
	}
	if e.Fix != "" {
		b.WriteString(" (")
		b.WriteString(e.Fix)
		b.WriteString(")")
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As the wrapped error.
func (e *Error) Unwrap() error { return e.wrapped }

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, fault.Of("E_NOT_FOUND")) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// From turns any error into an *Error: nil stays nil, an *Error in the chain
// is returned as it is, a passed deadline is E_TIMEOUT, anything else is
// E_INTERNAL with the text as its cause.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return Of("E_TIMEOUT").WithCause(err)
	}
	return Of("E_INTERNAL").WithCause(err)
}

// ClassOf is the class of From(err); "" for nil.
func ClassOf(err error) Class {
	if err == nil {
		return ""
	}
	return From(err).Class
}

// CodeOf is the code of From(err); "" for nil.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	return From(err).Code
}
