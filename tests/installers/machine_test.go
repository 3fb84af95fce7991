package installers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ropeway/tests/rig"
)

// suite and include say what the machine is made of; the cache goes by them.
const (
	suite   = "bookworm"
	include = "systemd,systemd-sysv,dbus,ca-certificates,iproute2,rpm"
)

// needed are the commands this host lends, by the Debian package that brings them.
var needed = map[string]string{
	"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux", "rpm": "rpm",
}

// allowed skips a test where it may not run, and says why.
func allowed(t *testing.T) {
	t.Helper()
	switch {
	case os.Getenv("ROPEWAY_INSTALL_TESTS") != "1":
		t.Skip("skipped: boots a machine and installs packages in it; make test-install (ROPEWAY_INSTALL_TESTS=1) runs it")
	case os.Geteuid() != 0:
		t.Skip("skipped: only root can boot a machine")
	}
	for command, pkg := range needed {
		if _, err := exec.LookPath(command); err != nil {
			if out, err := installPackage(pkg); err != nil {
				t.Skipf("skipped: needs %s: %v: %s", command, err, out)
			}
		}
	}
}

func installPackage(name string) ([]byte, error) {
	cmd := exec.Command("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-q", "--no-install-recommends", name)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return cmd.CombinedOutput()
}

var rootfs = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(suite + " minbase " + include))
	dir := filepath.Join(cache, "ropeway", "rootfs-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), "rootfs-new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(made)
	if err := os.Chmod(made, 0o755); err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "installers: making a root file system (once, some minutes)")
	out, err := exec.Command("debootstrap", "--variant=minbase", "--include="+include, suite, made).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("debootstrap: %w: %s", err, tail(string(out), 3))
	}
	if err := os.Rename(made, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, nil
})

// machine is one booted system. Everything it writes is gone after the test.
type machine struct {
	t      *testing.T
	root   string
	leader string
}

// boot starts a machine of its own for this test.
func boot(t *testing.T) *machine {
	t.Helper()
	allowed(t)
	base, err := rootfs()
	if err != nil {
		t.Skipf("skipped: no root file system: %v", err)
	}
	dir := t.TempDir()
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := syscall.Mount("overlay", m.root, "overlay", 0, layers); err != nil {
		t.Skipf("skipped: needs overlay mounts: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(m.root, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", m.root, err)
		}
	})
	m.write("/etc/hosts", "127.0.0.1 localhost hub.example.com\n")
	log := filepath.Join(dir, "console.log")
	p, err := rig.Start("machine", log, "systemd-nspawn", nil,
		"--register=no", "--keep-unit", "-q", "-D", m.root, "--private-network", "--boot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(p) })
	m.await("the machine runs", 60*time.Second, func() bool {
		select {
		case <-p.Done():
			t.Fatalf("the machine ended: %s", rig.Tail(log, 5))
		default:
		}
		children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.PID()))
		for _, path := range children {
			if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
				m.leader = strings.Fields(string(text))[0]
			}
		}
		if m.leader == "" {
			return false
		}
		out, _ := m.try("systemctl is-system-running")
		return strings.HasPrefix(out, "running") || strings.HasPrefix(out, "degraded")
	})
	return m
}

// end pulls the plug: the test is over and nothing of the machine is kept.
func (m *machine) end(p *rig.Process) {
	if m.t.Failed() && m.leader != "" {
		out, _ := m.try("journalctl --no-pager -u 'ropeway*' | grep -E 'level=|systemd|error' | tail -n 60")
		m.t.Logf("journal:\n%s", out)
	}
	var pid int
	if _, err := fmt.Sscan(m.leader, &pid); err == nil && pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // process 1 of the machine: all end with it
	}
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		p.Kill()
	}
}

// try runs a script inside as root and returns what it wrote to both outputs.
func (m *machine) try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", m.leader, "-a", "--", "/usr/bin/env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"/bin/bash", "-c", "cd /root; "+script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try for what must succeed.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return out
}

// fails is try for what must end with this code and say every word.
func (m *machine) fails(code int, script string, words ...string) {
	m.t.Helper()
	out, err := m.try(script)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		m.t.Errorf("%s: %v, want exit %d\n%s", script, err, code, out)
	}
	m.says(out, words...)
}

func (m *machine) says(out string, words ...string) {
	m.t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			m.t.Errorf("%q is not in:\n%s", w, out)
		}
	}
}

// property reads one property of a unit.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl show -P " + name + " " + unit))
}

// write puts a file into the machine.
func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, path), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// carry copies files of the host into /root of the machine.
func (m *machine) carry(paths ...string) {
	m.t.Helper()
	for _, from := range paths {
		text, err := os.ReadFile(from)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write("/root/"+filepath.Base(from), string(text))
	}
}

// await asks until yes says so.
func (m *machine) await(what string, patience time.Duration, yes func() bool) {
	m.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			m.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// online waits until the agent has a tunnel.
func (m *machine) online(args string) {
	m.t.Helper()
	m.await("the agent is online", 60*time.Second, func() bool {
		out, _ := m.try("ropeway-agent status -o json " + args)
		return strings.Contains(out, `"state": "online"`)
	})
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
