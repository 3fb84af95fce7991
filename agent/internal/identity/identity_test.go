package identity_test

import (
	"bufio"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ropeway/agent/internal/identity"
	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

type hub struct {
	*ca.Authority
	id certs.Identity
}

func newHub(t *testing.T, clock func() time.Time) hub {
	t.Helper()
	a, err := ca.Open(t.TempDir(), clock)
	if err != nil {
		t.Fatal(err)
	}
	return hub{a, certs.Identity{TrustDomain: a.TrustDomain(), Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}}
}

func (h hub) sign(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	text, err := certs.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certs.ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := h.SignAgent(h.id, csr)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func (h hub) enroll(t *testing.T, dir string) *identity.Identity {
	t.Helper()
	if err := identity.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	key, err := identity.Key(dir)
	if err != nil {
		t.Fatal(err)
	}
	i, err := identity.Enrolled(dir, key, h.sign(t, key), h.RootPEM(), identity.Facts{
		Hub: "https://hub.example:8443", Name: "press-1", Tenant: h.id.Tenant, Environment: h.id.Environment,
		GroupName: "plant-7", Enrolled: time.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func state(t *testing.T) string { return filepath.Join(t.TempDir(), "state") }

func TestEnrolledIdentityIsLoadedAgain(t *testing.T) {
	h, dir := newHub(t, nil), state(t)
	first := h.enroll(t, dir)
	second, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second.ID() != h.id || second.Facts() != first.Facts() || second.Serial() != first.Serial() ||
		second.Fingerprint() != first.Fingerprint() || second.Pin() != h.Pin() || second.TrustDomain() != h.TrustDomain() {
		t.Errorf("loaded %+v", second.Facts())
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range append(files, dir) {
		if info, _ := os.Stat(file); info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
}

func TestKeyIsMadeOnce(t *testing.T) {
	dir := state(t)
	if err := identity.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	first, err := identity.Key(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := identity.Key(dir)
	if err != nil || !certs.SameKey(first.Public(), second.Public()) {
		t.Errorf("another key, %v", err)
	}
	if _, err := identity.Load(dir); fault.CodeOf(err) != "E_NOT_ENROLLED" {
		t.Errorf("Load before enrollment = %v", err)
	}
}

func TestLoadWithoutDirectory(t *testing.T) {
	_, err := identity.Load(state(t))
	if f := fault.From(err); f.Code != "E_NOT_ENROLLED" || !strings.Contains(f.Fix, "ropeway-agent enroll") {
		t.Errorf("Load = %v", err)
	}
}

func TestRenewalKeepsTheAgent(t *testing.T) {
	h, dir := newHub(t, nil), state(t)
	i := h.enroll(t, dir)
	serial := i.Serial()
	next, err := identity.NextKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := identity.NextKey(dir); !certs.SameKey(next.Public(), again.Public()) {
		t.Error("an unfinished rotation got a second key")
	}
	if err := i.Install(next, h.sign(t, next), h.RootPEM()); err != nil {
		t.Fatal(err)
	}
	cert, _ := i.ClientCertificate(nil)
	if i.Serial() == serial || !certs.SameKey(cert.PrivateKey.(crypto.Signer).Public(), next.Public()) {
		t.Error("the new certificate is not in use")
	}
	loaded, err := identity.Load(dir)
	if err != nil || loaded.Serial() != i.Serial() {
		t.Errorf("the new certificate is not on disk: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "identity.next.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the finished rotation left its key: %v", err)
	}
}

func TestInstallRefusesAnotherAgentAndKeepsTheOld(t *testing.T) {
	h, dir := newHub(t, nil), state(t)
	i := h.enroll(t, dir)
	serial := i.Serial()
	key, _ := identity.Key(dir)
	other := h
	other.id.Agent = page.NewID()
	for name, chain := range map[string][]byte{"another agent": other.sign(t, key), "rubbish": []byte("x"), "nothing": nil} {
		if err := i.Install(key, chain, h.RootPEM()); err == nil {
			t.Errorf("%s was installed", name)
		}
	}
	stranger, _ := identity.NextKey(dir)
	if err := i.Install(stranger, h.sign(t, key), h.RootPEM()); err == nil {
		t.Error("a certificate of another key was installed")
	}
	if loaded, err := identity.Load(dir); err != nil || loaded.Serial() != serial {
		t.Errorf("the old certificate is gone: %v", err)
	}
}

// A full disk, here a directory that cannot be written, leaves the old key usable.
func TestFailedInstallKeepsTheOld(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("as root the directory stays writable; the file's place is taken instead")
	}
	h, dir := newHub(t, nil), state(t)
	i := h.enroll(t, dir)
	serial := i.Serial()
	key, _ := identity.Key(dir)
	chain := h.sign(t, key)
	aside := dir + "-aside"
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	if err := i.Install(key, chain, h.RootPEM()); fault.CodeOf(err) != "E_STATE" {
		t.Errorf("Install = %v", err)
	}
	if i.Serial() != serial {
		t.Error("a certificate is in use that is not on disk")
	}
	if loaded, err := identity.Load(aside); err != nil || loaded.Serial() != serial {
		t.Errorf("the old certificate is gone: %v", err)
	}
}

func TestWrongRightsAreRefused(t *testing.T) {
	h := newHub(t, nil)
	for name, spoil := range map[string]func(t *testing.T, dir string) error{
		"directory open":    func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o755) },
		"directory group":   func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o710) },
		"key readable":      func(_ *testing.T, dir string) error { return os.Chmod(filepath.Join(dir, "identity.pem"), 0o644) },
		"facts writable":    func(_ *testing.T, dir string) error { return os.Chmod(filepath.Join(dir, "enrollment.json"), 0o620) },
		"key is a link":     link,
		"key is a folder":   folder,
		"key is cut":        func(_ *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, "identity.pem"), 100) },
		"key is huge":       func(_ *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, "identity.pem"), 2<<20) },
		"facts are no JSON": func(_ *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, "enrollment.json"), 5) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := state(t)
			h.enroll(t, dir)
			if err := spoil(t, dir); err != nil {
				t.Fatal(err)
			}
			_, err := identity.Load(dir)
			if f := fault.From(err); err == nil || f.Code != "E_STATE" || f.Cause == "" || f.Fix == "" {
				t.Errorf("Load = %v", err)
			}
		})
	}
	t.Run("a file as directory", func(t *testing.T) {
		file := state(t)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := identity.Prepare(file); fault.CodeOf(err) != "E_STATE" {
			t.Errorf("Prepare = %v", err)
		}
	})
	t.Run("another user's", func(t *testing.T) {
		dir := state(t)
		h.enroll(t, dir)
		if err := os.Chown(dir, 12345, 12345); err != nil {
			t.Skipf("only root can give a directory away: %v", err)
		}
		if _, err := identity.Load(dir); err == nil || !strings.Contains(err.Error(), "uid 12345") {
			t.Errorf("Load = %v", err)
		}
	})
}

func link(t *testing.T, dir string) error {
	elsewhere := filepath.Join(t.TempDir(), "key")
	file := filepath.Join(dir, "identity.pem")
	return errors.Join(os.Rename(file, elsewhere), os.Symlink(elsewhere, file))
}

func folder(_ *testing.T, dir string) error {
	file := filepath.Join(dir, "identity.pem")
	return errors.Join(os.Remove(file), os.Mkdir(file, 0o700))
}

func TestNextRenewal(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	h := newHub(t, func() time.Time { return now })
	seen := map[time.Time]bool{}
	for range 8 {
		i := h.enroll(t, state(t))
		at := i.NextRenewal()
		seen[at] = true
		if at != i.NextRenewal() {
			t.Error("the moment moves")
		}
		age := at.Sub(now)
		if life := 7 * 24 * time.Hour; age < life*4/10 || age > life*6/10 {
			t.Errorf("renewal after %v", age)
		}
	}
	if len(seen) < 2 {
		t.Error("no jitter")
	}
}

// The lock must hold between processes, and must end with a killed one.
func TestSecondAgentOnOneDirectoryIsRefused(t *testing.T) {
	dir := state(t)
	if os.Getenv("ROPEWAY_TEST_HOLD") != "" {
		hold(t, os.Getenv("ROPEWAY_TEST_HOLD"))
		return
	}
	if err := identity.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command(os.Args[0], "-test.run=^TestSecondAgentOnOneDirectoryIsRefused$")
	holder.Env = append(os.Environ(), "ROPEWAY_TEST_HOLD="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = identity.Acquire(dir)
	if f := fault.From(err); f.Code != "E_STATE_LOCKED" || !strings.Contains(f.Cause, fmt.Sprintf("process %d ", holder.Process.Pid)) {
		t.Errorf("Acquire = %v, want the pid %d", err, holder.Process.Pid)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	lock, err := identity.Acquire(dir)
	if err != nil {
		t.Fatalf("the lock outlives its process: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func hold(t *testing.T, dir string) {
	if _, err := identity.Acquire(dir); err != nil {
		t.Fatal(err)
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the parent kills or leaves
}
