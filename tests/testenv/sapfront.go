package testenv

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A SAPFront is a fake of what SAP Gateway has in front of its services and CAP
// has not: a CSRF token for each session, demanded on every write, and the
// cookies that carry the session. Everything else is the real server's behind
// it. Methods may be called from any goroutine.
type SAPFront struct {
	Origin string // http://localhost:port

	server *httptest.Server
	proxy  *httputil.ReverseProxy

	mu       sync.Mutex
	sessions map[string]string // token by session
	answer   func(http.ResponseWriter, *http.Request) bool
	counts   SAPCounts
}

// SAPCounts says what a front has seen.
type SAPCounts struct {
	Fetched int // tokens given
	Refused int // writes without a good token
	Batches int // batches let through
}

// NewSAPFront starts a front before c and ends it with the test.
func NewSAPFront(t testing.TB, c *CAP) *SAPFront {
	t.Helper()
	behind, err := url.Parse(c.Origin)
	if err != nil {
		t.Fatal(err)
	}
	f := &SAPFront{sessions: map[string]string{}}
	f.proxy = &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: -1, DisableKeepAlives: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(behind)
			r.SetXForwarded()
		},
	}
	f.server = httptest.NewServer(f)
	_, port, _ := net.SplitHostPort(f.server.Listener.Addr().String())
	f.Origin = "http://localhost:" + port
	t.Cleanup(f.server.Close)
	return f
}

// Expire ends all sessions: their tokens are not good any more.
func (f *SAPFront) Expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.sessions)
}

// Answer lets answer look at each request first; true means that it has
// answered. nil ends that.
func (f *SAPFront) Answer(answer func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// Counts says what the front has seen so far.
func (f *SAPFront) Counts() SAPCounts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// ServeHTTP answers like SAP Gateway.
func (f *SAPFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	if answer == nil || !answer(w, r) {
		f.Forward(w, r)
	}
}

// Forward does what a front does with a request that nobody else answers.
func (f *SAPFront) Forward(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if strings.EqualFold(r.Header.Get("X-Csrf-Token"), "fetch") {
			f.give(w, r)
		}
		f.proxy.ServeHTTP(w, r)
		return
	}
	if !f.good(r) {
		w.Header().Set("X-Csrf-Token", "Required")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("CSRF token validation failed"))
		return
	}
	f.proxy.ServeHTTP(w, r)
}

const sapSession = "SAP_SESSIONID_TST_100"

// give makes a session and its token.
func (f *SAPFront) give(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := r.BasicAuth(); !ok {
		return // no token before the sign-in
	}
	session, token := rand.Text(), rand.Text()+"=="
	f.mu.Lock()
	f.sessions[session] = token
	f.counts.Fetched++
	f.mu.Unlock()
	w.Header().Add("Set-Cookie", sapSession+"="+session+"; path=/; HttpOnly; SameSite=None")
	w.Header().Add("Set-Cookie", "sap-usercontext=sap-client=100; path=/")
	w.Header().Set("X-Csrf-Token", token)
}

// good reports whether a write brings the token of its session.
func (f *SAPFront) good(r *http.Request) bool {
	cookie, err := r.Cookie(sapSession)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || f.sessions[cookie.Value] == "" || f.sessions[cookie.Value] != r.Header.Get("X-Csrf-Token") {
		f.counts.Refused++
		return false
	}
	if strings.HasSuffix(r.URL.Path, "/$batch") {
		f.counts.Batches++
	}
	return true
}
