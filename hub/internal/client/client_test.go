package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := New(Config{URL: server.URL, Token: "tok", Environment: "prod", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAddresses(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://hub.example":          true,
		"https://hub.example:8443/":    true,
		"http://127.0.0.1:1":           true,
		"http://localhost:1":           true,
		"http://[::1]:1":               true,
		"http://hub.example":           false,
		"https://hub.example/path":     false,
		"https://u:p@hub.example":      false,
		"hub.example":                  false,
		"ftp://hub.example":            false,
		"":                             false,
		"https://hub.example?token=xy": false,
	} {
		if _, err := New(Config{URL: text}); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRequestsCarryTokenAndEnvironment(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer tok" || r.URL.Query().Get("environment") != "prod" ||
			r.URL.EscapedPath() != "/api/v1/connections/a%2Fb%20c/queue" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		fmt.Fprint(w, `{"name": "a/b c"}`)
	})
	q, err := c.Queue(context.Background(), "a/b c")
	if err != nil || q.Name != "a/b c" {
		t.Errorf("%+v %v", q, err)
	}
}

func TestProblemsBecomeFaults(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(409)
		fmt.Fprint(w, `{"title":"the object is in use","status":409,"code":"E_IN_USE","class":"value","cause":"Flow f uses it","errors":[{"code":"A"},{"code":"B"}]}`)
	})
	err := c.Delete(context.Background(), model.KindConnection, "x", false)
	f := fault.From(err)
	var p *model.Problem
	if f.Code != "E_IN_USE" || f.Cause != "Flow f uses it" || !errors.As(err, &p) || len(p.Errors) != 2 {
		t.Errorf("%v", err)
	}
}

func TestAnswersOfStrangers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"html error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502); fmt.Fprint(w, "<html>") },
		"html success": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		},
	} {
		if _, err := serve(t, h).ServerVersion(context.Background()); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestListsAreReadToTheEnd(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("cursor") {
		case "":
			fmt.Fprint(w, `{"items": [{"name": "a"}], "next": "a"}`)
		default:
			fmt.Fprint(w, `{"items": [{"name": "b"}]}`)
		}
	})
	objects, err := c.Objects(context.Background(), model.KindAgentGroup, "")
	if err != nil || len(objects) != 2 || objects[1].Name != "b" {
		t.Errorf("%+v %v", objects, err)
	}
}

// TestWatchSurvivesBreaks: the stream ends early, the hub is away for a moment,
// and the job is still followed to its end.
func TestWatchSurvivesBreaks(t *testing.T) {
	id, calls := page.NewID(), 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		send := func(j model.Job) {
			b, err := json.Marshal(j)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "event: job\ndata: %s\n\n", b)
		}
		switch calls {
		case 1:
			send(model.Job{ID: id, State: model.JobRunning})
		case 2:
			w.WriteHeader(503)
			fmt.Fprint(w, `{"code":"E_UNAVAILABLE","class":"intermittent"}`)
		default:
			send(model.Job{ID: id, State: model.JobCompleted})
		}
	})
	job, err := c.WatchJob(context.Background(), id.String(), time.Minute, func(model.Job) bool { return true })
	if err != nil || job.State != model.JobCompleted || calls != 3 {
		t.Errorf("%+v %v after %d calls", job, err, calls)
	}
}

func TestWatchGivesUpOnWhatWillNotChange(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "event: problem\ndata: {\"code\":\"E_NOT_FOUND\",\"class\":\"missing\"}\n\n")
	})
	_, err := c.WatchJob(context.Background(), "x", time.Minute, func(model.Job) bool { return true })
	if fault.From(err).Code != "E_NOT_FOUND" {
		t.Errorf("%v", err)
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	noted := Profile{URL: "https://noted", CA: "noted.pem", Environment: "test"}
	if err := SaveProfile(ProfileDir(), "p", noted, "secret"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(ProfileDir(), "tokens", "p")
	tests := []struct {
		name    string
		flags   Config
		profile string
		env     map[string]string
		want    Config
	}{
		{"profile", Config{}, "", nil, Config{URL: "https://noted", CA: "noted.pem", Environment: "test", TokenFile: file}},
		{"environment wins", Config{}, "", map[string]string{"ROPEWAY_URL": "https://env", "ROPEWAY_TOKEN": "t"}, Config{URL: "https://env", Token: "t"}},
		{"flag wins", Config{URL: "https://flag"}, "", map[string]string{"ROPEWAY_URL": "https://env", "ROPEWAY_CA": "c"}, Config{URL: "https://flag", CA: "c"}},
		{"named profile", Config{Environment: "e"}, "p", nil, Config{URL: "https://noted", CA: "noted.pem", Environment: "e", TokenFile: file}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Resolve(tt.flags, tt.profile, func(name string) string { return tt.env[name] })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := Resolve(Config{}, "other", func(string) string { return "" }); err == nil {
		t.Error("an unknown profile was accepted")
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "two": "a b", "long": strings.Repeat("x", maxTokenFile+1), "lines": "a\nb"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{URL: "https://h", TokenFile: path}); err == nil {
			t.Errorf("token file %s was accepted", name)
		}
		if _, err := New(Config{URL: "https://h", CA: path}); err == nil {
			t.Errorf("authority file %s was accepted", name)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("curent: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadProfiles(dir); err == nil || !strings.Contains(err.Error(), "curent") {
		t.Errorf("unknown key: %v", err)
	}
}
