package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
)

func TestServiceDirectories(t *testing.T) {
	for environ, want := range map[string]string{
		"": "/var/lib/ropeway-agent", "STATE_DIRECTORY=": "/var/lib/ropeway-agent",
		"STATE_DIRECTORY=relative": "/var/lib/ropeway-agent",
		"STATE_DIRECTORY=/data/a":  "/data/a", "STATE_DIRECTORY=/data/a:/data/b": "/data/a",
	} {
		if c, err := ReadConfig(write(t, ""), "", []string{environ}); err != nil || c.State != want {
			t.Errorf("%q: state %s, %v", environ, c.State, err)
		}
	}
	c, err := ReadConfig(write(t, "state: /mine\n"), "", []string{"STATE_DIRECTORY=/data/a"})
	if err != nil || c.State != "/mine" {
		t.Errorf("the file does not win: %s, %v", c.State, err)
	}
	for _, state := range []string{"/tmp/agent", "agent", "/var/lib/ropeway-agentx", "/var/lib/ropeway-agent-a/b", "/var/lib/ropeway-agent-none"} {
		if dir := runtimeDirectory(state); dir != "" {
			t.Errorf("%s has its socket in %s", state, dir)
		}
	}
}

func TestSystemd(t *testing.T) {
	if Systemd("", []string{"CREDENTIALS_DIRECTORY=/x"}) != nil {
		t.Error("a process that systemd did not start is a service")
	}
	if s := Systemd("two", []string{"NOTIFY_SOCKET=/n"}); !strings.Contains(s.TokenFix, "enroll-token-two") ||
		!strings.Contains(s.TokenFix, "ropeway-agent@two") {
		t.Errorf("%s", s.TokenFix)
	}
	good := enroll.Token{Hub: "https://hub.example.com", Pin: strings.Repeat("ab", 32), Secret: enroll.NewSecret()}
	for name, test := range map[string]struct {
		text  string
		found bool
		code  string
	}{
		"missing": {"-", false, ""}, "empty": {"", false, ""}, "the unit's stand-in": {"\n", false, ""},
		"wrong": {"hello", true, "E_TOKEN_INVALID"}, "huge": {strings.Repeat("x", 1<<20), true, "E_TOKEN_INVALID"},
		"good": {good.Text() + "\n", true, ""},
	} {
		dir := t.TempDir()
		if test.text != "-" {
			if err := os.WriteFile(filepath.Join(dir, "enroll-token"), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := Systemd("", []string{"NOTIFY_SOCKET=/n", "CREDENTIALS_DIRECTORY=" + dir})
		token, found, err := s.Token()
		if found != test.found || fault.CodeOf(err) != test.code || name == "good" && token != good {
			t.Errorf("%s: %v %v", name, found, err)
		}
	}
	if _, found, err := Systemd("", []string{"NOTIFY_SOCKET=/n"}).Token(); found || err != nil {
		t.Errorf("without credentials: %v %v", found, err)
	}
}
