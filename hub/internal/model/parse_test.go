package model

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/protocol/fault"
)

func parse(t *testing.T, text string) []Manifest {
	t.Helper()
	ms, err := ParseManifests(strings.NewReader(text), "test.yaml")
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return ms
}

// TestSurface_4_SampleIsAccepted reads the sample of SURFACE §4, without the
// lookup that comes later, and validates it against nothing.
func TestSurface_4_SampleIsAccepted(t *testing.T) {
	text, err := os.ReadFile("testdata/surface.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ms := parse(t, string(text))
	if err := Validate(ms, nil, Rules{}); err != nil {
		t.Fatal(err)
	}
	var flow *Flow
	for _, m := range ms {
		if m.Name == "orders-to-warehouse" {
			flow = m.Spec.(*Flow)
		}
	}
	names := []string{flow.Steps[0].Name, flow.Steps[1].Name, flow.Steps[2].Name}
	if diff := cmp.Diff([]string{"filter-1", "map-1", "load"}, names); diff != "" {
		t.Error(diff)
	}
	want := Assignments{{"id", "record.id"}, {"customer", "record.customer_id"}, {"total_cents", "int(record.total * 100)"}}
	if diff := cmp.Diff(want, flow.Steps[1].Map); diff != "" {
		t.Error(diff)
	}
	if i := flow.Steps[2].Import; i.OnError != "park" || !i.FieldErrors.Removes("fax") {
		t.Errorf("what stands beside the import is lost: %+v", i)
	}
}

func TestSpecSurvivesStorage(t *testing.T) {
	text, err := os.ReadFile("testdata/surface.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range parse(t, string(text)+"---\nkind: Listener\nname: open\nverify: none\nflow: orders-from-shop\n") {
		raw, err := EncodeSpec(m.Spec)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeSpec(m.Kind, raw)
		if err != nil {
			t.Fatal(err)
		}
		again, err := EncodeSpec(back)
		if err != nil {
			t.Fatal(err)
		}
		if string(raw) != string(again) {
			t.Errorf("%s %s: %s became %s", m.Kind, m.Name, raw, again)
		}
		exported := fmt.Sprintf(`{"kind": %q, "name": %q, %s`, m.Kind, m.Name, raw[1:])
		if string(raw) == "{}" {
			exported = fmt.Sprintf(`{"kind": %q, "name": %q}`, m.Kind, m.Name)
		}
		reapplied, err := EncodeSpec(parse(t, exported)[0].Spec)
		if err != nil || string(reapplied) != string(raw) {
			t.Errorf("%s %s: exported and applied again %s became %s, %v", m.Kind, m.Name, raw, reapplied, err)
		}
	}
}

// TestBadManifests: one clear fault with line, cause and fix for each problem.
func TestBadManifests(t *testing.T) {
	flow := "kind: Flow\nname: f\nexport: {connection: a, query: SELECT 1}\nsteps:\n"
	tests := []struct{ name, text, code, cause, fix string }{
		{"empty", "", "E_MANIFEST", "no manifest", "kind and name"},
		{"only comments", "# nothing\n---\n", "E_MANIFEST", "no manifest", "kind and name"},
		{"not a mapping", "just text", "E_MANIFEST", "want keys and values", ""},
		{"syntax", "kind: [", "E_MANIFEST", "did not find", "indentation"},
		{"binary", "kind: \xff\xfe", "E_MANIFEST", "UTF-8", "UTF-8"},
		{"unknown kind", "kind: Flwo\nname: x", "E_UNKNOWN_KIND", `unknown kind "Flwo"`, "did you mean Flow"},
		{"kind in another case", "kind: flow\nname: x", "E_UNKNOWN_KIND", `unknown kind "flow"`, "did you mean Flow"},
		{"no kind", "name: x", "E_MANIFEST", "kind is missing", "add the key"},
		{"no name", "kind: AgentGroup", "E_MANIFEST", "name is missing", "add the key"},
		{"wildcard name", "kind: AgentGroup\nname: \"a.*\"", "E_MANIFEST", "cannot be used", "letters"},
		{"number name", "kind: AgentGroup\nname: 7", "E_MANIFEST", "must be text", "quotes"},
		{"unknown key", "kind: Connection\nname: x\nconnector: sqlite\nsetings: {}", "E_MANIFEST", `unknown key "setings"`, "did you mean settings"},
		{"nested unknown key", flow + "- import: {connection: a, table: t, moode: insert}", "E_MANIFEST", `"steps.import.moode"`, "did you mean mode"},
		{"key twice", "kind: AgentGroup\nname: x\nname: y", "E_MANIFEST", "given twice", "remove one"},
		{"concurrency 0", "kind: Connection\nname: x\nconnector: sqlite\nconcurrency: 0", "E_MANIFEST", "concurrency", "1 to 25"},
		{"concurrency 26", "kind: Connection\nname: x\nconnector: sqlite\nconcurrency: 26", "E_MANIFEST", "concurrency", "1 to 25"},
		{"concurrency -1", "kind: Connection\nname: x\nconnector: sqlite\nconcurrency: -1", "E_MANIFEST", "concurrency", "1 to 25"},
		{"secret in manifest", "kind: Credential\nname: x\npassword: hunter2", "E_MANIFEST", "never carries", "secret set"},
		{"bad custody", "kind: Credential\nname: x\ncustody: valut", "E_MANIFEST", "custody", "did you mean vault"},
		{"query and table", "kind: Flow\nname: f\nexport: {connection: a, query: q, table: t}\nsteps: [{filter: x}]", "E_MANIFEST", "both", "table"},
		{"lookup", flow + "- lookup: {connection: a}", "E_MANIFEST", "not yet available", "filter, map, set"},
		{"two kinds in a step", flow + "- {filter: a, map: {b: c}}", "E_MANIFEST", "has 2", "exactly one"},
		{"no kind in a step", flow + "- {name: a}", "E_MANIFEST", "has 0", "exactly one"},
		{"step name twice", flow + "- {filter: a, name: x}\n- {filter: b, name: x}", "E_MANIFEST", "used twice", "another name"},
		{"step name with a dot", flow + "- {filter: a, name: x.y}", "E_MANIFEST", "step name", "a-z"},
		{"no steps", "kind: Flow\nname: f\nsteps: []", "E_MANIFEST", "1 to 200 steps", ""},
		{"empty filter", flow + "- {filter: \"\"}", "E_MANIFEST", "must be an expression", "nil"},
		{"upsert without key", flow + "- import: {connection: a, table: t, mode: upsert}", "E_MANIFEST", "needs a key", "add key"},
		{"key in fieldErrors", flow + "- {import: {connection: a, table: t, key: [id]}, fieldErrors: {remove: [id]}}", "E_MANIFEST", "cannot be removed", "take it out"},
		{"onError of a filter", flow + "- {filter: a, onError: stop}", "E_MANIFEST", "belong to an import", ""},
		{"cron never", "kind: Flow\nname: f\nschedule: {cron: 0 0 31 2 *}\nsteps: [{filter: x}]", "E_MANIFEST", "never fire", "five fields"},
		{"cron words", "kind: Flow\nname: f\nschedule: {cron: often}\nsteps: [{filter: x}]", "E_MANIFEST", "five or six", "five fields"},
		{"zone", "kind: Flow\nname: f\nschedule: {cron: 0 0 * * *, timezone: Europe/Berlim}\nsteps: [{filter: x}]", "E_MANIFEST", "time zone", "IANA"},
		{"lag", "kind: Flow\nname: f\nexport: {connection: a, query: q, key: [i], delta: {field: u, lag: 2 days}}\nsteps: [{filter: x}]", "E_MANIFEST", "lag", "duration"},
		{"alias bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\nkind: Connection\nname: x\nconnector: c\nsettings: {b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], f: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]}", "E_MANIFEST", "", ""},
		{"deep", "kind: Connection\nname: x\nconnector: c\nsettings: {a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}", "E_MANIFEST", "", ""},
		{"route target", "kind: Route\nname: x\nagentGroup: g\ntarget: host", "E_MANIFEST", "not host:port", "host:port"},
		{"expose without list", "kind: Route\nname: x\nagentGroup: g\ntarget: h:1\nexpose: {port: 5}", "E_MANIFEST", "mandatory", "networks"},
		{"listener without verify", "kind: Listener\nname: x\nflow: f", "E_MANIFEST", "verify is missing", "verify: none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseManifests(strings.NewReader(tt.text), "bad.yaml")
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("want faults, got %v", err)
			}
			for _, f := range faults {
				if f.Code == tt.code && strings.Contains(f.Cause, tt.cause) && strings.Contains(f.Fix, tt.fix) {
					if strings.Contains(err.Error(), "hunter2") {
						t.Error("the message carries the secret")
					}
					if !strings.Contains(f.Error(), "bad.yaml") {
						t.Errorf("the place is missing: %v", f)
					}
					return
				}
			}
			t.Fatalf("no fault %s with %q and %q in:\n%v", tt.code, tt.cause, tt.fix, err)
		})
	}
}

func TestFaultNamesTheLine(t *testing.T) {
	_, err := ParseManifests(strings.NewReader("kind: Connection\nname: a\nconnector: x\n---\nkind: Connection\nname: b\nconnector: x\nconcurency: 4\n"), "m.yaml")
	f := fault.From(err)
	if want := "Connection b is not valid (m.yaml:8)"; f.Sentence != want {
		t.Errorf("sentence %q, want %q", f.Sentence, want)
	}
	if f.Fix != "did you mean concurrency?" {
		t.Errorf("fix %q", f.Fix)
	}
}

func TestJSONAndListsAreManifestsToo(t *testing.T) {
	ms := parse(t, `[{"kind":"AgentGroup","name":"a"},{"kind":"AgentGroup","name":"b"}]`)
	if len(ms) != 2 || ms[1].Name != "b" {
		t.Errorf("got %+v", ms)
	}
}

func FuzzParseManifests(f *testing.F) {
	sample, err := os.ReadFile("testdata/surface.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add([]byte("kind: Flow\nname: x\nsteps: [{map: {a: &x 1, b: *x}}]"))
	f.Add([]byte("a: &a {b: *a}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ms, err := ParseManifests(strings.NewReader(string(text)), "f")
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("not a fault: %v", err)
			}
			return
		}
		for _, m := range ms {
			if _, err := EncodeSpec(m.Spec); err != nil {
				t.Fatal(err)
			}
		}
		_ = Validate(ms, nil, Rules{})
	})
}
