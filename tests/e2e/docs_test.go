package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ropeway/tests/rig"
)

var fence = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// blocks returns the fenced blocks of a language in a document.
func blocks(t *testing.T, path, language string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	return out
}

// TestReadme runs the README as a newcomer would paste it: its flow, its policy
// and its commands, with only hosts, ports and passwords put in.
func TestReadme(t *testing.T) {
	const readme = "../../README.md"
	shell, yaml := blocks(t, readme, "sh"), blocks(t, readme, "yaml")
	if len(shell) != 2 || len(yaml) != 2 {
		t.Fatalf("the README has %d sh and %d yaml blocks; this test knows 2 and 2", len(shell), len(yaml))
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(shell[0]), "\n") {
		target := strings.Fields(line)[1]
		if !strings.Contains(string(makefile), "\n"+target+":") {
			t.Errorf("the README says %q and the Makefile has no such target", line)
		}
	}

	w := newWorld(t)
	w.sql(w.source, `CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(12,2))`)
	w.sql(w.source, `INSERT INTO orders SELECT i, CASE WHEN i % 4 = 0 THEN 'open' ELSE 'paid' END, 0.29 FROM generate_series(1, 400) i`)
	w.sql(w.target, `CREATE TABLE orders (id int PRIMARY KEY, total_cents bigint)`)
	before, _, _ := strings.Cut(w.manifests(""), "---\nkind: Flow")
	w.write("manifests/connections.yaml", before)
	w.write("manifests/flow.yaml", yaml[0])
	w.write("policy.yaml", strings.ReplaceAll(yaml[1], "erp.plant.local:5432", fmt.Sprintf("%s:%d", w.pg.Host, w.pg.Port)))

	script := strings.NewReplacer("127.0.0.1:18443", w.Listen, "127.0.0.1:19090", w.Ops,
		`{"username":"erp","password":"…"}`, w.login()).Replace(shell[1])
	script = "set -e\ntrap 'kill $(jobs -p); wait' EXIT\n" + script
	cmd := exec.CommandContext(w.context(2*time.Minute), "bash", "-c", script)
	cmd.Dir = w.Dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(bins.Hub)+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, rig.Tail(w.Path("hub.log"), 20))
	}
	if n := w.number(w.target, `SELECT count(*) FROM orders WHERE total_cents = 29`); n != 300 {
		t.Errorf("%d rows in the target, want 300\n%s", n, out)
	}
}
