package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

var errSlow = errors.New("no whole answer within the time allowed (timeout)")

// toFault makes a fault of an error that kept an answer from coming. Texts of
// the transport are shown from their innermost error only: the outer ones hold
// the whole address, and with it values.
func (c *Client) toFault(ctx context.Context, err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	if ctx.Err() != nil {
		return c.ended(ctx)
	}
	of := func(code string) *fault.Error { return fault.Of(code).WithSource(c.config.Source).Wrap(err) }
	var dial dialError
	switch {
	case tlsFailed(err):
		return of("E_TLS").WithCause(innermost(err))
	case errors.As(err, &dial) && errors.Is(err, context.DeadlineExceeded):
		return of("E_UNREACHABLE").WithCause("no connection within the time allowed (connectTimeout)")
	case errors.As(err, &dial):
		return of("E_UNREACHABLE").WithCause(innermost(err))
	case strings.Contains(err.Error(), "malformed HTTP"),
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return of("E_UNREACHABLE").WithCause("what answers there does not speak " + strings.ToUpper(c.config.Root.Scheme))
	case strings.Contains(err.Error(), "headers exceeded"):
		return of("E_UNREACHABLE").WithCause(fmt.Sprintf("the answer's header is larger than %d KiB", maxHeader>>10))
	}
	return of("E_INTERMITTENT").WithCause(innermost(err))
}

// ended is the fault of a context that is over.
func (c *Client) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	var f *fault.Error
	switch {
	case errors.As(cause, &f):
		return f
	case errors.Is(cause, errSlow):
		return fault.Of("E_TIMEOUT").WithSource(c.config.Source).WithCause(errSlow.Error()).Wrap(cause)
	case errors.Is(cause, context.DeadlineExceeded):
		return fault.Of("E_TIMEOUT").WithSource(c.config.Source).Wrap(cause)
	}
	return fault.Of("E_CANCELLED").WithSource(c.config.Source).Wrap(cause)
}

func tlsFailed(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		record      tls.RecordHeaderError
	)
	return errors.As(err, &certificate) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &record) || strings.Contains(err.Error(), "tls: ") ||
		strings.Contains(err.Error(), "TLS handshake timeout")
}

// innermost is the text of the error at the end of the chain.
func innermost(err error) string {
	for {
		if many, ok := err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) > 0 {
			err = many.Unwrap()[0]
			continue
		}
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// Fault is what a status means when nothing better is known (DELIVERY §8), with
// the words of a page meant for people as its cause. now is for Retry-After.
func (a *Answer) Fault(now time.Time) *fault.Error {
	f := fault.Of(StatusCode(a.Status, a.Header)).WithSource(a.Source)
	if f.Code == "E_RATE_LIMIT" {
		f = f.WithRetryAfter(RetryAfter(a.Header.Get("Retry-After"), now))
	}
	cause := fmt.Sprintf("HTTP status %d", a.Status)
	if text := http.StatusText(a.Status); text != "" {
		cause += " " + text
	}
	if words := a.words(); words != "" {
		cause += ": " + words
	}
	return f.WithCause(cause)
}

// codes maps statuses; others go by their hundreds.
var codes = map[int]string{
	401: "E_AUTH_REJECTED",
	403: "E_PERMISSION",
	404: "E_MISSING",
	405: "E_UNSUPPORTED",
	406: "E_UNSUPPORTED",
	407: "E_AUTH_REJECTED",
	408: "E_INTERMITTENT",
	409: "E_DUPLICATE",
	410: "E_MISSING",
	413: "E_TOO_LARGE",
	414: "E_TOO_LARGE",
	415: "E_UNSUPPORTED",
	423: "E_INTERMITTENT", // locked
	424: "E_INTERMITTENT", // something before it did not work
	425: "E_INTERMITTENT",
	429: "E_RATE_LIMIT",
	431: "E_TOO_LARGE",
	501: "E_UNSUPPORTED",
	505: "E_UNSUPPORTED",
}

// StatusCode is the fault code of a status. A 503 that says when to come back
// asks to slow down.
func StatusCode(status int, header http.Header) string {
	if status == http.StatusServiceUnavailable && header.Get("Retry-After") != "" {
		return "E_RATE_LIMIT"
	}
	if code, ok := codes[status]; ok {
		return code
	}
	switch {
	case status >= 500 && status <= 599:
		return "E_INTERMITTENT"
	case status >= 400 && status <= 499:
		return "E_VALUE"
	}
	return "E_UNREACHABLE"
}

const maxRetryAfter = time.Hour

// RetryAfter reads seconds or a date (RFC 9110 §10.2.3), at most an hour; 0 = it
// says nothing that can be read.
func RetryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		return time.Duration(min(n, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// IsHTML reports whether the answer is a page for people, where data was asked
// for: a sign-in page, a proxy's error.
func (a *Answer) IsHTML() bool {
	if strings.Contains(strings.ToLower(a.Header.Get("Content-Type")), "html") {
		return true
	}
	start := strings.ToLower(strings.TrimSpace(string(a.Body[:min(len(a.Body), 512)])))
	return strings.HasPrefix(start, "<!doctype html") || strings.HasPrefix(start, "<html")
}

// NotData is the fault of a good status with a page for people in it.
func (a *Answer) NotData() *fault.Error {
	f := fault.Of("E_UNREACHABLE").WithSource(a.Source).
		WithSentence("the endpoint answers with a web page instead of data").
		WithFix("check the address in the connection's settings, and that the user may sign in without a form")
	if words := a.words(); words != "" {
		f = f.WithCause(words)
	}
	return f
}

const maxWords = 200 // characters of a page that are shown

// words are a page's title, or the start of a plain text.
func (a *Answer) words() string {
	body := string(a.Body[:min(len(a.Body), 16<<10)])
	if a.IsHTML() {
		lower := strings.ToLower(body)
		start := strings.Index(lower, "<title")
		if start < 0 || len(lower) != len(body) {
			return ""
		}
		open := strings.IndexByte(body[start:], '>')
		if open < 0 {
			return ""
		}
		body = body[start+open+1:]
		body, _, _ = strings.Cut(body, "<")
	} else if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		return ""
	}
	return Plain(body, maxWords)
}

// Plain makes a text from outside fit for a message: one line, valid, and at
// most so many characters.
func Plain(text string, most int) string {
	fields := strings.Fields(strings.ToValidUTF8(text, "\uFFFD"))
	runes := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.Join(fields, " ")))
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(runes)
}
