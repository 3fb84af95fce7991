package api

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"time"

	"ropeway/protocol/fault"
)

// Bounds of the memory for repeated requests (DELIVERY §9: keys for 24 h).
const (
	idempotencyAge   = 24 * time.Hour
	idempotencyKeys  = 10_000
	idempotencyReply = 64 << 10
	idempotencyBody  = 8 << 20
)

// idempotency answers a POST with the same Idempotency-Key again without doing
// it again. It remembers within this process; the zero value is ready.
type idempotency struct {
	mu    sync.Mutex
	known map[[32]byte]*remembered
	order [][32]byte // oldest first
}

// remembered is one request with a key and, once done is closed, its answer.
type remembered struct {
	body   [32]byte
	at     time.Time
	done   chan struct{}
	status int
	header http.Header
	reply  []byte
}

// wrap serves next; known says whether a request comes from a known caller:
// nothing is read or kept for strangers.
func (i *idempotency) wrap(next http.Handler, known func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		if key == "" || r.Method != http.MethodPost || !known(r) {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, idempotencyBody))
		if err != nil || len(key) > 255 {
			writeProblem(w, problemOf(fault.Of("E_REQUEST").WithCause("the body or the Idempotency-Key is too long")))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		i.serve(w, r, next, key, sha256.Sum256(body))
	})
}

func (i *idempotency) serve(w http.ResponseWriter, r *http.Request, next http.Handler, key string, body [32]byte) {
	// The caller's token is part of the key: nobody meets another's requests.
	id := sha256.Sum256([]byte(r.Header.Get("Authorization") + "\x00" + r.URL.RequestURI() + "\x00" + key))
	entry, first := i.enter(id, body)
	if first {
		c := &capture{ResponseWriter: w, status: http.StatusOK}
		defer func() { i.leave(id, entry, c) }()
		next.ServeHTTP(c, r)
		return
	}
	if entry.body != body {
		writeProblem(w, problemOf(fault.Of("E_CONFLICT").
			WithSentence("the Idempotency-Key was used with another request").WithFix("use a new key for a new request")))
		return
	}
	select {
	case <-entry.done:
	case <-r.Context().Done():
		return
	}
	if entry.reply == nil {
		writeProblem(w, problemOf(fault.Of("E_CONFLICT").
			WithSentence("the first request with this Idempotency-Key did not finish").WithFix("look whether it took effect, then use a new key")))
		return
	}
	for name, values := range entry.header {
		w.Header()[name] = values
	}
	w.Header().Set("Idempotent-Replay", "true")
	w.WriteHeader(entry.status)
	if _, err := w.Write(entry.reply); err != nil {
		return
	}
}

// enter finds the request of a key, or notes it as the first.
func (i *idempotency) enter(id, body [32]byte) (*remembered, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == nil {
		i.known = map[[32]byte]*remembered{}
	}
	for len(i.order) > 0 && (len(i.order) >= idempotencyKeys || time.Since(i.known[i.order[0]].at) > idempotencyAge) {
		delete(i.known, i.order[0])
		i.order = i.order[1:]
	}
	if e, ok := i.known[id]; ok {
		return e, false
	}
	e := &remembered{body: body, at: time.Now(), done: make(chan struct{})}
	i.known[id] = e
	i.order = append(i.order, id)
	return e, true
}

// leave keeps a good answer; after a failure the key may be used again.
func (i *idempotency) leave(id [32]byte, e *remembered, c *capture) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.status < 300 && c.size <= idempotencyReply {
		e.status, e.header, e.reply = c.status, c.Header().Clone(), append([]byte{}, c.body.Bytes()...)
	} else {
		delete(i.known, id)
		for n, known := range i.order {
			if known == id {
				i.order = append(i.order[:n], i.order[n+1:]...)
				break
			}
		}
	}
	close(e.done)
}

// capture writes an answer and keeps a copy of a short one.
type capture struct {
	http.ResponseWriter
	status int
	size   int
	body   bytes.Buffer
}

func (c *capture) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *capture) Write(b []byte) (int, error) {
	c.size += len(b)
	if c.size <= idempotencyReply {
		c.body.Write(b)
	}
	return c.ResponseWriter.Write(b)
}

// Unwrap lets the standard library reach the writer for deadlines and flushes.
func (c *capture) Unwrap() http.ResponseWriter { return c.ResponseWriter }
