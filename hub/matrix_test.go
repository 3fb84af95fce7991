package hub

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // rows that no API makes

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/secret"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// secretWord stands in everything that belongs to the first tenant's first
// environment; nobody from elsewhere may ever read it. Names begin with nameWord:
// those the caller may say himself.
const (
	secretWord = "zqsecret"
	nameWord   = "zqcanary"
)

// The callers of the matrix, in the order of its columns. elsewhere is an
// administrator of the same tenant whose token is for another environment,
// foreign the administrator of another tenant.
var callerNames = []string{"none", "wrong", "viewer", "operator", "builder", "admin", "elsewhere", "foreign"}

// want is the status for each caller.
type want [8]int

// The usual columns. Asking for a thing of another place finds nothing; asking
// for a list of the own place finds that.
var (
	viewOne     = want{401, 401, 200, 200, 200, 200, 404, 404}
	viewList    = want{401, 401, 200, 200, 200, 200, 404, 200}
	operateOne  = want{401, 401, 403, 200, 200, 200, 404, 404}
	buildOne    = want{401, 401, 403, 403, 204, 204, 404, 404}
	adminOne    = want{401, 401, 403, 403, 403, 200, 404, 404}
	everybody   = want{200, 200, 200, 200, 200, 200, 200, 200}
	everyCaller = want{401, 401, 200, 200, 200, 200, 200, 200}
)

// row is one operation.
type row struct {
	want want
	path map[string]string // of its parameters; name is the default
	body string
	kind string // of the body; application/json
	make string // what to make new before each call: objects, job or parked
}

var applyBody = "kind: AgentGroup\nname: applied\n"

// rows has every operation of the API. A new one without a row fails the test.
var rows = map[string]row{
	"version":      {want: everybody},
	"who-am-i":     {want: everyCaller},
	"apply":        {want: want{401, 401, 403, 403, 200, 200, 404, 200}, body: applyBody, kind: "application/yaml"},
	"list-audit":   {want: want{401, 401, 403, 403, 403, 200, 200, 200}}, // of the whole tenant; see tenantWide
	"verify-audit": {want: want{401, 401, 403, 403, 403, 200, 200, 200}},

	"list-agent-groups": {want: viewList}, "get-agent-group": {want: viewOne, path: named("group")},
	"list-connections": {want: viewList}, "get-connection": {want: viewOne, path: named("connection")},
	"list-credentials": {want: viewList}, "get-credential": {want: viewOne, path: named("credential")},
	"list-flows": {want: viewList}, "get-flow": {want: viewOne, path: named("flow")},
	"list-routes": {want: viewList}, "get-route": {want: viewOne, path: named("route")},
	"list-listeners": {want: viewList}, "get-listener": {want: viewOne, path: named("listener")},
	"delete-agent-group": {want: buildOne, path: named("spare"), make: "objects"},
	"delete-connection":  {want: buildOne, path: named("spare"), make: "objects"},
	"delete-credential":  {want: buildOne, path: named("spare"), make: "objects"},
	"delete-flow":        {want: buildOne, path: named("spare"), make: "objects"},
	"delete-route":       {want: buildOne, path: named("spare"), make: "objects"},
	"delete-listener":    {want: buildOne, path: named("spare"), make: "objects"},

	"connection-queue":  {want: viewOne, path: named("connection")},
	"ping-connection":   {want: operateOne, path: named("connection")},
	"pause-connection":  {want: operateOne, path: named("connection")},
	"resume-connection": {want: operateOne, path: named("connection")},

	// what `secret set` and `agent token` name is made when it is not there: in the
	// caller's own place
	"set-secret": {want: want{401, 401, 403, 403, 200, 200, 404, 200}, path: named("made"),
		body: `{"password": "` + secretWord + `"}`},
	"list-secrets": {want: viewList},
	"create-agent-token": {want: want{401, 401, 403, 403, 403, 201, 404, 201}, path: named("made"),
		body: `{}`},
	"list-agents": {want: viewList}, "get-agent": {want: viewOne, path: named("agent")},
	"revoke-agent": {want: adminOne, path: named("agent")},

	"run-flow":  {want: want{401, 401, 403, 201, 201, 201, 404, 404}, path: named("flow")},
	"list-jobs": {want: viewList}, "get-job": {want: viewOne}, "prove-job": {want: viewOne},
	"cancel-job": {want: operateOne, make: "job"},
	"watch-job":  {want: want{401, 401, 200, 200, 200, 200, 200, 200}, make: "ended job"}, // says so in its first event

	"list-parked":  {want: want{401, 401, 403, 200, 200, 200, 404, 200}},
	"get-parked":   {want: want{401, 401, 403, 200, 200, 200, 404, 404}, make: "parked"},
	"edit-parked":  {want: want{401, 401, 403, 200, 200, 200, 404, 404}, make: "parked", body: `{"id": 1}`},
	"retry-parked": {want: want{401, 401, 403, 201, 201, 201, 404, 409}, make: "parked", body: `{"ids": ["PARKED"]}`},
}

// outside are the routes of the HTTP server that are no operations. They are
// open to everybody and say nothing about any tenant.
var outside = map[string]string{
	"GET /api/docs": "/api/docs", "GET /api/docs.css": "/api/docs.css",
	"GET /api/schemas/{file}": "/api/schemas/Flow.json", "/api/": "/api/nowhere",
}

func named(name string) map[string]string { return map[string]string{"name": nameWord + "-" + name} }

const everything = `
{kind: AgentGroup, name: zqcanary-group, labels: {note: zqsecret}}
---
{kind: AgentGroup, name: zqcanary-spare}
---
{kind: Credential, name: zqcanary-credential, custody: vault}
---
{kind: Credential, name: zqcanary-spare, custody: vault}
---
{kind: Connection, name: zqcanary-connection, connector: postgres, agentGroup: zqcanary-group, credential: zqcanary-credential, settings: {host: zqsecret.example, database: erp}}
---
{kind: Connection, name: zqcanary-spare, connector: postgres, agentGroup: zqcanary-group, settings: {host: zqsecret.example, database: erp}}
---
kind: Flow
name: zqcanary-flow
export: {connection: zqcanary-connection, table: orders, key: [id]}
steps: [{import: {connection: zqcanary-connection, table: copies, mode: insert}}]
---
kind: Flow
name: zqcanary-spare
export: {connection: zqcanary-connection, table: orders, key: [id]}
steps: [{import: {connection: zqcanary-connection, table: copies, mode: insert}}]
---
{kind: Route, name: zqcanary-route, agentGroup: zqcanary-group, target: "zqsecret.example:5432"}
---
{kind: Route, name: zqcanary-spare, agentGroup: zqcanary-group, target: "zqsecret.example:5432"}
---
{kind: Listener, name: zqcanary-listener, verify: none, flow: zqcanary-flow}
---
{kind: Listener, name: zqcanary-spare, verify: none, flow: zqcanary-flow}
`

// matrix is a hub with two tenants.
type matrix struct {
	running
	t      *testing.T
	client *http.Client
	store  *store.Store
	tokens map[string]string
	main   store.Scope
	agent  page.ID
	job    string
	parked string
}

func newMatrix(t *testing.T) *matrix {
	m := &matrix{running: start(t, t.TempDir()), t: t, tokens: map[string]string{"wrong": "rwa1." + strings.Repeat("A", 43)}}
	m.client = m.running.client(t)
	ctx, now := t.Context(), time.Now()
	var err error
	if m.store, err = store.Open(ctx, m.config.storeURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.store.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tenant, err := m.store.TenantByName(ctx, firstTenant)
	must(err)
	env, err := m.store.EnvironmentByName(ctx, tenant.ID, firstEnvironment)
	must(err)
	test, err := m.store.EnsureEnvironment(ctx, tenant.ID, "test", now)
	must(err)
	other, err := m.store.EnsureTenant(ctx, "other", "", now)
	must(err)
	_, err = m.store.EnsureEnvironment(ctx, other.ID, firstEnvironment, now)
	must(err)
	m.main = store.Scope{Tenant: tenant.ID, Environment: env.ID}
	gate := access.New(m.store, time.Now)
	for name, n := range map[string]access.NewToken{
		"viewer":    {Tenant: tenant.ID, Role: access.Viewer},
		"operator":  {Tenant: tenant.ID, Role: access.Operator},
		"builder":   {Tenant: tenant.ID, Role: access.Builder},
		"admin":     {Tenant: tenant.ID, Role: access.Admin},
		"elsewhere": {Tenant: tenant.ID, Role: access.Admin, Environments: []page.ID{test.ID}},
		"foreign":   {Tenant: other.ID, Role: access.Admin},
	} {
		n.Name, n.Actor = "matrix-"+name, "test"
		m.tokens[name], _, err = gate.Issue(ctx, n)
		must(err)
	}
	m.objects()
	group, err := m.store.Object(ctx, m.main, model.KindAgentGroup, nameWord+"-group")
	must(err)
	m.agent = page.NewID()
	must(m.store.PutAgent(ctx, model.Agent{ID: m.agent, Tenant: tenant.ID, Environment: env.ID, Name: nameWord + "-agent",
		Group: group.ID, GroupName: group.Name, State: model.AgentPending, Hostname: secretWord, Enrolled: now}, []byte("key")))
	m.newJob()
	m.newParked()
	return m
}

func (m *matrix) objects() {
	m.t.Helper()
	if code, body := m.call("admin", http.MethodPost, "/api/v1/apply?environment=default", "application/yaml", everything); code != 200 {
		m.t.Fatalf("apply: %d %s", code, body)
	}
}

func (m *matrix) newJob() {
	m.t.Helper()
	code, body := m.call("admin", http.MethodPost, "/api/v1/flows/zqcanary-flow/run?environment=default", "", "")
	var job struct{ ID string }
	if err := json.Unmarshal([]byte(body), &job); err != nil || code != 201 {
		m.t.Fatalf("run: %d %s", code, body)
	}
	m.job = job.ID
}

// newParked writes a parked record of the job, sealed as the hub seals it.
func (m *matrix) newParked() {
	m.t.Helper()
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	engine, err := secret.Open(secret.Config{Dir: filepath.Join(m.config.Data, "secrets"), KeyFile: m.config.keyFile()})
	must(err)
	key, err := engine.DataKey(m.t.Context(), m.main.Tenant)
	must(err)
	db, err := sql.Open("sqlite3", "file:"+strings.TrimPrefix(m.config.storeURL(), "sqlite:")+"?_busy_timeout=10000")
	must(err)
	defer db.Close()
	m.parked = page.NewID().String()
	record := page.SealBytes(key, []byte(`{"id": 1, "note": "`+secretWord+`"}`), []byte("parked record "+m.parked))
	detail := page.SealBytes(key, []byte(`{"fault": {"code": "E_VALUE", "class": "value", "sentence": "`+secretWord+`"}}`),
		[]byte("parked detail "+m.parked))
	_, err = db.ExecContext(m.t.Context(), `INSERT INTO parked (id, tenant, environment, job, flow, flow_name, flow_version, step,
		page, page_index, origin_root, origin_index, class, code, fingerprint, trace_hash, record, detail, state, retry_job,
		retry_root, retry_seq, retry_index, attempts, edited, created, updated)
		SELECT ?, tenant, environment, id, flow, flow_name, flow_version, 'import', id || '.export:00', 0, id || '.export:00', 0,
		'value', 'E_VALUE', '', x'', ?, ?, 'parked', '', '', 0, 0, 1, 0, 1, 1 FROM jobs WHERE id = ?`,
		m.parked, record, detail, m.job)
	must(err)
}

func (m *matrix) call(caller, method, path, kind, body string) (int, string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, m.url+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if token := m.tokens[caller]; token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		m.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(text)
}

// operation is what the description of the API says about one.
type operation struct {
	OperationID string
	Parameters  []struct{ Name, In string }
}

func (m *matrix) operations() map[string][3]string {
	code, body := m.call("none", http.MethodGet, "/api/openapi.json", "", "")
	var doc struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != 200 {
		m.t.Fatalf("openapi: %d %v", code, err)
	}
	out := map[string][3]string{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			query := ""
			if slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return p.Name == "environment" }) {
				query = "?environment=default"
			}
			out[op.OperationID] = [3]string{strings.ToUpper(method), path, query}
		}
	}
	return out
}

// Promise S3: every operation with every kind of caller. The list of operations
// comes from the API itself.
func TestS3_EveryOperationForEveryCaller(t *testing.T) {
	m := newMatrix(t)
	operations := m.operations()
	for id := range rows {
		if _, there := operations[id]; !there {
			t.Errorf("the matrix has a row %s, the API has no such operation", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(operations)) {
		r, there := rows[id]
		if !there {
			t.Errorf("operation %s (%v) has no row in the matrix: say who may call it", id, operations[id])
			continue
		}
		for i, caller := range callerNames {
			m.prepare(r)
			m.cell(id, operations[id], r, caller, r.want[i])
		}
	}
}

// prepare makes new what a call of the row needs.
func (m *matrix) prepare(r row) {
	m.t.Helper()
	switch r.make {
	case "objects":
		m.objects()
	case "job":
		m.newJob()
	case "parked":
		m.newParked()
	case "ended job":
		m.newJob()
		m.call("admin", http.MethodPost, "/api/v1/jobs/"+m.job+"/cancel?environment=default", "", "")
	}
}

func (m *matrix) cell(id string, op [3]string, r row, caller string, want int) {
	m.t.Helper()
	path := op[1]
	for name, value := range r.path {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	if strings.Contains(path, "/parked/") {
		path = strings.ReplaceAll(path, "{id}", m.parked)
	}
	path = strings.ReplaceAll(path, "{id}", m.job)
	kind := r.kind
	if kind == "" && r.body != "" {
		kind = "application/json"
	}
	code, body := m.call(caller, op[0], path+op[2], kind, strings.ReplaceAll(r.body, "PARKED", m.parked))
	if code != want {
		m.t.Errorf("%s as %s: %d, want %d: %.300s", id, caller, code, want, body)
	}
	m.leaks(id, caller, path, body)
}

// tenantWide are operations over the whole tenant: an administrator of one of its
// environments reads about the others.
var tenantWide = []string{"list-audit", "verify-audit"}

// leaks looks for anything of the first place in what others read. What the
// caller wrote itself may come back.
func (m *matrix) leaks(id, caller, path, body string) {
	m.t.Helper()
	inside := slices.Contains([]string{"viewer", "operator", "builder", "admin"}, caller)
	if inside || caller == "elsewhere" && slices.Contains(tenantWide, id) {
		return
	}
	for _, canary := range []string{secretWord, m.agent.String(), m.job, m.parked, m.main.Environment.String(), m.main.Tenant.String()} {
		asked := strings.Contains(path, canary)
		sameTenant := caller == "elsewhere" && canary == m.main.Tenant.String()
		if !asked && !sameTenant && strings.Contains(body, canary) {
			m.t.Errorf("%s as %s leaks %q: %.300s", id, caller, canary, body)
		}
	}
}

// Routes that are no operations are few and known.
func TestS3_RoutesBesideTheOperations(t *testing.T) {
	m := newMatrix(t)
	files, err := filepath.Glob("internal/api/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source of the API", err)
	}
	route := regexp.MustCompile(`\bmux\.Handle(?:Func)?\("([^"]+)"`)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range route.FindAllStringSubmatch(string(text), -1) {
			if _, known := outside[found[1]]; !known && !strings.HasSuffix(f, "_test.go") {
				t.Errorf("%s: route %q has no row: it is open to everybody", f, found[1])
			}
		}
	}
	for pattern, path := range outside {
		code, body := m.call("none", http.MethodGet, path, "", "")
		if code != 200 && pattern != "/api/" || strings.Contains(body, secretWord) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
}

// What one tenant does under a name that another uses stays its own.
func TestS3_SameNamesAreApart(t *testing.T) {
	m := newMatrix(t)
	m.call("admin", http.MethodPut, "/api/v1/credentials/zqcanary-credential/secret?environment=default", "application/json", `{"password":"one"}`)
	for range 3 {
		code, body := m.call("foreign", http.MethodPut, "/api/v1/credentials/zqcanary-credential/secret?environment=default",
			"application/json", `{"password":"two"}`)
		if code != 200 {
			t.Fatalf("%d %s", code, body)
		}
	}
	if code, body := m.call("foreign", http.MethodDelete, "/api/v1/credentials/zqcanary-credential?environment=default", "", ""); code != 204 {
		t.Fatalf("%d %s", code, body)
	}
	code, body := m.call("viewer", http.MethodGet, "/api/v1/secrets?environment=default", "", "")
	if code != 200 || !strings.Contains(body, `"name":"zqcanary-credential"`) || !strings.Contains(body, `"version":1`) {
		t.Errorf("the first tenant's credential: %d %s", code, body)
	}
}

// Names that try to leave their place.
func TestS3_HostileNames(t *testing.T) {
	m := newMatrix(t)
	long := strings.Repeat("a", 10_000)
	for _, name := range []string{"..", "..%2f..", "%2e%2e", ">", "*", "$JS.API", "%00", "%0a", "-1", "0", long, "zqcanary-flow%20", "ZQCANARY-FLOW",
		"%EF%BD%9Aqcanary-flow", m.main.Tenant.String(), "zqcanary-flow%2frun", "' OR 1=1 --", "zqcanary-flow;x"} {
		path := "/api/v1/flows/" + strings.ReplaceAll(name, " ", "%20")
		code, body := m.call("foreign", http.MethodGet, path, "", "")
		if code < 400 || code >= 500 || strings.Contains(body, "SELECT") {
			t.Errorf("%.40q: %d %.200s", name, code, body)
		}
		code, body = m.call("foreign", http.MethodGet, "/api/v1/flows?environment="+fmt.Sprintf("%.200s", strings.ReplaceAll(name, " ", "%20")), "", "")
		if code < 400 || code >= 500 {
			t.Errorf("environment %.40q: %d %.200s", name, code, body)
		}
	}
}
