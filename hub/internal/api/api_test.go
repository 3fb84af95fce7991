package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// hub is the API over a real store; what moves pages is stood in for.
type hub struct {
	t       *testing.T
	server  *httptest.Server
	store   *store.Store
	tenant  store.Tenant
	env     store.Environment
	stand   *standIn
	changed []string
}

// standIn answers for the parts of the hub that run things.
type standIn struct {
	store   *store.Store
	callers map[string]Caller
	secrets map[page.ID]map[string]string
	agents  []model.Agent
	ping    error
	paused  map[string]bool
	wake    chan struct{}
}

func (f *standIn) Authenticate(_ context.Context, token string) (Caller, error) {
	if c, ok := f.callers[token]; ok {
		return c, nil
	}
	return Caller{}, fault.Of("E_UNAUTHENTICATED")
}

func (f *standIn) Start(ctx context.Context, scope store.Scope, flow string) (model.Job, error) {
	o, err := f.store.Object(ctx, scope, model.KindFlow, flow)
	if err != nil {
		return model.Job{}, err
	}
	reads, err := f.store.CreateJob(ctx, store.NewJob{Scope: scope, ID: page.NewID(), Flow: o.ID, FlowName: flow,
		FlowVersion: o.Version, Kind: model.JobRun, Steps: []string{"export", "import-1"}, Now: time.Now()})
	return reads.Job, err
}

func (f *standIn) Cancel(ctx context.Context, scope store.Scope, id page.ID) (model.Job, error) {
	job, err := f.store.CancelJob(ctx, scope, id, time.Now())
	close(f.wake)
	return job, err
}

func (f *standIn) Check(*model.Flow) error { return nil }

func (f *standIn) Open(context.Context, store.Parked) (model.ParkedRecord, error) {
	return model.ParkedRecord{}, errors.New("not in this test")
}

func (f *standIn) Edit(context.Context, store.Scope, page.ID, []byte, string) error { return nil }

func (f *standIn) Retry(context.Context, store.Scope, []page.ID) (model.Job, error) {
	return model.Job{}, nil
}

func (f *standIn) Watch(page.ID) (<-chan struct{}, func()) { return f.wake, func() {} }

func (f *standIn) QueueOf(_ context.Context, _ store.Scope, name string) (model.ConnectionQueue, error) {
	q := model.ConnectionQueue{Name: name, State: model.Online}
	if f.paused[name] {
		q.State, q.Cause = model.Offline, model.CauseManual
	}
	return q, nil
}

func (f *standIn) Ping(context.Context, store.Scope, string) error { return f.ping }

func (f *standIn) Pause(_ context.Context, _ store.Scope, name, _ string) error {
	f.paused[name] = true
	return nil
}

func (f *standIn) Resume(_ context.Context, _ store.Scope, name, _ string) error {
	delete(f.paused, name)
	return nil
}

func (f *standIn) Set(_ context.Context, c model.Object, fields map[string]string, _ string) (uint64, error) {
	f.secrets[c.ID] = fields
	return 1, nil
}

func (f *standIn) Version(_ context.Context, c model.Object) (uint64, error) {
	if f.secrets[c.ID] != nil {
		return 1, nil
	}
	return 0, nil
}

func (f *standIn) Agents(context.Context, store.Scope) ([]model.Agent, error) { return f.agents, nil }

func (f *standIn) Revoke(_ context.Context, _ store.Scope, name, _ string) (model.Agent, error) {
	return model.Agent{Name: name, State: model.AgentRevoked}, nil
}

func (f *standIn) Token(_ context.Context, group model.Object, r TokenRequest, _ string) (model.Token, error) {
	return model.Token{Token: "rwt1." + group.Name + "." + r.Name, Expires: time.Now().Add(time.Hour)}, nil
}

func (f *standIn) Names() []string { return []string{"postgres", "sqlite"} }

func (f *standIn) CheckSettings(_ string, settings map[string]any) error {
	if _, bad := settings["hots"]; bad {
		return fault.Of("E_SETTINGS").WithCause("unknown setting hots").WithFix("did you mean host?").WithField("hots")
	}
	return nil
}

func (f *standIn) SettingsSchema(string) model.Schema { return model.Schema{"type": "object"} }

func newHub(t *testing.T) *hub {
	t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := st.EnsureTenant(ctx, "main", "private", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	env, err := st.EnsureEnvironment(ctx, tenant.ID, "default", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := st.EnsureTenant(ctx, "other", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.EnsureEnvironment(ctx, other.ID, "default", time.Now()); err != nil {
		t.Fatal(err)
	}
	f := &standIn{store: st, secrets: map[page.ID]map[string]string{}, paused: map[string]bool{}, wake: make(chan struct{}),
		callers: map[string]Caller{
			"admin":    {Name: "root", Tenant: tenant.ID, Role: "admin"},
			"operator": {Name: "o", Tenant: tenant.ID, Role: "operator"},
			"builder":  {Name: "b", Tenant: tenant.ID, Role: "builder"},
			"viewer":   {Name: "eve", Tenant: tenant.ID, Role: "viewer"},
			"other":    {Name: "mallory", Tenant: other.ID, Role: "admin"},
			"bound":    {Name: "bob", Tenant: tenant.ID, Role: "admin", Environments: []page.ID{page.NewID()}},
			"nobody":   {Name: "n", Tenant: tenant.ID, Role: "odd"},
		}}
	h := &hub{t: t, store: st, tenant: tenant, env: env, stand: f}
	handler := New(Config{Version: "1.2.3", Access: f, Places: st, Objects: st, Jobs: st, Parked: st, Flows: f, Connections: f,
		Secrets: f, Agents: f, Audit: st, Connectors: f,
		Changed: func(_ context.Context, o model.Object) { h.changed = append(h.changed, string(o.Kind)+" "+o.Name) }})
	h.server = httptest.NewServer(handler)
	t.Cleanup(func() {
		h.server.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem() model.Problem {
	var p model.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		p.Detail = "not a problem: " + string(a.body)
	}
	return p
}

// as sends a request with a token; headers come in pairs.
func (h *hub) as(token, method, path, body string, headers ...string) answer {
	h.t.Helper()
	req, err := http.NewRequest(method, h.server.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := h.server.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// want sends a request and decodes the answer, which must have the status.
func (h *hub) want(status int, v any, method, path, body string, headers ...string) answer {
	h.t.Helper()
	a := h.as("admin", method, path, body, headers...)
	if a.status != status {
		h.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
	}
	if v != nil {
		if err := json.Unmarshal(a.body, v); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
	return a
}

const set = `kind: Connection
name: a
connector: sqlite
concurrency: 2
---
kind: Flow
name: f
export: {connection: a, query: SELECT 1, key: [id]}
steps:
  - filter: record.id > 0
  - import: {connection: a, table: t}
---
kind: AgentGroup
name: g
`

func TestApplyIsIdempotentAndOrdered(t *testing.T) {
	h := newHub(t)
	var r model.ApplyResult
	h.want(200, &r, "POST", "/api/v1/apply?dryRun=true", set)
	if len(r.Changes) != 3 || r.Changes[0].Action != "created" || !r.DryRun {
		t.Fatalf("dry run: %+v", r)
	}
	if got := h.as("admin", "GET", "/api/v1/flows/f", ""); got.status != 404 {
		t.Fatalf("the dry run stored something: %d", got.status)
	}
	h.want(200, &r, "POST", "/api/v1/apply", set)
	if r.Changes[0].Kind != model.KindAgentGroup || r.Changes[2].Kind != model.KindFlow {
		t.Errorf("not ordered by reference: %+v", r.Changes)
	}
	h.changed = nil
	h.want(200, &r, "POST", "/api/v1/apply", set)
	for _, c := range r.Changes {
		if c.Action != "unchanged" {
			t.Errorf("%+v", c)
		}
	}
	if h.changed != nil {
		t.Errorf("told of changes that were none: %v", h.changed)
	}
	h.want(200, &r, "POST", "/api/v1/apply", strings.Replace(set, "  - filter: record.id > 0", "  - filter: record.id > 7\n  - filter: record.id > 0", 1))
	var o model.Object
	got := h.want(200, &o, "GET", "/api/v1/flows/f", "")
	if got.header.Get("ETag") != `"2"` || o.Version != 2 {
		t.Errorf("version %d, ETag %s", o.Version, got.header.Get("ETag"))
	}
	if !strings.Contains(string(o.Spec), `{"name":"filter-2","filter":"record.id \u003e 7"},{"name":"filter-1"`) {
		t.Errorf("the step names moved: %s", o.Spec)
	}
}

func TestApplyTakesAnyContentType(t *testing.T) {
	h := newHub(t)
	for _, kind := range []string{"", "application/yaml", "text/plain", "application/x-www-form-urlencoded"} {
		h.want(200, nil, "POST", "/api/v1/apply", set, "Content-Type", kind)
	}
	h.want(200, nil, "POST", "/api/v1/apply", `[{"kind": "AgentGroup", "name": "g"}]`, "Content-Type", "application/json")
	h.want(200, nil, "PUT", "/api/v1/credentials/k/secret", `{"a": "b"}`, "Content-Type", "application/x-www-form-urlencoded")
}

func TestApplyIsAllOrNone(t *testing.T) {
	h := newHub(t)
	a := h.as("admin", "POST", "/api/v1/apply", set+"---\nkind: Route\nname: r\nagentGroup: nope\ntarget: a:1\n")
	p := a.problem()
	if a.status != 422 || p.Code != "E_REFERENCE" || p.Fix == "" || len(p.Errors) != 1 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := h.as("admin", "GET", "/api/v1/connections/a", ""); got.status != 404 {
		t.Errorf("a part was stored: %d", got.status)
	}
}

// TestHostile_3_REST: bad bodies and paths get one clear answer of ours.
func TestHostile_3_REST(t *testing.T) {
	h := newHub(t)
	h.want(200, nil, "POST", "/api/v1/apply", set)
	huge := strings.Repeat("x", 5<<20)
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"empty apply", "POST", "/api/v1/apply", "", 400, ""},
		{"null", "POST", "/api/v1/apply", "null", 422, "E_MANIFEST"},
		{"unknown key", "POST", "/api/v1/apply", "kind: AgentGroup\nname: x\nnmae: y", 422, "E_MANIFEST"},
		{"unknown kind", "POST", "/api/v1/apply", "kind: Agent\nname: x", 422, "E_UNKNOWN_KIND"},
		{"unknown connector", "POST", "/api/v1/apply", "kind: Connection\nname: x\nconnector: orcle", 422, "E_MANIFEST"},
		{"bad setting", "POST", "/api/v1/apply", "kind: Connection\nname: x\nconnector: sqlite\nsettings: {hots: y}", 422, "E_MANIFEST"},
		{"bad expression", "POST", "/api/v1/apply", "kind: Flow\nname: x\nsteps: [{filter: nope}]", 422, "E_MANIFEST"},
		{"two environments", "POST", "/api/v1/apply", "kind: AgentGroup\nname: x\nenvironment: a\n---\nkind: AgentGroup\nname: y\nenvironment: b", 422, "E_MANIFEST"},
		{"too large", "POST", "/api/v1/apply", huge, 413, "E_TOO_LARGE"},
		{"unknown query", "GET", "/api/v1/flows?sort=name", "", 400, "E_REQUEST"},
		{"limit 0", "GET", "/api/v1/flows?limit=0", "", 400, "E_REQUEST"},
		{"limit -1", "GET", "/api/v1/flows?limit=-1", "", 400, "E_REQUEST"},
		{"limit 10^9", "GET", "/api/v1/flows?limit=1000000000", "", 400, "E_REQUEST"},
		{"limit text", "GET", "/api/v1/flows?limit=many", "", 400, "E_REQUEST"},
		{"bad audit cursor", "GET", "/api/v1/audit?cursor=x", "", 400, "E_REQUEST"},
		{"unknown environment", "GET", "/api/v1/flows?environment=prod", "", 404, "E_NOT_FOUND"},
		{"environment of dots", "GET", "/api/v1/flows?environment=..", "", 404, "E_NOT_FOUND"},
		{"id 0", "GET", "/api/v1/jobs/0", "", 404, "E_NOT_FOUND"},
		{"id of dots", "GET", "/api/v1/jobs/%2e%2e", "", 404, "E_NOT_FOUND"},
		{"id with NUL", "GET", "/api/v1/jobs/%00", "", 404, "E_NOT_FOUND"},
		{"long id", "GET", "/api/v1/jobs/" + strings.Repeat("a", 5000), "", 400, "E_REQUEST"},
		{"id of nobody", "GET", "/api/v1/jobs/" + page.NewID().String(), "", 404, "E_NOT_FOUND"},
		{"bad state", "GET", "/api/v1/jobs?state=done", "", 400, "E_REQUEST"},
		{"unknown path", "GET", "/api/v1/nothing", "", 404, "E_NOT_FOUND"},
		{"wrong method", "PATCH", "/api/v1/flows/f", "", 405, ""},
		{"unknown field", "POST", "/api/v1/agent-groups/g/tokens", `{"ttl": 5}`, 400, "E_REQUEST"},
		{"wrong type", "POST", "/api/v1/agent-groups/g/tokens", `{"uses": "two"}`, 400, "E_REQUEST"},
		{"key twice", "POST", "/api/v1/agent-groups/g/tokens", `{"uses": 1, "uses": 2}`, 400, "E_REQUEST"},
		{"trailing", "POST", "/api/v1/agent-groups/g/tokens", `{"uses": 1} x`, 400, "E_REQUEST"},
		{"array", "POST", "/api/v1/agent-groups/g/tokens", `[]`, 400, "E_REQUEST"},
		{"deep", "POST", "/api/v1/parked/retry", strings.Repeat(`{"ids":`, 5000), 400, "E_REQUEST"},
		{"retry of nothing", "POST", "/api/v1/parked/retry", `{}`, 400, "E_REQUEST"},
		{"secret with number", "PUT", "/api/v1/credentials/k/secret", `{"password": 123456}`, 400, "E_REQUEST"},
		{"secret no object", "PUT", "/api/v1/credentials/k/secret", `"hunter2"`, 400, "E_REQUEST"},
		{"delete in use", "DELETE", "/api/v1/connections/a", "", 409, "E_IN_USE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := h.as("admin", tt.method, tt.path, tt.body)
			p := a.problem()
			if a.status != tt.status || tt.code != "" && p.Code != tt.code {
				t.Fatalf("%d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			if tt.code != "" && (a.header.Get("Content-Type") != "application/problem+json" || p.Title == "" || p.Status != tt.status) {
				t.Errorf("not a whole problem: %s %s", a.header.Get("Content-Type"), a.body)
			}
			if strings.Contains(string(a.body), "hunter2") || strings.Contains(string(a.body), "123456") {
				t.Error("the answer repeats the secret")
			}
		})
	}
}

// TestS3_OthersSeeNothing: no token, another tenant's, a viewer's, one bound to
// another environment.
func TestS3_OthersSeeNothing(t *testing.T) {
	h := newHub(t)
	h.want(200, nil, "POST", "/api/v1/apply", set)
	var job model.Job
	h.want(201, &job, "POST", "/api/v1/flows/f/run", "")
	tests := []struct {
		token, method, path, body string
		status                    int
	}{
		{"", "GET", "/api/v1/flows", "", 401},
		{"wrong", "GET", "/api/v1/flows", "", 401},
		{"", "POST", "/api/v1/apply", set, 401},
		{"nobody", "GET", "/api/v1/flows", "", 403},
		{"viewer", "POST", "/api/v1/apply", set, 403},
		{"viewer", "POST", "/api/v1/flows/f/run", "", 403},
		{"viewer", "PUT", "/api/v1/credentials/k/secret", `{"a":"b"}`, 403},
		{"viewer", "POST", "/api/v1/agent-groups/g/tokens", "", 403},
		{"viewer", "GET", "/api/v1/audit", "", 403},
		{"viewer", "GET", "/api/v1/parked", "", 403},
		{"viewer", "GET", "/api/v1/parked/" + page.NewID().String(), "", 403},
		{"operator", "GET", "/api/v1/parked", "", 200},
		{"operator", "PUT", "/api/v1/parked/" + page.NewID().String() + "/record", "{}", 404},
		{"operator", "POST", "/api/v1/apply", set, 403},
		{"operator", "POST", "/api/v1/agents/a/revoke", "", 403},
		{"builder", "POST", "/api/v1/agents/a/revoke", "", 403},
		{"builder", "PUT", "/api/v1/credentials/k/secret", `{"a":"b"}`, 200},
		{"viewer", "GET", "/api/v1/flows/f", "", 200},
		{"other", "GET", "/api/v1/flows/f", "", 404},
		{"other", "DELETE", "/api/v1/flows/f", "", 404},
		{"other", "POST", "/api/v1/flows/f/run", "", 404},
		{"other", "GET", "/api/v1/jobs/" + job.ID.String(), "", 404},
		{"other", "POST", "/api/v1/jobs/" + job.ID.String() + "/cancel", "", 404},
		{"other", "GET", "/api/v1/jobs/" + job.ID.String() + "/proof", "", 404},
		{"other", "POST", "/api/v1/connections/a/pause", "", 404},
		{"bound", "GET", "/api/v1/flows/f?environment=default", "", 404},
	}
	for _, tt := range tests {
		t.Run(tt.token+" "+tt.method+" "+tt.path, func(t *testing.T) {
			if a := h.as(tt.token, tt.method, tt.path, tt.body); a.status != tt.status {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
}

func TestEveryOperationNeedsARight(t *testing.T) {
	h := newHub(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []map[string][]string
		}
	}
	a := h.as("", "GET", "/api/openapi.json", "")
	if err := json.Unmarshal(a.body, &doc); err != nil || a.status != 200 {
		t.Fatalf("%d %v", a.status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	count := 0
	for path, methods := range doc.Paths {
		for method, o := range methods {
			count++
			if len(o.Security) == 0 && o.OperationID != "version" {
				t.Errorf("%s %s is open", method, path)
			}
			a := h.as("", strings.ToUpper(method), strings.NewReplacer("{name}", "x", "{id}", "x").Replace(path), "{}")
			if o.OperationID != "version" && a.status != 401 {
				t.Errorf("%s %s answers a stranger with %d", method, path, a.status)
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d operations", count)
	}
}

func TestSecretsGoInAndNeverOut(t *testing.T) {
	h := newHub(t)
	var info model.SecretInfo
	h.want(200, &info, "PUT", "/api/v1/credentials/erp-login/secret", `{"username":"erp","password":"hunter2"}`)
	if info.Version != 1 || !info.Set {
		t.Errorf("%+v", info)
	}
	for _, path := range []string{"/api/v1/credentials/erp-login", "/api/v1/credentials", "/api/v1/secrets", "/api/v1/audit"} {
		if a := h.want(200, nil, "GET", path, ""); bytes.Contains(a.body, []byte("hunter2")) {
			t.Errorf("%s shows the secret", path)
		}
	}
	h.want(200, nil, "POST", "/api/v1/apply", "kind: Credential\nname: at-site\ncustody: site")
	if a := h.as("admin", "PUT", "/api/v1/credentials/at-site/secret", `{"a":"b"}`); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAgentTokenMayComeBeforeApply(t *testing.T) {
	h := newHub(t)
	var token model.Token
	h.want(201, &token, "POST", "/api/v1/agent-groups/plant-7/tokens", "")
	if token.Token != "rwt1.plant-7." {
		t.Errorf("%+v", token)
	}
	h.want(201, &token, "POST", "/api/v1/agent-groups/plant-7/tokens", `{"agent":"a-1","uses":3}`)
	h.want(200, nil, "GET", "/api/v1/agent-groups/plant-7", "")
}

func TestETagAndIfMatch(t *testing.T) {
	h := newHub(t)
	one := "kind: Connection\nname: a\nconnector: sqlite\nconcurrency: "
	h.want(200, nil, "POST", "/api/v1/apply", one+"1")
	h.want(200, nil, "POST", "/api/v1/apply", one+"2", "If-Match", `"1"`)
	if a := h.as("admin", "POST", "/api/v1/apply", one+"3", "If-Match", `"1"`); a.status != 412 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := h.as("admin", "DELETE", "/api/v1/connections/a", "", "If-Match", `"1"`); a.status != 412 {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.want(204, nil, "DELETE", "/api/v1/connections/a", "", "If-Match", `"2"`)
}

func TestIdempotencyKey(t *testing.T) {
	h := newHub(t)
	h.want(200, nil, "POST", "/api/v1/apply", set)
	var first, second, third model.Job
	h.want(201, &first, "POST", "/api/v1/flows/f/run", "", "Idempotency-Key", "k1")
	replay := h.want(201, &second, "POST", "/api/v1/flows/f/run", "", "Idempotency-Key", "k1")
	h.want(201, &third, "POST", "/api/v1/flows/f/run", "", "Idempotency-Key", "k2")
	if first.ID != second.ID || first.ID == third.ID || replay.header.Get("Idempotent-Replay") != "true" {
		t.Errorf("%s %s %s", first.ID, second.ID, third.ID)
	}
	if a := h.as("admin", "POST", "/api/v1/flows/f/run", "{}", "Idempotency-Key", "k1"); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestListsAreCutByCursor(t *testing.T) {
	h := newHub(t)
	var text strings.Builder
	for _, name := range []string{"e", "d", "c", "b", "a"} {
		text.WriteString("---\nkind: AgentGroup\nname: " + name + "\nlabels: {odd: \"" + name + "\"}\n")
	}
	h.want(200, nil, "POST", "/api/v1/apply", text.String())
	var got []string
	for cursor := ""; ; {
		var l list[model.Object]
		h.want(200, &l, "GET", "/api/v1/agent-groups?limit=2&cursor="+cursor, "")
		for _, o := range l.Items {
			got = append(got, o.Name)
		}
		if cursor = l.Next; cursor == "" {
			break
		}
	}
	if strings.Join(got, "") != "abcde" {
		t.Errorf("got %v", got)
	}
	var l list[model.Object]
	h.want(200, &l, "GET", "/api/v1/agent-groups?label=odd%3Dc", "")
	if len(l.Items) != 1 || l.Items[0].Name != "c" {
		t.Errorf("%+v", l)
	}
}

func TestJobLifeAndEvents(t *testing.T) {
	h := newHub(t)
	h.want(200, nil, "POST", "/api/v1/apply", set)
	var job model.Job
	h.want(201, &job, "POST", "/api/v1/flows/f/run", "")
	var l list[model.Job]
	h.want(200, &l, "GET", "/api/v1/jobs?flow=f&state=queued,running", "")
	if len(l.Items) != 1 || l.Items[0].ID != job.ID || l.Items[0].FlowName != "f" {
		t.Fatalf("%+v", l)
	}
	h.want(200, nil, "GET", "/api/v1/jobs/"+job.ID.String()+"/proof", "")
	events := make(chan string, 1)
	go func() {
		a := h.as("admin", "GET", "/api/v1/jobs/"+job.ID.String()+"/events", "")
		events <- a.header.Get("Content-Type") + "\n" + string(a.body)
	}()
	h.want(200, nil, "POST", "/api/v1/jobs/"+job.ID.String()+"/cancel", "")
	select {
	case text := <-events:
		if !strings.HasPrefix(text, "text/event-stream") || !strings.Contains(text, `"state":"cancelled"`) {
			t.Errorf("events: %s", text)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stream does not end with the job")
	}
}

func TestConnectionIsSteered(t *testing.T) {
	h := newHub(t)
	h.want(200, nil, "POST", "/api/v1/apply", set)
	var q model.ConnectionQueue
	h.want(200, &q, "POST", "/api/v1/connections/a/pause", "")
	if q.State != model.Offline || q.Cause != model.CauseManual {
		t.Errorf("%+v", q)
	}
	h.want(200, &q, "POST", "/api/v1/connections/a/resume", "")
	h.want(200, &q, "GET", "/api/v1/connections/a/queue", "")
	if q.State != model.Online || q.Borrowers == nil {
		t.Errorf("%+v", q)
	}
	h.stand.ping = fault.Of("E_AUTH_REJECTED").WithCause("no such user")
	var p model.PingResult
	h.want(200, &p, "POST", "/api/v1/connections/a/ping", "")
	if p.OK || p.Fault.Code != "E_AUTH_REJECTED" {
		t.Errorf("%+v", p)
	}
}

func TestAuditAndVersion(t *testing.T) {
	h := newHub(t)
	h.want(200, nil, "POST", "/api/v1/apply", set)
	var l list[model.AuditRow]
	h.want(200, &l, "GET", "/api/v1/audit?limit=2", "")
	if len(l.Items) != 2 || l.Next == "" || l.Items[0].Actor != "root" || len(l.Items[0].Hash) != 64 {
		t.Errorf("%+v", l)
	}
	var c model.AuditCheck
	h.want(200, &c, "GET", "/api/v1/audit/verify", "")
	if !c.OK || c.Rows == 0 {
		t.Errorf("%+v", c)
	}
	var v model.VersionInfo
	if a := h.as("", "GET", "/api/v1/version", ""); json.Unmarshal(a.body, &v) != nil || v.Version != "1.2.3" {
		t.Errorf("%s", a.body)
	}
	var who model.WhoAmI
	h.want(200, &who, "GET", "/api/v1/me", "")
	if who.Name != "root" || len(who.Environments) != 1 {
		t.Errorf("%+v", who)
	}
}

func TestDocsNeedNothingFromElsewhere(t *testing.T) {
	h := newHub(t)
	a := h.as("", "GET", "/api/docs", "")
	if a.status != 200 || bytes.Contains(a.body, []byte("<script")) || bytes.Contains(a.body, []byte("https://")) ||
		!bytes.Contains(a.body, []byte("/api/v1/flows/{name}/run")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("CSP %q", csp)
	}
	for _, kind := range model.Kinds() {
		var s map[string]any
		if a := h.as("", "GET", "/api/schemas/"+string(kind)+".json", ""); json.Unmarshal(a.body, &s) != nil || s["title"] != string(kind) {
			t.Errorf("%s: %s", kind, a.body)
		}
	}
	if a := h.as("", "GET", "/api/schemas/Nope.json", ""); a.status != 404 {
		t.Errorf("%d", a.status)
	}
}
