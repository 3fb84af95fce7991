package hub

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a hub in this process.
type running struct {
	config Config
	url    string
	stop   func() error
}

// lineWriter hands on complete lines.
type lineWriter struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	for {
		line, err := w.text.ReadString('\n')
		if err != nil {
			w.text.WriteString(line)
			return len(b), nil
		}
		w.lines <- strings.TrimSpace(line)
	}
}

func start(t *testing.T, data string) running {
	t.Helper()
	c := DefaultConfig()
	c.Data, c.Listen, c.OpsListen = data, "127.0.0.1:0", "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	out := &lineWriter{lines: make(chan string, 10)}
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c, "test", out, slog.New(slog.DiscardHandler)) }()
	r := running{config: c}
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = r.stop() })
	select {
	case line := <-out.lines:
		r.url = strings.TrimPrefix(line, "ready ")
	case err := <-done:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("the hub does not get ready")
	}
	return r
}

// roots are the authority of this hub.
func (r running) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(r.config.Data, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return roots
}

// client speaks HTTP/2 to the hub.
func (r running) client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots(t)}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get asks the API with the token in admin.token.
func (r running) get(t *testing.T, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := r.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// post sends JSON to the API.
func (r running) post(t *testing.T, path, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (r running) token(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.config.Data, adminToken))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestFirstStartMakesOneAdministrator(t *testing.T) {
	data := t.TempDir()
	first := start(t, data)
	token := first.token(t)
	if code, body := first.get(t, "/api/v1/agents", token); code != http.StatusOK {
		t.Fatalf("first administrator: %d %s", code, body)
	}
	if code, _ := first.get(t, "/api/v1/agents", token+"x"); code != http.StatusUnauthorized {
		t.Errorf("a wrong token got %d", code)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, data)
	if got := again.token(t); got != token {
		t.Error("a restart made another administrator's token")
	}
	if code, body := again.get(t, "/api/v1/agents", token); code != http.StatusOK {
		t.Fatalf("after a restart: %d %s", code, body)
	}
}

func TestAdministratorWhoseTokenWasNeverWritten(t *testing.T) {
	data := t.TempDir()
	first := start(t, data)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data, adminToken)); err != nil {
		t.Fatal(err)
	}
	again := start(t, data)
	if code, body := again.get(t, "/api/v1/agents", again.token(t)); code != http.StatusOK {
		t.Fatalf("the new token: %d %s", code, body)
	}
}

func TestSecondHubOnOneFolderIsRefused(t *testing.T) {
	r := start(t, t.TempDir())
	c := r.config
	err := Run(context.Background(), c, "test", io.Discard, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "in use by another hub") {
		t.Errorf("second hub: %v", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := DefaultConfig()
	c.Data, c.Listen, c.OpsListen = t.TempDir(), l.Addr().String(), "127.0.0.1:0"
	err = Run(context.Background(), c, "test", io.Discard, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("taken port: %v", err)
	}
}

func TestAdminOverTheLocalSocket(t *testing.T) {
	r := start(t, t.TempDir())
	ctx := context.Background()
	old := r.token(t)
	var out bytes.Buffer
	if err := Admin(ctx, r.config.Data, "create", &out); err != nil {
		t.Fatal(err)
	}
	second := strings.TrimSpace(out.String())
	if code, body := r.get(t, "/api/v1/agents", second); code != http.StatusOK {
		t.Fatalf("second administrator: %d %s", code, body)
	}
	if err := Admin(ctx, r.config.Data, "reset", io.Discard); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		want  int
	}{"first": {old, 401}, "second": {second, 401}, "new": {r.token(t), 200}} {
		if code, _ := r.get(t, "/api/v1/agents", c.token); code != c.want {
			t.Errorf("after a reset the %s token gets %d, want %d", name, code, c.want)
		}
	}
	info, err := os.Stat(filepath.Join(r.config.Data, localSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("local socket: %v %v", info, err)
	}
	if err := Admin(ctx, t.TempDir(), "create", io.Discard); err == nil || !strings.Contains(err.Error(), "serve") {
		t.Errorf("no hub: %v", err)
	}
}

func TestCheckSaysWhatItFound(t *testing.T) {
	r := start(t, t.TempDir())
	var out bytes.Buffer
	if err := Check(context.Background(), r.config, &out); err != nil || !strings.Contains(out.String(), "running") {
		t.Errorf("running hub: %v %s", err, out.String())
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := Check(context.Background(), r.config, &out); err != nil || !strings.Contains(out.String(), "store    ok") {
		t.Errorf("stopped hub: %v %s", err, out.String())
	}
}

func TestReadyzNamesThePart(t *testing.T) {
	var out recorder
	report(&out, map[string]error{"store": nil, "queue": io.ErrUnexpectedEOF})
	var got map[string]string
	if err := json.Unmarshal(out.body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if out.code != http.StatusServiceUnavailable || got["store"] != "ok" || got["queue"] == "ok" {
		t.Errorf("%d %v", out.code, got)
	}
}

type recorder struct {
	code int
	body bytes.Buffer
}

func (r *recorder) Header() http.Header         { return http.Header{} }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(code int)        { r.code = code }
