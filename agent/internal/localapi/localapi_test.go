package localapi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ropeway/agent/internal/localapi"
	"ropeway/protocol/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// start runs a server until the test ends.
func start(t *testing.T, path string, source localapi.Source) *localapi.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- localapi.New(path, source, quiet).Run(ctx, func() { close(ready) }) }()
	client := localapi.Connect(path)
	t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("Run = %v", err)
	}
	return client
}

func source(status localapi.Status) localapi.Source {
	return localapi.Source{
		Status: func(context.Context) (localapi.Status, error) { return status, nil },
		BufferPurge: func(_ context.Context, r localapi.PurgeRequest) (localapi.BufferPurge, error) {
			if !r.All {
				return localapi.BufferPurge{}, errors.New("the request got lost")
			}
			return localapi.BufferPurge{}, fault.Of("E_STATE_CONFLICT").WithCause("pages wait").WithFix("wait")
		},
		BufferList: func(_ context.Context, limit int) ([]localapi.BufferPage, error) {
			return make([]localapi.BufferPage, min(limit, 3)), nil
		},
		Drain: func(context.Context) error { return nil },
	}
}

func TestClientAndServer(t *testing.T) {
	oldest := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := localapi.Status{
		State: "online", Name: "press-1", Tunnels: []localapi.Tunnel{{Transport: "tcp", Remote: "h:1", Since: oldest}},
		Buffer: localapi.BufferStatus{Pages: 3, Bytes: 4, Oldest: &oldest}, Identity: localapi.IdentityStatus{Serial: "ab"},
	}
	path := filepath.Join(t.TempDir(), "agent.sock")
	client := start(t, path, source(want))
	if got, err := client.Status(t.Context()); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Status = %v, %v", err, cmp.Diff(want, got))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if list, err := client.BufferList(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("BufferList = %v, %v", list, err)
	}
	if err := client.Drain(t.Context()); err != nil {
		t.Errorf("Drain = %v", err)
	}
	_, err := client.BufferPurge(t.Context(), localapi.PurgeRequest{All: true})
	if f := fault.From(err); f.Code != "E_STATE_CONFLICT" || f.Cause != "pages wait" || f.Fix != "wait" {
		t.Errorf("BufferPurge = %v", err)
	}
	if _, err := client.RotateKey(t.Context()); fault.CodeOf(err) != "E_NOT_FOUND" {
		t.Errorf("RotateKey of an agent that cannot = %v", err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	client := start(t, filepath.Join(dir, "agent.sock"), source(localapi.Status{State: "online"}))
	if got, err := client.Status(t.Context()); err != nil || got.State != "online" {
		t.Errorf("Status = %v, %v", got, err)
	}
}

func TestSocketOfADeadAgentIsReplaced(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "first.sock")
	path := filepath.Join(dir, "agent.sock")
	func() {
		ctx, cancel := context.WithCancel(context.Background())
		ready, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- localapi.New(first, localapi.Source{}, quiet).Run(ctx, func() { close(ready) }) }()
		<-ready
		if err := os.Rename(first, path); err != nil { // so that its end does not remove it
			t.Error(err)
		}
		cancel()
		<-done
	}()
	if _, err := localapi.Connect(path).Status(t.Context()); !errors.Is(err, localapi.ErrNotRunning) {
		t.Errorf("Status of a dead agent = %v", err)
	}
	client := start(t, path, source(localapi.Status{}))
	if _, err := client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoAgent(t *testing.T) {
	_, err := localapi.Connect(filepath.Join(t.TempDir(), "agent.sock")).Status(t.Context())
	if f := fault.From(err); !errors.Is(err, localapi.ErrNotRunning) || f.Class != fault.Connection || f.Fix == "" {
		t.Errorf("Status = %v", err)
	}
}

func TestAFileInPlaceOfTheSocketIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := localapi.New(path, localapi.Source{}, quiet).Run(t.Context(), nil); fault.CodeOf(err) != "E_STATE" {
		t.Errorf("Run = %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Error("the file was overwritten")
	}
}

// Requests that a tricked browser or a bridge would send.
func TestForeignRequestsAreRefused(t *testing.T) {
	called := false
	handler := localapi.New("", localapi.Source{Drain: func(context.Context) error { called = true; return nil }}, quiet).Handler()
	const own = "ropeway-agent.local"
	for name, test := range map[string]struct {
		method, path, host string
		header             map[string]string
		status             int
	}{
		"good":           {"POST", "/v1/drain", own, map[string]string{"Content-Type": "application/json"}, 200},
		"other host":     {"POST", "/v1/drain", "localhost", map[string]string{"Content-Type": "application/json"}, 403},
		"no host":        {"POST", "/v1/drain", "", map[string]string{"Content-Type": "application/json"}, 403},
		"origin":         {"POST", "/v1/drain", own, map[string]string{"Content-Type": "application/json", "Origin": "http://" + own}, 403},
		"origin null":    {"POST", "/v1/drain", own, map[string]string{"Content-Type": "application/json", "Origin": "null"}, 403},
		"fetch metadata": {"POST", "/v1/drain", own, map[string]string{"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}, 403},
		"form":           {"POST", "/v1/drain", own, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 403},
		"text":           {"POST", "/v1/drain", own, map[string]string{"Content-Type": "text/plain"}, 403},
		"GET":            {"GET", "/v1/drain", own, nil, 404},
		"override":       {"GET", "/v1/drain", own, map[string]string{"X-HTTP-Method-Override": "POST"}, 404},
		"unknown":        {"GET", "/v1/secrets", own, nil, 404},
		"dots":           {"GET", "/v1/../drain", own, nil, 404},
	} {
		t.Run(name, func(t *testing.T) {
			called = false
			request := httptest.NewRequest(test.method, "http://x"+test.path, strings.NewReader("{}"))
			request.Host = test.host
			for key, value := range test.header {
				request.Header.Set(key, value)
			}
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			body, _ := io.ReadAll(recorder.Result().Body)
			redirect := recorder.Code == http.StatusTemporaryRedirect || recorder.Code == http.StatusMovedPermanently
			if recorder.Code != test.status && !redirect || called != (test.status == 200) {
				t.Errorf("%d %s, called %v", recorder.Code, body, called)
			}
		})
	}
}
