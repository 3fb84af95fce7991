package runner_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ropeway/agent/internal/uplink"
	"ropeway/connectors"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// load is a page of three records to import.
func (h *hub) load(fields ...string) *page.Page {
	e := page.NewEncoder()
	shape := page.NewShape(fields...)
	for i := range 3 {
		e.Begin(shape)
		for range fields {
			e.Int64(int64(i))
		}
		if err := e.End(); err != nil {
			panic(err)
		}
	}
	return page.New(page.Header{Version: page.Version, Tenant: h.tenant, Environment: h.environment, Flow: h.flow,
		FlowVersion: 1, Chain: h.chain, Epoch: page.NewEpoch(), Path: "/load",
		Created: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}, e.Finish(nil), 3)
}

// send imports p at s.
func (h *hub) send(s *site, p *page.Page, claim uint64, spec connectors.ImportSpec) *call {
	step := h.step(control.KindImport, p.Header.Name(), claim, spec)
	step.Step = "load"
	c := h.start(s, step, nil)
	go func() {
		if control.NewFrameWriter(c.hub).Page(p) == nil {
			_ = c.hub.CloseWrite()
		}
	}()
	return c
}

var spec = connectors.ImportSpec{Table: "numbers"}

func answer(t *testing.T, d *control.StepDone) connectors.Answer {
	t.Helper()
	var a connectors.Answer
	if d.GetFault() != nil {
		t.Fatal(d.GetFault())
	}
	must(t, json.Unmarshal(d.GetAnswer(), &a))
	return a
}

// TestDelivery_3_4_AnImportWhoseAnswerIsLost is not done again.
func TestDelivery_3_4_AnImportWhoseAnswerIsLost(t *testing.T) {
	y, h := &system{gate: make(chan struct{}), started: make(chan struct{}, 1)}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	p := h.load("id")
	first := h.send(s, p, 1, spec)
	<-y.started
	first.drop(t) // the session breaks while the target works
	second := h.send(s, p, 2, spec)
	close(y.gate)
	done := wait(t, second)
	if a := answer(t, done); a.Applied != 3 || !done.GetJoined() {
		t.Fatalf("joined: %v, %+v", done.GetJoined(), a)
	}
	third := wait(t, h.send(s, p, 3, spec)) // the second answer was lost as well
	if a := answer(t, third); a.Applied != 3 || !third.GetJoined() {
		t.Fatalf("recorded: %v, %+v", third.GetJoined(), a)
	}
	if y.imports != 1 {
		t.Fatalf("imported %d times", y.imports)
	}
}

func TestAFailedImportIsTriedAgain(t *testing.T) {
	y, h := &system{}, newHub()
	s := newSite(t, t.TempDir(), `rules: [{connector: numbers, target: "db:1", allow: [export]}]`, y, 0)
	p := h.load("id")
	if done := wait(t, h.send(s, p, 1, spec)); code(done) != "E_POLICY_DENIED" {
		t.Fatal(done)
	}
	s.stop()
	s = newSite(t, t.TempDir(), allowAll, y, 0)
	if a := answer(t, wait(t, h.send(s, p, 2, spec))); a.Applied != 3 || !a.Inbox {
		t.Fatalf("%+v", a)
	}
}

func TestAnImportUnderAWrongNameIsRefused(t *testing.T) {
	y, h := &system{}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	step := h.step(control.KindImport, h.load("id").Header.Name(), 1, spec)
	c := h.start(s, step, nil)
	go func() { _ = control.NewFrameWriter(c.hub).Page(h.load("id")) }()
	if done := wait(t, c); code(done) != "E_REQUEST" || y.imports != 0 {
		t.Fatalf("%v, imported %d times", done, y.imports)
	}
}

func TestPolicyStandsBeforeEverything(t *testing.T) {
	limited := `rules: [{connector: numbers, target: "db:1", allow: [export, import, lookup], tables: {numbers: [id]}, limits: {rowsPerDay: 100}}]`
	free := connectors.Query{SQL: "SELECT 1", Key: []string{"id"}}
	where := keyed
	where.Where.SQL = "1 = 1 OR secret > 5"
	hidden := keyed
	hidden.Where.All = []connectors.Condition{{Column: "secret", Op: ">", Value: json.RawMessage("5")}}
	for name, c := range map[string]struct {
		rules string
		run   func(*hub, *site) *call
		cause string
	}{
		"no rule":        {"rules: []", func(h *hub, s *site) *call { return h.start(s, h.readStep(0, 1, keyed), h.all) }, "no rule names"},
		"broken file":    {"rulez: []", func(h *hub, s *site) *call { return h.start(s, h.readStep(0, 1, keyed), h.all) }, "broken"},
		"ping":           {"rules: []", func(h *hub, s *site) *call { return h.start(s, h.step(control.KindPing, "", 1, nil), nil) }, "no rule names"},
		"free statement": {limited, func(h *hub, s *site) *call { return h.start(s, h.readStep(0, 1, free), h.all) }, "approval"},
		"free condition": {limited, func(h *hub, s *site) *call { return h.start(s, h.readStep(0, 1, where), h.all) }, "approval"},
		"hidden column":  {limited, func(h *hub, s *site) *call { return h.start(s, h.readStep(0, 1, hidden), h.all) }, `"secret"`},
		"too many rows":  {limited, func(h *hub, s *site) *call { return h.start(s, h.readStep(0, 1, keyed), h.all) }, "rows a day"},
		"import of another field": {limited, func(h *hub, s *site) *call {
			return h.send(s, h.load("id", "salary"), 1, spec)
		}, `"salary"`},
		"import with a forbidden inbox": {`rules: [{connector: numbers, target: "db:1", allow: [import], inbox: false}]`,
			func(h *hub, s *site) *call {
				return h.send(s, h.load("id"), 1, connectors.ImportSpec{Table: "numbers", Inbox: "true"})
			}, "inbox: false"},
	} {
		t.Run(name, func(t *testing.T) {
			y, h := &system{records: 200}, newHub()
			s := newSite(t, t.TempDir(), c.rules, y, 0)
			done := wait(t, c.run(h, s))
			f := control.ToError(done.GetFault())
			if f == nil || f.Code != "E_POLICY_DENIED" || f.Class != fault.Policy || !strings.Contains(f.Cause, c.cause) {
				t.Fatalf("got %v, want E_POLICY_DENIED with %q", f, c.cause)
			}
			if name != "too many rows" && y.opened > 0 {
				t.Error("a connection was opened")
			}
			if y.imports > 0 || len(h.numbers) > 100 {
				t.Errorf("%d imports, %d rows", y.imports, len(h.numbers))
			}
		})
	}
}

func TestInboxFalseInThePolicyTurnsAutoOff(t *testing.T) {
	y, h := &system{}, newHub()
	s := newSite(t, t.TempDir(), `rules: [{connector: numbers, target: "db:1", allow: [import], inbox: false}]`, y, 0)
	if a := answer(t, wait(t, h.send(s, h.load("id"), 1, spec))); a.Inbox {
		t.Fatal("the inbox was kept against the policy")
	}
}

func TestConnectionsAreKeptByAccountAndClosedWhenIdle(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		y, h := &system{}, newHub()
		s := newSite(t, dir, allowAll, y, 0)
		ping := func(credential *control.Credential) {
			step := h.step(control.KindPing, "", 1, nil)
			if credential != nil {
				step.Connection.Credential = credential
			}
			if done := wait(t, h.start(s, step, nil)); code(done) != "" {
				t.Fatal(done.GetFault())
			}
		}
		ping(nil)
		ping(nil)
		ping(&control.Credential{Custody: "hub", FieldsJson: []byte(`{"password": "changed"}`)})
		ping(&control.Credential{Custody: "site", SiteName: "kept"})
		if opened, _, got := y.life(); opened != 3 || got != "[secret changed of the site]" {
			t.Errorf("opened %d times with %s", opened, got)
		}
		time.Sleep(4 * time.Minute)
		ping(nil)
		if opened, closed, _ := y.life(); opened != 3 || closed != 0 {
			t.Errorf("within five minutes: opened %d, closed %d", opened, closed)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, closed, _ := y.life(); closed != 2 {
			t.Errorf("after idling: closed %d, want 2", closed)
		}
		s.stop()
		if _, closed, _ := y.life(); closed != 3 {
			t.Errorf("after the end: closed %d, want 3", closed)
		}
	})
}

func TestAMissingSiteCredentialIsNamed(t *testing.T) {
	y, h := &system{}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	step := h.step(control.KindPing, "", 1, nil)
	step.Connection.Credential = &control.Credential{Custody: "site", SiteName: "nobody"}
	if done := wait(t, h.start(s, step, nil)); code(done) != "E_NO_CREDENTIAL" {
		t.Fatal(done)
	}
}

// TestHostileSteps sends what no hub should: each is one clear fault.
func TestHostileSteps(t *testing.T) {
	y, h := &system{records: 5}, newHub()
	s := newSite(t, t.TempDir(), allowAll, y, 0)
	for name, change := range map[string]func(*control.RunStep){
		"no kind":           func(m *control.RunStep) { m.Kind = 0 },
		"unknown kind":      func(m *control.RunStep) { m.Kind = 99 },
		"lookup":            func(m *control.RunStep) { m.Kind = control.KindLookup },
		"no tenant":         func(m *control.RunStep) { m.Tenant = nil },
		"short job":         func(m *control.RunStep) { m.Job = m.Job[:3] },
		"foreign name":      func(m *control.RunStep) { m.Name = "x/read.0" },
		"other request":     func(m *control.RunStep) { m.Request = 7 },
		"no connection":     func(m *control.RunStep) { m.Connection = nil },
		"unknown connector": func(m *control.RunStep) { m.Connection.Connector = "oracle" },
		"unknown setting":   func(m *control.RunStep) { m.Connection.SettingsJson = []byte(`{"hosts": "a"}`) },
		"settings no JSON":  func(m *control.RunStep) { m.Connection.SettingsJson = []byte(`{`) },
		"spec no JSON":      func(m *control.RunStep) { m.SpecJson = []byte("[") },
		"empty spec":        func(m *control.RunStep) { m.SpecJson = []byte("{}") },
		"custody":           func(m *control.RunStep) { m.Connection.Credential.Custody = "sealed" },
		"credential":        func(m *control.RunStep) { m.Connection.Credential.FieldsJson = []byte(`secret-canary`) },
		"bad step":          func(m *control.RunStep) { m.Step = "A B" },
	} {
		step := h.readStep(0, 1, keyed)
		change(step)
		done := wait(t, h.start(s, step, h.all))
		if code(done) == "" {
			t.Errorf("%s: no fault", name)
		}
		if strings.Contains(done.GetFault().String(), "secret") {
			t.Errorf("%s: the fault shows a secret: %v", name, done.GetFault())
		}
	}
	if s.Running() != 0 || len(h.numbers) != 0 {
		t.Errorf("%d executions run, %d records read", s.Running(), len(h.numbers))
	}
	_ = uplink.ErrCut
}
