package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shelf is what exists, by kind and name.
type shelf map[Kind]map[string]any

func (s shelf) Spec(kind Kind, name string) (any, bool) {
	spec, ok := s[kind][name]
	return spec, ok
}

func (s shelf) Names(kind Kind) []string {
	var names []string
	for name := range s[kind] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func shelve(t *testing.T, text string) shelf {
	s := shelf{}
	if text == "" {
		return s
	}
	for _, m := range parse(t, text) {
		if s[m.Kind] == nil {
			s[m.Kind] = map[string]any{}
		}
		s[m.Kind][m.Name] = m.Spec
	}
	return s
}

func rules() Rules {
	return Rules{
		Connectors: func() []string { return []string{"postgres", "sqlite"} },
		Settings: func(connector string, settings map[string]any) error {
			if settings["bad"] != nil {
				return fmt.Errorf("the setting bad is not known")
			}
			return nil
		},
	}
}

const two = "kind: Connection\nname: a\nconnector: sqlite\nconcurrency: 2\n---\nkind: Connection\nname: b\nconnector: sqlite\nborrowFrom: a\n---\n"

func TestValidate(t *testing.T) {
	tests := []struct{ name, existing, set, cause string }{
		{"reference within the set", "", "kind: Connection\nname: c\nconnector: sqlite\nagentGroup: g\n---\nkind: AgentGroup\nname: g", ""},
		{"reference to what exists", "kind: AgentGroup\nname: g", "kind: Connection\nname: c\nconnector: sqlite\nagentGroup: g", ""},
		{"reference to nothing", "kind: AgentGroup\nname: plant", "kind: Connection\nname: c\nconnector: sqlite\nagentGroup: plan", `AgentGroup "plan"`},
		{"unknown connector", "", "kind: Connection\nname: c\nconnector: postgress", `unknown connector "postgress"`},
		{"settings", "", "kind: Connection\nname: c\nconnector: sqlite\nsettings: {bad: 1}", "setting bad"},
		{"name twice", "", "kind: AgentGroup\nname: g\n---\nkind: AgentGroup\nname: g", "in the set twice"},
		{"site credential in the hub", "", "kind: Credential\nname: k\ncustody: site\n---\nkind: Connection\nname: c\nconnector: sqlite\ncredential: k", "custody site"},
		{"borrow", "", two, ""},
		{"borrow from itself", "", "kind: Connection\nname: a\nconnector: sqlite\nborrowFrom: a", "itself"},
		{"borrow from nothing", "", "kind: Connection\nname: b\nconnector: sqlite\nborrowFrom: a", "does not exist"},
		{"chain in the set", "", two + "kind: Connection\nname: c\nconnector: sqlite\nborrowFrom: b", "no chains"},
		{"chain with what exists", two, "kind: Connection\nname: c\nconnector: sqlite\nborrowFrom: b", "no chains"},
		{"lender begins to borrow", two, "kind: Connection\nname: c\nconnector: sqlite\nconcurrency: 1\n---\nkind: Connection\nname: a\nconnector: sqlite\nborrowFrom: c", "a lender cannot borrow: b"},
		{"cycle", "", "kind: Connection\nname: a\nconnector: sqlite\nborrowFrom: b\n---\nkind: Connection\nname: b\nconnector: sqlite\nborrowFrom: a", "no chains"},
		{"lender loses its level", two, "kind: Connection\nname: a\nconnector: sqlite", "no level set"},
		{"lender without level", "", "kind: Connection\nname: a\nconnector: sqlite\n---\nkind: Connection\nname: b\nconnector: sqlite\nborrowFrom: a", "no level set"},
		{"other connector", "", "kind: Connection\nname: a\nconnector: postgres\nconcurrency: 2\n---\nkind: Connection\nname: b\nconnector: sqlite\nborrowFrom: a", "uses sqlite"},
		{"other place", "kind: AgentGroup\nname: g", "kind: Connection\nname: a\nconnector: sqlite\nagentGroup: g\nconcurrency: 2\n---\nkind: Connection\nname: b\nconnector: sqlite\nborrowFrom: a", "agent group g"},
		{"delta without key", two, "kind: Flow\nname: f\nexport: {connection: a, query: q, delta: {field: u}}\nsteps: [{import: {connection: b, table: t}}]", "would double it"},
		{"delta without key, upsert", two, "kind: Flow\nname: f\nexport: {connection: a, query: q, delta: {field: u}}\nsteps: [{import: {connection: b, table: t, mode: upsert, key: [id]}}]", ""},
		{"flow to nothing", "", "kind: Flow\nname: f\nexport: {connection: a, query: q}\nsteps: [{import: {connection: b, table: t}}]", `Connection "b"`},
		{"listener", "", "kind: Listener\nname: l\nverify: none\nflow: nope", `Flow "nope"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Validate(parse(t, tt.set), shelve(t, tt.existing), rules())
			if tt.cause == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var faults Faults
			if !errors.As(err, &faults) || !strings.Contains(err.Error(), tt.cause) {
				t.Fatalf("want %q, got %v", tt.cause, err)
			}
		})
	}
}

func TestUsedBy(t *testing.T) {
	existing := shelve(t, two+"kind: Flow\nname: f\nexport: {connection: a, query: q}\nsteps: [{import: {connection: b, table: t}}]")
	if diff := cmp.Diff([]string{"Connection b", "Flow f"}, UsedBy(KindConnection, "a", existing)); diff != "" {
		t.Error(diff)
	}
}

func TestSortByReference(t *testing.T) {
	ms := parse(t, "kind: Listener\nname: l\nverify: none\nflow: f\n---\nkind: Connection\nname: a\nconnector: x\nborrowFrom: z\n---\nkind: Connection\nname: z\nconnector: x\nconcurrency: 1\n---\nkind: AgentGroup\nname: g")
	SortByReference(ms)
	var got []string
	for _, m := range ms {
		got = append(got, m.Name)
	}
	if diff := cmp.Diff([]string{"g", "z", "a", "l"}, got); diff != "" {
		t.Error(diff)
	}
}
