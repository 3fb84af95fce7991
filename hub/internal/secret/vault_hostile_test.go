package secret_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ropeway/hub/internal/secret"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

const hostileToken = "hvs.hostile-4711"

// standIn is an engine at a server that is no Vault, with a token from a file.
func standIn(t testing.TB, h http.HandlerFunc) *secret.Vault {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(hostileToken), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := secret.OpenVault(secret.VaultConfig{
		Address: server.URL, Mount: "secret", Transit: "transit", Auth: "token", TokenFile: path,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// signedIn answers the sign-in and leaves the rest to h.
func signedIn(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/lookup-self") {
			io.WriteString(w, `{"data":{"ttl":0,"renewable":false}}`)
			return
		}
		h(w, r)
	}
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestSecurity_HostileAnswersAreRefused(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"data":{"data":{"x":"`)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
				return
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"HTML":       text(200, "<html>sign in</html>"),
		"HTML error": text(502, "<html>"+hostileToken+"</html>"),
		"empty":      text(200, ""),
		"no content": text(204, ""),
		"half JSON":  text(200, `{"data":{"data":`),
		"JSON list":  text(200, `[1,2]`),
		"numbers":    text(200, `{"data":{"data":7,"metadata":[]}}`),
		"deep":       text(200, strings.Repeat(`{"data":`, 100_000)),
		"endless":    endless,
		"redirect away": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
		"redirect loop": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		},
		"token in error":   text(400, `{"errors":["bad token `+hostileToken+`"]}`),
		"token in refusal": text(403, `{"errors":["denied `+hostileToken+`\n\u001b[31m"]}`),
		"header":           func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
		"hang up": func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, h := range []http.HandlerFunc{h, signedIn(h)} {
				v := standIn(t, h)
				_, _, err := v.Fields(ctx, page.NewID(), page.NewID(), page.NewID())
				_, err2 := v.DataKey(ctx, page.NewID())
				for _, err := range []error{err, err2, v.Health(ctx)} {
					if err == nil || fault.CodeOf(err) == "E_INTERNAL" {
						t.Errorf("got %v", err)
						continue
					}
					if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x1b") ||
						strings.Contains(err.Error(), hostileToken) || fault.ClassOf(err).Parks() {
						t.Errorf("got %q (%s)", err, fault.ClassOf(err))
					}
				}
			}
		})
	}
}

func TestVaultTakesNothingFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{"VAULT_TOKEN": "other", "VAULT_NAMESPACE": "other", "VAULT_ADDR": "http://127.0.0.1:1",
		"VAULT_WRAP_TTL": "60", "VAULT_HEADERS": `{"X-Other":"1"}`, "HTTP_PROXY": "http://127.0.0.1:1", "VAULT_SKIP_VERIFY": "true"} {
		t.Setenv(name, value)
	}
	seen := make(chan http.Header, 100)
	v := standIn(t, signedIn(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		text(404, `{"errors":[]}`)(w, r)
	}))
	_, _, err := v.Fields(ctx, page.NewID(), page.NewID(), page.NewID())
	if fault.CodeOf(err) != "E_NO_CREDENTIAL" {
		t.Fatal(err)
	}
	h := <-seen
	if h.Get("X-Vault-Token") != hostileToken || h.Get("X-Vault-Namespace") != "" || h.Get("X-Other") != "" ||
		h.Get("X-Vault-Wrap-Ttl") != "" {
		t.Errorf("the environment shows in %v", h)
	}
}

func TestVaultConfigNamesTheWrongSetting(t *testing.T) {
	good := secret.VaultConfig{Address: "https://vault:8200", Mount: "secret", Transit: "team/transit",
		Auth: "approle", RoleIDFile: "a", SecretIDFile: "b"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key   string
		wrong func(*secret.VaultConfig)
	}{
		{"address", func(c *secret.VaultConfig) { c.Address = "" }},
		{"address", func(c *secret.VaultConfig) { c.Address = "vault:8200" }},
		{"address", func(c *secret.VaultConfig) { c.Address = "http://vault.example:8200" }},
		{"address", func(c *secret.VaultConfig) { c.Address = "https://user:pass@vault" }},
		{"address", func(c *secret.VaultConfig) { c.Address = "https://vault/v1/secret" }},
		{"address", func(c *secret.VaultConfig) { c.Address = "unix:///run/vault" }},
		{"mount", func(c *secret.VaultConfig) { c.Mount = "" }},
		{"mount", func(c *secret.VaultConfig) { c.Mount = "../sys" }},
		{"mount", func(c *secret.VaultConfig) { c.Mount = "secret/" }},
		{"transit", func(c *secret.VaultConfig) { c.Transit = "a b" }},
		{"namespace", func(c *secret.VaultConfig) { c.Namespace = "a\r\nX-Vault-Token: b" }},
		{"authMount", func(c *secret.VaultConfig) { c.AuthMount = "?x" }},
		{"auth", func(c *secret.VaultConfig) { c.Auth = "userpass" }},
		{"secretIdFile", func(c *secret.VaultConfig) { c.SecretIDFile = "" }},
		{"tokenFile", func(c *secret.VaultConfig) { c.Auth = "token" }},
		{"jwtFile", func(c *secret.VaultConfig) { c.Auth, c.Role = "kubernetes", "hub" }},
		{"role", func(c *secret.VaultConfig) { c.Auth, c.JWTFile = "kubernetes", "jwt" }},
	} {
		cfg := good
		c.wrong(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), c.key+" ") || strings.Contains(err.Error(), "pass@") && c.key != "address" {
			t.Errorf("%s: got %v", c.key, err)
		}
	}
}

func TestVaultFilesAreReadWithCare(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, path := range map[string]string{
		"missing": filepath.Join(dir, "none"), "a folder": dir, "empty": file("empty", " \n", 0o600),
		"two lines": file("two", canary+"\n"+canary, 0o600), "huge": file("huge", strings.Repeat("x", 1<<20), 0o600),
		"for all": file("open", canary, 0o604), "control": file("control", canary+"\x00", 0o600),
	} {
		v, err := secret.OpenVault(secret.VaultConfig{Address: "http://127.0.0.1:1", Mount: "secret", Transit: "transit",
			Auth: "token", TokenFile: path}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		err = v.Health(ctx)
		v.Close()
		if fault.CodeOf(err) != "E_SECRETS_DENIED" || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := secret.OpenVault(secret.VaultConfig{Address: "http://127.0.0.1:1", Mount: "secret", Transit: "transit",
		Auth: "token", TokenFile: "x", CA: file("ca", "no PEM", 0o600)}, slog.New(slog.DiscardHandler))
	if fault.CodeOf(err) != "E_CONFIG" || !strings.Contains(err.Error(), "ca") {
		t.Errorf("a broken ca gives %v", err)
	}
}

func FuzzVaultAnswers(f *testing.F) {
	statuses := []int{200, 400, 403, 404} // none that is asked again after a wait
	f.Add(uint8(0), []byte(`{"data":{"data":{"user":"erp"},"metadata":{"version":3}}}`))
	f.Add(uint8(0), []byte(`{"data":{"data":{"format":"ropeway vault keys 1","current":"x","keys":{"x":"y"},"mac":"z"}}}`))
	f.Add(uint8(3), []byte(`{"data":{"metadata":{"version":18446744073709551616}},"errors":["x"]}`))
	f.Add(uint8(1), []byte(`{"errors":["check-and-set parameter did not match the current version"]}`))
	f.Add(uint8(0), []byte(`{"auth":{"client_token":"x","lease_duration":-1},"data":{"ciphertext":"x","plaintext":"AAAA"}}`))
	f.Fuzz(func(t *testing.T, status uint8, body []byte) {
		v := standIn(t, signedIn(text(statuses[int(status)%len(statuses)], string(body))))
		id := page.NewID()
		v.Fields(ctx, id, id, id)
		v.Delete(ctx, id, id, id)
		if key, err := v.DataKey(ctx, id); err == nil && key == nil {
			t.Fatal("neither a key nor an error")
		}
		v.MAC(ctx, id, "p", nil)
		v.Health(ctx)
	})
}
