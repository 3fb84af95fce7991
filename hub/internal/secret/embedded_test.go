package secret_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"ropeway/hub/internal/secret"
	"ropeway/hub/internal/secret/secrettest"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(dir string) secret.Config {
	return secret.Config{Dir: filepath.Join(dir, "secrets"), KeyFile: filepath.Join(dir, "keys",
		"secrets.key")}
}

func open(t *testing.T, cfg secret.Config) *secret.Embedded {
	t.Helper()
	e, err := secret.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestContract(t *testing.T) {
	secrettest.Run(t, func(t *testing.T) secrettest.Open {
		cfg := config(t.TempDir())
		return func() secret.Engine { return open(t, cfg) }
	})
}

const canary = "canary-4711-secret"

// files returns every file below dir.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[p], err = os.ReadFile(p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSecurity_S5_S6_NothingIsReadableAtRest(t *testing.T) {
	dir := t.TempDir()
	e := open(t, config(dir))
	if err := e.Put(context.Background(), page.NewID(), page.NewID(), page.NewID(),
		map[string]string{"password": canary}); err != nil {
		t.Fatal(err)
	}
	forms := []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)),
		hex.EncodeToString([]byte(canary)), "password"}
	for path, content := range files(t, dir) {
		for _, form := range forms {
			if bytes.Contains(content, []byte(form)) {
				t.Errorf("%s holds %q", path, form)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, %v", path, info.Mode().Perm(), err)
		}
	}
}

func TestSecurity_S6_SwappedOrDamagedFilesAreRefused(t *testing.T) {
	cfg := config(t.TempDir())
	e := open(t, cfg)
	ctx, tenant, env := context.Background(), page.NewID(), page.NewID()
	a, b := page.NewID(), page.NewID()
	for _, id := range []page.ID{a, b} {
		if err := e.Put(ctx, tenant, env, id, map[string]string{"password": canary}); err != nil {
			t.Fatal(err)
		}
	}
	path := func(id page.ID) string {
		return filepath.Join(cfg.Dir, tenant.String(), env.String(), id.String()+".secret")
	}
	good, err := os.ReadFile(path(a))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(path(b))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, content := range map[string][]byte{"swapped": other, "flipped": flipped,
		"cut": good[:len(good)/2], "empty": {},
		"huge": make([]byte, 2<<20)} {
		if err := os.WriteFile(path(a), content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := e.Fields(ctx, tenant, env, a)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := os.WriteFile(path(a), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Fields(ctx, tenant, env, a); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFileIsNeverMadeTwice(t *testing.T) {
	cfg := config(t.TempDir())
	e := open(t, cfg)
	if err := e.Put(context.Background(), page.NewID(), page.NewID(), page.NewID(),
		map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Open(cfg); fault.CodeOf(err) != "E_SEALED" {
		t.Fatalf("without its key file the engine opens: %v", err)
	}
	for _, bad := range []string{"", "{}", "not json", strings.Replace(string(content), `"current": "`,
		`"current": "x`, 1)} {
		if err := os.WriteFile(cfg.KeyFile, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := secret.Open(cfg); fault.CodeOf(err) != "E_SEALED" {
			t.Fatalf("a broken key file gives %v", err)
		}
	}
	if err := os.WriteFile(cfg.KeyFile, content, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, cfg)
	if err := os.Chmod(cfg.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Open(cfg); fault.CodeOf(err) != "E_SEALED" {
		t.Fatalf("a key file that others may read gives %v", err)
	}
}

func TestKeyFileInsideTheDataIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := secret.Open(secret.Config{Dir: dir, KeyFile: filepath.Join(dir, "sub", "key")})
	if fault.CodeOf(err) != "E_CONFIG" {
		t.Fatalf("got %v", err)
	}
}

func TestOtherKeyFileOpensNothing(t *testing.T) {
	cfg, other := config(t.TempDir()), config(t.TempDir())
	ctx, tenant, env, id := context.Background(), page.NewID(), page.NewID(), page.NewID()
	if err := open(t, cfg).Put(ctx, tenant, env, id, map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	open(t, other)
	cfg.KeyFile = other.KeyFile
	e := open(t, cfg)
	if _, _, err := e.Fields(ctx, tenant, env, id); fault.CodeOf(err) != "E_SEALED" {
		t.Fatalf("got %v", err)
	}
	if _, err := e.DataKey(ctx, tenant); fault.CodeOf(err) != "E_SEALED" {
		t.Fatalf("a tenant whose keys do not open got a new one: %v", err)
	}
}

func TestSecurity_S5_ASecretNeverPrints(t *testing.T) {
	s := secret.Secret(canary)
	holder := struct {
		Password secret.Secret
		Pointer  *secret.Secret
		Map      map[string]secret.Secret
	}{s, &s, map[string]secret.Secret{"x": s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, holder)
		fmt.Fprintf(&out, verb, []secret.Secret{s})
	}
	fmt.Fprintln(&out, s, holder, fmt.Errorf("oops %v: %w", s, os.ErrClosed))
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("event", "secret", s, "holder", holder, slog.Group("g", "s", s))
	}
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)),
		strings.ToUpper(hex.EncodeToString([]byte(canary)))} {
		if strings.Contains(out.String(), form) {
			t.Fatalf("printed: %s", out.String())
		}
	}
	if s.Reveal() != canary {
		t.Fatal("Reveal hides it too")
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(`{"format":"ropeway key file 1","current":"a","keys":{"a":"AAAA"}}`))
	f.Add([]byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		cfg := config(t.TempDir())
		if err := os.MkdirAll(filepath.Dir(cfg.KeyFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cfg.KeyFile, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := secret.Open(cfg); err == nil {
			if err := e.Health(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
