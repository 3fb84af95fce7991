package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ropeway": func() {
			os.Exit(Main("1.2.3", os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs the scripts in testdata. Those that talk to a hub meet one
// that answers from a table; HUB is its address.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			server := httptest.NewTLSServer(answers())
			e.Defer(server.Close)
			ca := filepath.Join(e.WorkDir, "ca.pem")
			if err := os.WriteFile(ca, pemOf(server.Certificate().Raw), 0o644); err != nil {
				return err
			}
			e.Setenv("HUB", server.URL)
			e.Setenv("CA", ca)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			return os.WriteFile(filepath.Join(e.WorkDir, "admin.token"), []byte("good\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"mode": checkMode, "exits": exits},
	})
}

// checkMode checks the permissions of a file: mode 0600 FILE.
func checkMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, not %s", args[1], got, args[0])
	}
}

// exits checks the exit code of a command: exits 4 ropeway flow run …
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit %s, not %s", got, args[0])
	}
}

func pemOf(der []byte) []byte {
	return []byte("-----BEGIN CERTIFICATE-----\n" + base64Lines(der) + "-----END CERTIFICATE-----\n")
}

// answers is a hub that knows a few flows, named after how their jobs go.
func answers() http.Handler {
	mux := http.NewServeMux()
	id := page.NewID()
	mux.HandleFunc("POST /api/v1/flows/{name}/run", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") == "nope" {
			refuse(w, 404, fault.Of("E_NOT_FOUND").WithCause("there is no Flow of this name"))
			return
		}
		job := page.NewID()
		mux.HandleFunc("GET /api/v1/jobs/"+job.String()+"/events", events(job, r.PathValue("name")))
		reply(w, 201, model.Job{ID: job, FlowName: r.PathValue("name"), State: model.JobQueued})
	})
	mux.HandleFunc("POST /api/v1/apply", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("environment") == "full" {
			refuse(w, 422, fault.Of("E_REFERENCE").WithSentence("Connection a is not valid").WithCause("agentGroup names nothing"))
			return
		}
		reply(w, 200, model.ApplyResult{DryRun: r.URL.Query().Get("dryRun") == "true", Warnings: []string{"credential k has no value yet"},
			Changes: []model.Change{{Kind: model.KindAgentGroup, Name: "g", Action: "created", Version: 1}}})
	})
	mux.HandleFunc("POST /api/v1/agent-groups/{name}/tokens", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 201, model.Token{Token: "rwt1.secret", Expires: time.Now()})
	})
	mux.HandleFunc("GET /api/v1/agents", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, map[string]any{"items": []model.Agent{}})
	})
	mux.HandleFunc("PUT /api/v1/credentials/{name}/secret", func(w http.ResponseWriter, r *http.Request) {
		var v map[string]string
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil || v["password"] != "p" {
			refuse(w, 400, fault.Of("E_REQUEST").WithCause("the body must be one JSON object"))
			return
		}
		reply(w, 200, model.SecretInfo{Name: r.PathValue("name"), Version: 3, Set: true})
	})
	mux.HandleFunc("POST /api/v1/connections/{name}/ping", func(w http.ResponseWriter, r *http.Request) {
		p := model.PingResult{Name: r.PathValue("name")}
		switch r.PathValue("name") {
		case "good":
			p.OK = true
		case "away":
			p.Fault = fault.Of("E_UNREACHABLE")
		default:
			p.Fault = fault.Of("E_POLICY_DENIED")
		}
		reply(w, 200, p)
	})
	mux.HandleFunc("PUT /api/v1/parked/{id}/record", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, model.ParkedRecord{ID: id})
	})
	mux.HandleFunc("POST /api/v1/parked/retry", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 201, model.RetryResult{Job: id.String(), Jobs: []string{id.String()}, Records: 1})
	})
	mux.HandleFunc("GET /api/v1/connections/{name}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, model.Object{ID: id, Kind: model.KindConnection, Name: "erp", Version: 2,
			Spec: json.RawMessage(`{"connector":"postgres","settings":{"port":5432},"concurrency":4}`)})
	})
	mux.HandleFunc("GET /api/v1/jobs/{id}/proof", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, model.Proof{Job: id, Closed: r.PathValue("id") == "closed"})
	})
	mux.HandleFunc("GET /api/v1/me", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, model.WhoAmI{Name: "root", Role: "admin", Environments: []string{"default"}})
	})
	mux.HandleFunc("GET /api/v1/version", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, model.VersionInfo{Version: "9.9"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" && r.URL.Path != "/api/v1/version" {
			refuse(w, 401, fault.Of("E_UNAUTHENTICATED"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// events streams a running job and then its end.
func events(id page.ID, flow string) http.HandlerFunc {
	end := map[string]model.Job{
		"good":    {State: model.JobCompleted, Records: model.RecordCounts{Exported: 3, Delivered: 2, Filtered: 1}},
		"partly":  {State: model.JobCompletedWithErrors, Records: model.RecordCounts{Exported: 3, Delivered: 2, Parked: 1}},
		"failed":  {State: model.JobFailed},
		"denied":  {State: model.JobPaused, Cause: fault.Of("E_POLICY_DENIED")},
		"auth":    {State: model.JobPaused, Cause: fault.Of("E_AUTH_REJECTED")},
		"missing": {State: model.JobPaused, Cause: fault.Of("E_TABLE_MISSING")},
	}[flow]
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		end.ID, end.FlowName = id, flow
		for _, j := range []model.Job{{ID: id, State: model.JobRunning},
			{ID: id, State: model.JobPaused, Cause: fault.Of("E_AGENT_OFFLINE")}, end} {
			b, err := json.Marshal(j)
			if err != nil {
				return
			}
			fmt.Fprintf(w, "event: job\ndata: %s\n\n", b)
		}
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return
	}
}

func refuse(w http.ResponseWriter, status int, f *fault.Error) {
	reply(w, status, model.Problem{Title: f.Sentence, Status: status, Code: f.Code, Class: string(f.Class), Cause: f.Cause, Fix: f.Fix})
}
