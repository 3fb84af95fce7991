package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSampleConfigSaysTheDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(path, []byte(SampleConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(DefaultConfig(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("sample differs from the defaults (-default +sample):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestReadConfigRefusesWhatItDoesNotKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.yaml")
	cases := map[string]string{
		"unknown key": "lisen: 1.2.3.4:1\n", "unknown nested key": "store:\n  uri: x\n",
		"wrong type": "names: {a: b}\n", "not YAML": "\tdata: x\n",
	}
	for name, text := range cases {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(path, nil); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := ReadConfig("", []string{"ROPEWAY_HUB_LISTNE=x"}); err == nil || !strings.Contains(err.Error(), "ROPEWAY_HUB_LISTNE") {
		t.Errorf("unknown environment variable: %v", err)
	}
	if _, err := ReadConfig(filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestEnvironmentWinsOverTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:1\ndata: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path, []string{"ROPEWAY_HUB_LISTEN=127.0.0.1:2", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:2" || c.Data != "a" {
		t.Errorf("listen %s data %s, want 127.0.0.1:2 and a", c.Listen, c.Data)
	}
}

func TestValidateNamesTheWrongSetting(t *testing.T) {
	cases := map[string]func(*Config){
		"listen":                     func(c *Config) { c.Listen = "8443" },
		"opsListen":                  func(c *Config) { c.OpsListen = "127.0.0.1:65536" },
		"data":                       func(c *Config) { c.Data = "" },
		"store.url":                  func(c *Config) { c.Store.URL = "postgres://x" },
		"queue.url":                  func(c *Config) { c.Queue.URL = "nats://x" },
		"secrets.engine":             func(c *Config) { c.Secrets.Engine = "volt" },
		"secrets.vault.address":      func(c *Config) { c.Secrets.Engine = "vault" },
		"secrets.engine is embedded": func(c *Config) { c.Secrets.Vault.Address = "https://vault:8200" },
		"secrets.vault.secretIdFile": func(c *Config) {
			c.Secrets.Engine, c.Secrets.Vault.Address, c.Secrets.Vault.RoleIDFile = "vault", "https://vault:8200", "role-id"
		},
		"secrets.keyFile": func(c *Config) {
			c.Secrets.Engine, c.Secrets.Vault.Address, c.Secrets.KeyFile = "vault", "https://vault:8200", "kek"
		},
		"log": func(c *Config) { c.Log = "loud" },
	}
	for key, breakIt := range cases {
		c := DefaultConfig()
		breakIt(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func TestDocsVaultConfigWorks(t *testing.T) {
	doc, err := os.ReadFile("../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(doc), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("docs/vault.md has no configuration")
	}
	for _, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		c := DefaultConfig()
		if err := decodeConfig(strings.NewReader(text), &c); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if err := c.Validate(); err != nil || c.Secrets.Engine != "vault" {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

func TestSecretEngineIsNotChangedUnderData(t *testing.T) {
	data := t.TempDir()
	for _, step := range []struct {
		engine string
		taken  bool
	}{{"embedded", true}, {"embedded", true}, {"vault", false}, {"embedded", true}} {
		if err := keepEngine(data, step.engine); (err == nil) != step.taken {
			t.Errorf("%s: %v", step.engine, err)
		}
	}
	old := t.TempDir() // of a version that knew one engine only
	if err := os.Mkdir(filepath.Join(old, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keepEngine(old, "vault"); err == nil || !strings.Contains(err.Error(), "embedded") {
		t.Errorf("got %v", err)
	}
	if err := keepEngine(old, "embedded"); err != nil {
		t.Error(err)
	}
}
