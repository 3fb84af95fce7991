package httpapi_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/connectors"
	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func env(secret map[string]string) connectors.Env {
	return connectors.Env{
		Dial:   (&net.Dialer{}).DialContext,
		Secret: func(context.Context) (map[string]string, error) { return secret, nil },
		Clock:  time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func client(t *testing.T, e connectors.Env, address, ca string) (*httpapi.Client, *url.URL) {
	t.Helper()
	root, err := httpapi.ParseRoot(address, "url")
	if err != nil {
		t.Fatal(err)
	}
	c, err := httpapi.New(e, httpapi.Config{Source: "test", Root: root, CA: ca, MaxBody: 1 << 20,
		ConnectTimeout: 2 * time.Second, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, root
}

func get(t *testing.T, c *httpapi.Client, root *url.URL) (*httpapi.Answer, error) {
	t.Helper()
	return c.Do(t.Context(), httpapi.Request{Method: http.MethodGet, URL: root})
}

func TestTLSTrustsOnlyWhatIsGiven(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	c, root := client(t, env(nil), s.URL, ca)
	if a, err := get(t, c, root); err != nil || a.Status != 404 {
		t.Errorf("trusted: %v", err)
	}
	c, root = client(t, env(nil), s.URL, "")
	if _, err := get(t, c, root); fault.CodeOf(err) != "E_TLS" {
		t.Errorf("not trusted: %v", err)
	}
	c, root = client(t, env(nil), strings.Replace(s.URL, "127.0.0.1", "localhost", 1), ca)
	if _, err := get(t, c, root); fault.CodeOf(err) != "E_TLS" {
		t.Errorf("another name: %v", err)
	}
	if _, err := httpapi.New(env(nil), httpapi.Config{Root: root, CA: "no certificate"}); fault.CodeOf(err) != "E_SETTINGS" {
		t.Errorf("ca without a certificate: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	defer s.Close()
	for _, test := range []struct {
		secret map[string]string
		want   string
	}{
		{nil, ""},
		{map[string]string{"username": "u", "password": "p"}, "Basic dTpw"},
		{map[string]string{"token": "t"}, "Bearer t"},
	} {
		c, root := client(t, env(test.secret), s.URL, "")
		if a, err := get(t, c, root); err != nil || string(a.Body) != test.want {
			t.Errorf("%v: %q, %v", test.secret, a.Body, err)
		}
	}
	c, root := client(t, env(map[string]string{"username": "u", "token": "t"}), s.URL, "")
	if _, err := get(t, c, root); fault.ClassOf(err) != fault.Auth {
		t.Errorf("both: %v", err)
	}
	failing := env(nil)
	failing.Secret = func(context.Context) (map[string]string, error) { return nil, fault.Of("E_NO_CREDENTIAL") }
	c, root = client(t, failing, s.URL, "")
	if _, err := get(t, c, root); fault.CodeOf(err) != "E_NO_CREDENTIAL" {
		t.Errorf("none: %v", err)
	}
}

// TestHostile_CookiesAreBounded: however many a server sets, requests stay small.
func TestHostile_CookiesAreBounded(t *testing.T) {
	var calls, last int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = len(r.Header.Get("Cookie"))
		for i := range 100 {
			w.Header().Add("Set-Cookie", fmt.Sprintf("c%d_%d=%s; Path=/other", calls, i, strings.Repeat("x", 100)))
		}
		w.Header().Add("Set-Cookie", "large="+strings.Repeat("x", 5000))
		w.Header().Add("Set-Cookie", "keep=1")
		w.Header().Add("Set-Cookie", "gone=1; Max-Age=0")
		calls++
	}))
	defer s.Close()
	c, root := client(t, env(nil), s.URL, "")
	for range 5 {
		if _, err := get(t, c, root); err != nil {
			t.Fatal(err)
		}
	}
	if last == 0 || last > 10_000 {
		t.Errorf("%d bytes of cookies", last)
	}
}

// TestWritesAreSentOnce: the transport repeats a GET on a connection that its
// server has closed, but no POST.
func TestWritesAreSentOnce(t *testing.T) {
	var posts atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
			panic(http.ErrAbortHandler)
		}
	}))
	defer s.Close()
	c, root := client(t, env(nil), s.URL, "")
	if _, err := get(t, c, root); err != nil {
		t.Fatal(err)
	}
	_, err := c.Do(t.Context(), httpapi.Request{Method: http.MethodPost, URL: root, Body: []byte("x"),
		Header: http.Header{"Idempotency-Key": {"k"}}})
	if fault.ClassOf(err) != fault.Intermittent || posts.Load() != 1 {
		t.Errorf("%v after %d posts", err, posts.Load())
	}
}

// TestHostile_WhatIsNoHTTP: banners of other protocols and endless headers.
func TestHostile_WhatIsNoHTTP(t *testing.T) {
	for name, say := range map[string]string{
		"banner": "SSH-2.0-OpenSSH_9.2\r\n", "header": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"nothing": "", "half": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, say)
		}()
		c, root := client(t, env(nil), "http://"+l.Addr().String(), "")
		_, err = get(t, c, root)
		if class := fault.ClassOf(err); class != fault.Connection && class != fault.Intermittent {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
		<-done
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "x": 0, "1.5": 0,
		"99999999999999999999": 0, "9223372036854775807": time.Hour, "86400": time.Hour,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Fri, 02 Jan 2099 03:00:00 GMT": time.Hour,
	} {
		if got := httpapi.RetryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestStatusesByClass(t *testing.T) {
	for status, want := range map[int]fault.Class{400: fault.Value, 401: fault.Auth, 403: fault.SchemaDrift, 404: fault.Missing,
		407: fault.Auth, 408: fault.Intermittent, 409: fault.Duplicate, 413: fault.TooLarge, 418: fault.Value, 422: fault.Value,
		429: fault.RateLimit, 500: fault.Intermittent, 501: fault.Internal, 503: fault.Intermittent, 599: fault.Intermittent,
		302: fault.Connection, 101: fault.Connection, 700: fault.Connection} {
		f := (&httpapi.Answer{Source: "test", Status: status, Header: http.Header{}}).Fault(time.Now())
		if f.Class != want || f.Source != "test" || !strings.Contains(f.Cause, fmt.Sprint(status)) {
			t.Errorf("%d: %s %q", status, f.Class, f.Cause)
		}
	}
}

func TestPagesForPeopleAreShownByTheirTitle(t *testing.T) {
	for body, want := range map[string]string{
		"<html><head><TITLE>Logon\n  failed</TITLE>": "Logon failed",
		"<!DOCTYPE html><html><title>":               "",
		"<html><title":                               "",
		"<html>no title":                             "",
		"\x00<html>":                                 "",
	} {
		a := &httpapi.Answer{Status: 500, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte(body)}
		if got := a.NotData().Cause; got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
	long := &httpapi.Answer{Status: 500, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(strings.Repeat("ü\x1b", 1<<20))}
	if got := []rune(long.Fault(time.Now()).Cause); len(got) > 300 || strings.ContainsRune(string(got), 0x1b) {
		t.Errorf("%d characters: %q", len(got), string(got[:50]))
	}
}
