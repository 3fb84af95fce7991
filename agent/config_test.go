package agent

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/protocol/fault"
)

var update = flag.Bool("update", false, "write agent.sample.yaml")

func TestSampleFile(t *testing.T) {
	if *update {
		if err := os.WriteFile("agent.sample.yaml", []byte(Sample()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile("agent.sample.yaml")
	if err != nil || string(file) != Sample() {
		t.Errorf("agent.sample.yaml is not what `go generate ./agent` makes: %v", err)
	}
	c, err := ReadConfig("agent.sample.yaml", "", nil)
	if err != nil || !cmp.Equal(c, DefaultConfig("")) {
		t.Errorf("the sample is not the default: %s %v", cmp.Diff(DefaultConfig(""), c), err)
	}
	for key, begins := range map[string]bool{"state": true, "policy": true, "transport": true, "name": true, "hub": true, "socket": true, "buffer": true, "log": true} {
		if strings.Contains(Sample(), "\n"+key+":") != begins {
			t.Errorf("%s is not in the sample", key)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSourcesInRisingOrder(t *testing.T) {
	path := write(t, "\ufeffstate: /a\r\npolicy: /p\r\nbuffer: {quota: 64MiB}\r\n")
	c, err := ReadConfig(path, "", []string{"ROPEWAY_AGENT_STATE=/b", "OTHER=x", "ROPEWAY_AGENT_CONFIG=ignored here"})
	want := DefaultConfig("")
	want.State, want.Policy, want.Buffer.Quota = "/b", "/p", "64MiB"
	if err != nil || !cmp.Equal(c, want) {
		t.Errorf("%v %s", err, cmp.Diff(want, c))
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if quota, _ := c.Buffer.quota(); quota != 64<<20 {
		t.Errorf("quota %d", quota)
	}
	if c, err := ReadConfig(write(t, ""), "", nil); err != nil || !cmp.Equal(c, DefaultConfig("")) {
		t.Errorf("an empty file: %v", err)
	}
	if c := DefaultConfig("two"); c.State == DefaultConfig("").State || c.Policy == DefaultConfig("").Policy {
		t.Error("an instance shares state or policy")
	}
}

func TestBadConfig(t *testing.T) {
	for name, test := range map[string]struct{ text, says string }{
		"unknown key":    {"state: /a\nstaet: /b\n", "line 2: unknown key staet"},
		"nested unknown": {"buffer:\n  quoat: 1GiB\n", "line 2: unknown key quoat"},
		"twice":          {"state: /a\nstate: /b\n", "line 2"},
		"a list":         {"- a\n", "line 1"},
		"wrong type":     {"state: {a: b}\n", "line 1"},
		"two documents":  {"state: /a\n---\nstate: /b\n", "second document"},
		"not YAML":       {"state: [\n", "line"},
		"tab":            {"buffer:\n\tquota: 1GiB\n", "line 2"},
		"huge":           {strings.Repeat("#", 1<<20+1), "larger"},
		"bomb":           {"a: &a [x,x]\nb: &b [*a,*a]\n", "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadConfig(write(t, test.text), "", nil)
			if f := fault.From(err); f == nil || f.Code != "E_CONFIG" || !strings.Contains(f.Error(), test.says) {
				t.Errorf("ReadConfig = %v", err)
			}
		})
	}
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "no"), "directory": t.TempDir()} {
		if _, err := ReadConfig(path, "", nil); fault.CodeOf(err) != "E_CONFIG" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadConfig("", "../x", nil); fault.CodeOf(err) != "E_CONFIG" {
		t.Errorf("instance with a path: %v", err)
	}
	if _, err := ReadConfig("", "", []string{"ROPEWAY_AGENT_TOKEN=x"}); err == nil || !strings.Contains(err.Error(), "ROPEWAY_AGENT_TOKEN") {
		t.Errorf("unknown variable: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"state":       func(c *Config) { c.State = "" },
		"transport":   func(c *Config) { c.Transport = "udp" },
		"log":         func(c *Config) { c.Log = "loud" },
		"name":        func(c *Config) { c.Name = "Press 1" },
		"quota":       func(c *Config) { c.Buffer.Quota = "2GB" },
		"quota sign":  func(c *Config) { c.Buffer.Quota = "-2GiB" },
		"quota big":   func(c *Config) { c.Buffer.Quota = "9223372036854775807TiB" },
		"quota small": func(c *Config) { c.Buffer.Quota = "1KiB" },
		"quota text":  func(c *Config) { c.Buffer.Quota = "2GiB " },
	} {
		c := DefaultConfig("")
		spoil(&c)
		if f := fault.From(c.Validate()); f == nil || f.Code != "E_CONFIG" || f.Cause == "" || f.Field == "" {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add([]byte(Sample()))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := DefaultConfig("")
		if c.decode(text) == nil {
			_ = c.Validate()
		}
	})
}
