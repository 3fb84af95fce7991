package builtin_test

import (
	"testing"

	"ropeway/connectors/builtin"
)

func TestTypesAreCompleteAndNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range builtin.Types() {
		if seen[c.Name] {
			t.Errorf("%s is listed twice", c.Name)
		}
		seen[c.Name] = true
		if c.Title == "" || c.Target == nil || c.Open == nil || c.Ping == nil {
			t.Errorf("%s lacks title, target, open or ping", c.Name)
		}
		if c.Import != nil && c.ImportsOnce == nil {
			t.Errorf("%s imports but does not say what happens twice", c.Name)
		}
		for _, schema := range [][]string{fieldDocs(c.Settings.Fields), fieldDocs(c.Credential.Fields)} {
			for _, missing := range schema {
				t.Errorf("%s: field %s has no doc", c.Name, missing)
			}
		}
	}
	for _, name := range []string{"mysql", "postgres", "sqlite"} {
		if _, ok := builtin.Find(name); !ok {
			t.Errorf("%s is not found", name)
		}
	}
	if _, ok := builtin.Find("nosuch"); ok {
		t.Error("a connector that does not exist is found")
	}
}
