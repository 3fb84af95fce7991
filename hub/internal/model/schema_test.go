package model

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// TestSchemasNameTheKeysOfTheParser holds the schemas and the parser together:
// the keys that a parser asks for are the properties of the schema.
func TestSchemasNameTheKeysOfTheParser(t *testing.T) {
	for _, kind := range Kinds() {
		d := &document{}
		m := d.mapping(&yaml.Node{Kind: yaml.MappingNode}, "", 0)
		for _, head := range []string{"kind", "name", "environment", "labels", "description"} {
			m.asked[head] = true
		}
		readSpec(kind, m)
		schema := SchemaOf(kind, nil)
		want := slices.Sorted(maps.Keys(m.asked))
		got := slices.Sorted(maps.Keys(schema["properties"].(Schema)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", kind, diff)
		}
		if _, err := json.Marshal(schema); err != nil {
			t.Error(err)
		}
	}
}

func TestParseKind(t *testing.T) {
	for word, want := range map[string]Kind{"flow": KindFlow, "Flows": KindFlow, "agent-groups": KindAgentGroup,
		"CONNECTION": KindConnection, "listeners": KindListener} {
		if got, ok := ParseKind(word); !ok || got != want {
			t.Errorf("%s: %v %v", word, got, ok)
		}
	}
	if _, ok := ParseKind("secret"); ok {
		t.Error("secret is no kind")
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"setings": "settings", "fliter": "filter", "xyzzy": "", "Filter": "filter"} {
		if got := Nearest(word, []string{"settings", "filter", "map"}); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
