package policy

import (
	"strings"
	"testing"
	"time"
)

func TestParseRefusesWithTheLine(t *testing.T) {
	rule := "rules:\n  - connector: postgres\n    target: db:5432\n"
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":       {"rules: []\nrulez: []\n", "line 2: unknown key \"rulez\""},
		"unknown rule key":  {rule + "    alow: [export]\n", "line 4: unknown key \"alow\" in a rule"},
		"key twice":         {rule + "    target: other:1\n    allow: [export]\n", "line 4: key \"target\" is written twice"},
		"unknown verb":      {rule + "    allow: [export, writ]\n", "line 4: unknown verb \"writ\""},
		"no allow":          {rule, "line 2: the rule needs allow"},
		"no target":         {"rules:\n  - connector: x\n    allow: [export]\n", "needs target"},
		"route and more":    {"rules:\n  - route: a:1\n    connector: x\n", "line 2: a rule with route"},
		"rules no list":     {"rules: yes\n", "line 1: rules must be a list"},
		"tables text":       {rule + "    allow: [export]\n    tables: orders\n", "line 5: tables must be a mapping"},
		"empty columns":     {rule + "    allow: [export]\n    tables: {a: []}\n", "line 5"},
		"negative rows":     {rule + "    allow: [export]\n    limits: {rowsPerDay: -1}\n", "line 5: rowsPerDay"},
		"bad window":        {rule + "    allow: [export]\n    limits: {window: always}\n", "line 5: window"},
		"bad zone":          {rule + "    allow: [export]\n    limits: {window: \"01:00-02:00 Mars/Base\"}\n", "unknown time zone"},
		"inbox word":        {rule + "    allow: [import]\n    inbox: maybe\n", "line 5: inbox"},
		"remote word":       {"remote: {logs: yes}\n", "line 1: logs must be allow or deny"},
		"remote name":       {"remote: {shell: allow}\n", "line 1: unknown key \"shell\""},
		"alias":             {"rules: &a []\nremote: *a\n", "line 2"},
		"two documents":     {"rules: []\n---\nrules: []\n", "second one"},
		"not YAML":          {"rules: [\n", "not YAML"},
		"a list":            {"- a\n", "must be a mapping"},
		"control character": {"rules:\n  - {connector: x, target: \"a\\nb\", allow: [export]}\n", "control characters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestParseEmptyDeniesEverything(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "rules:\n", "rules: []\n", "null\n"} {
		p, err := Parse([]byte(text))
		if err != nil || len(p.Rules) != 0 {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}

func TestWindowOverMidnightAndSummerTime(t *testing.T) {
	w, err := ParseWindow("01:00-05:00 Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{
		"2026-01-01T00:30:00Z": true, "2026-01-01T04:00:00Z": false, // UTC+1
		"2026-07-01T00:30:00Z": true, "2026-07-01T03:00:00Z": false, "2026-06-30T23:00:00Z": true, // UTC+2
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if w.Open(when) != want {
			t.Errorf("%s: open %v, want %v", at, !want, want)
		}
		if next := w.Next(when); !next.After(when) || !w.Open(next) {
			t.Errorf("%s: next opening %s", at, next)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("rules:\n  - {connector: a, target: b, allow: [export], tables: {t: \"*\"}, limits: {rowsPerDay: 1, window: \"01:00-02:00 UTC\"}}\nremote: {logs: deny}\n"))
	f.Add([]byte("rules: [{route: a:1}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err == nil && p == nil {
			t.Fatal("neither a policy nor an error")
		}
	})
}
