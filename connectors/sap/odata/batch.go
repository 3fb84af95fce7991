package odata

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"

	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

// An operation is one request for one record, alone or as a part of a batch.
type operation struct {
	method string // GET stands outside of change sets
	path   string // relative to the service root, encoded
	header http.Header
	body   []byte
}

// perform sends operations and returns an answer for each, in their order. It
// may return fewer: the rest was not done. Each change is a change set of its
// own, so that the service answers record by record.
func (c *conn) perform(ctx context.Context, version int, ops []operation) ([]*httpapi.Answer, error) {
	if c.settings.Int("batch") > 1 {
		return c.batch(ctx, version, ops)
	}
	answers := make([]*httpapi.Answer, 0, len(ops))
	for _, op := range ops {
		a, err := c.single(ctx, version, op)
		if err != nil && len(answers) == 0 {
			return nil, cutOff(err)
		}
		if err != nil {
			return answers, nil // tried again, then the error is the first
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func (c *conn) single(ctx context.Context, version int, op operation) (*httpapi.Answer, error) {
	path, query, _ := strings.Cut(op.path, "?")
	r := httpapi.Request{Method: op.method, URL: c.at(path, query), Body: op.body, Header: c.headers(versions(version))}
	for name, values := range op.header {
		r.Header[name] = values
	}
	if op.method == http.MethodGet {
		return c.client.Do(ctx, r)
	}
	a, err := c.write(ctx, r)
	if err == nil && a.Status < 300 && a.IsHTML() {
		return nil, a.NotData()
	}
	return a, err
}

// batch sends one $batch request (multipart, which both versions know).
func (c *conn) batch(ctx context.Context, version int, ops []operation) ([]*httpapi.Answer, error) {
	boundary := "batch_" + strings.ToLower(rand.Text())
	header := c.headers(versions(version))
	header.Set("Content-Type", "multipart/mixed; boundary="+boundary)
	header.Set("Accept", "multipart/mixed")
	// Version 2 goes on after an error anyway; what translates it to version 4
	// (CAP) does not, unless it is asked to.
	header.Set("Prefer", "odata.continue-on-error")
	a, err := c.write(ctx, httpapi.Request{Method: http.MethodPost, URL: c.at("$batch", ""),
		Header: header, Body: composeBatch(version, boundary, ops)})
	if err != nil {
		return nil, cutOff(err)
	}
	if a.Status != http.StatusOK && a.Status != http.StatusAccepted {
		return nil, c.batchRefused(a)
	}
	if a.IsHTML() {
		return nil, a.NotData()
	}
	answers, err := parseBatch(a, len(ops))
	if err != nil {
		return nil, cut{fault.Of("E_INTERMITTENT").WithSource(name).WithCause(err).
			WithSentence("the endpoint's answer to $batch cannot be read")}
	}
	return answers, nil
}

func (c *conn) batchRefused(a *httpapi.Answer) error {
	f := c.faultOf(a, nil)
	switch a.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusUnsupportedMediaType, http.StatusNotImplemented, http.StatusNotAcceptable:
		return fault.Of("E_UNSUPPORTED").WithSource(name).WithCause(f.Cause).
			WithSentence("the service does not take $batch requests").
			WithFix("set batch: 1 in the connection's settings, then resume the job")
	}
	switch {
	case f.Class.Parks():
		return fault.Of("E_QUERY").WithSource(name).WithCause(f.Cause)
	case a.Status == http.StatusBadGateway || a.Status == http.StatusGatewayTimeout:
		return cut{f} // what is between cannot say what was done
	}
	return f
}

// A cut is the error of a request that may have been done all the same.
type cut struct{ error }

// Unwrap gives the fault.
func (c cut) Unwrap() error { return c.error }

// cutOff tells errors after which nobody knows what was done from those that
// came before a request was sent.
func cutOff(err error) error {
	if code := fault.CodeOf(err); code == "E_INTERMITTENT" || code == "E_TIMEOUT" {
		return cut{err}
	}
	return err
}

// composeBatch writes the body of a batch.
func composeBatch(version int, boundary string, ops []operation) []byte {
	var b bytes.Buffer
	for i, op := range ops {
		fmt.Fprintf(&b, "--%s\r\n", boundary)
		if op.method == http.MethodGet {
			composePart(&b, version, 0, op)
			continue
		}
		inner := fmt.Sprintf("%s_set%d", boundary, i)
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n", inner, inner)
		composePart(&b, version, i+1, op)
		fmt.Fprintf(&b, "--%s--\r\n", inner)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes()
}

func composePart(b *bytes.Buffer, version, id int, op operation) {
	b.WriteString("Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n")
	if id > 0 {
		fmt.Fprintf(b, "Content-ID: %d\r\n", id)
	}
	fmt.Fprintf(b, "\r\n%s %s HTTP/1.1\r\n", op.method, op.path)
	header := versions(version)
	for name, values := range op.header {
		header[name] = values
	}
	if op.method != http.MethodGet {
		header.Set("Content-Length", fmt.Sprint(len(op.body)))
	}
	_ = header.Write(b) // into memory
	b.WriteString("\r\n")
	b.Write(op.body)
	b.WriteString("\r\n")
}

const maxParts = 2000

// parseBatch reads the answers of a batch of n operations. A change set that
// worked is a multipart of one part; one that did not is the error itself.
func parseBatch(a *httpapi.Answer, n int) ([]*httpapi.Answer, error) {
	answers := make([]*httpapi.Answer, 0, min(n, maxParts))
	err := eachPart(a.Header.Get("Content-Type"), a.Body, func(header textproto.MIMEHeader, body []byte) error {
		if len(answers) == n {
			return errors.New("it has more parts than the request")
		}
		if strings.HasPrefix(strings.ToLower(header.Get("Content-Type")), "multipart/") {
			var inner [][]byte
			err := eachPart(header.Get("Content-Type"), body, func(_ textproto.MIMEHeader, body []byte) error {
				inner = append(inner, body)
				return nil
			})
			if err != nil || len(inner) != 1 {
				return errors.New("a change set has not exactly one answer")
			}
			body = inner[0]
		}
		one, err := parseResponse(body)
		answers = append(answers, one)
		return err
	})
	return answers, err
}

func eachPart(contentType string, body []byte, f func(textproto.MIMEHeader, []byte) error) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return errors.New("it is not a multipart message")
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for range maxParts {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("a part is cut off or has a bad header")
		}
		content, err := io.ReadAll(part) // bounded by the message
		if err != nil {
			return errors.New("a part is cut off")
		}
		if err := f(part.Header, content); err != nil {
			return err
		}
	}
	return errors.New("it has too many parts")
}

func parseResponse(raw []byte) (*httpapi.Answer, error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(raw, "\r\n"))), nil)
	if err != nil {
		return nil, errors.New("a part is not an HTTP answer")
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // a wrong length hides nothing
		return nil, errors.New("the body of a part cannot be read")
	}
	return &httpapi.Answer{Source: name, Status: response.StatusCode, Header: response.Header, Body: body}, nil
}
