package secret_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/hub/internal/secret"
	"ropeway/hub/internal/secret/secrettest"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/tests/testenv"
)

// policy is what docs/vault.md tells an operator to give the hub.
func policy(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(doc), "```hcl\n")
	block, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatal("docs/vault.md has no policy")
	}
	return block
}

// hubs are hubs with one role at one Vault, whose files and log they share.
type hubs struct {
	t      *testing.T
	server *testenv.VaultServer
	cfg    secret.VaultConfig
	logs   *logs
}

type logs struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

func newHubs(t *testing.T, server *testenv.VaultServer, settings map[string]any) *hubs {
	t.Helper()
	role, id := server.AppRole("ropeway", policy(t), settings)
	h := &hubs{t: t, server: server, logs: &logs{}}
	h.cfg = secret.VaultConfig{
		Address: server.Address, CA: server.CA, Mount: "secret", Transit: "transit", Auth: "approle",
		RoleIDFile: h.file("role-id", role), SecretIDFile: h.file("secret-id", id),
	}
	return h
}

// file writes a private file with a text.
func (h *hubs) file(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.server.Dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *hubs) open() *secret.Vault {
	h.t.Helper()
	v, err := secret.OpenVault(h.cfg, slog.New(slog.NewTextHandler(h.logs, nil)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { v.Close() })
	return v
}

// tokens are the tokens of the hub that are alive, by accessor.
func (h *hubs) tokens() (accessors []string) {
	h.t.Helper()
	data, _ := h.server.Do("GET", "auth/token/accessors?list=true", nil)["data"].(map[string]any)
	keys, _ := data["keys"].([]any)
	for _, k := range keys {
		answer, status, err := h.server.Ask(h.server.Token, "POST", "auth/token/lookup-accessor", map[string]any{"accessor": k})
		if err != nil || status != 200 {
			continue // ended meanwhile
		}
		if about, _ := answer["data"].(map[string]any); about["path"] == "auth/approle/login" {
			accessors = append(accessors, k.(string))
		}
	}
	return accessors
}

func (h *hubs) revokeTokens() {
	h.t.Helper()
	for _, a := range h.tokens() {
		h.server.Do("POST", "auth/token/revoke-accessor", map[string]any{"accessor": a})
	}
}

func refusedWith(t *testing.T, err error, code string, class fault.Class, words ...string) {
	t.Helper()
	if fault.CodeOf(err) != code || fault.ClassOf(err) != class {
		t.Fatalf("got %v (%s, %s), want %s, %s", err, fault.CodeOf(err), fault.ClassOf(err), code, class)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var ctx = context.Background()

func TestVaultContract(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	secrettest.Run(t, func(t *testing.T) secrettest.Open {
		return func() secret.Engine { return h.open() }
	})
}

func TestPromise_S6_SealedVaultMakesWorkWaitAndComesBackByItself(t *testing.T) {
	t.Parallel()
	h := newHubs(t, testenv.Vault(t), nil)
	v := h.open()
	tenant, env, id, other := page.NewID(), page.NewID(), page.NewID(), page.NewID()
	must(t, v.Put(ctx, tenant, env, id, map[string]string{"password": canary}))
	must(t, v.Put(ctx, tenant, env, other, map[string]string{"password": canary}))
	key, err := v.DataKey(ctx, tenant)
	must(t, err)
	read := func(id page.ID) error { _, _, err := v.Fields(ctx, tenant, env, id); return err }

	h.server.Seal()
	refusedWith(t, read(id), "E_SEALED", fault.Intermittent, "Vault is sealed", "unseal")
	refusedWith(t, v.Health(ctx), "E_SEALED", fault.Intermittent, "unseal")
	refusedWith(t, v.Put(ctx, tenant, env, id, map[string]string{"a": "b"}), "E_SEALED", fault.Intermittent)
	refusedWith(t, v.Delete(ctx, tenant, env, id), "E_SEALED", fault.Intermittent)
	_, err = v.DataKey(ctx, page.NewID())
	refusedWith(t, err, "E_SEALED", fault.Intermittent)
	if again, err := v.DataKey(ctx, tenant); err != nil || again.ID() != key.ID() {
		t.Errorf("the key in memory does not seal on: %v", err)
	}
	h.server.Unseal()
	must(t, read(id))

	h.server.Kill()
	refusedWith(t, read(other), "E_SECRETS_UNREACHABLE", fault.Intermittent, "connection refused")
	refusedWith(t, v.Health(ctx), "E_SECRETS_UNREACHABLE", fault.Intermittent)
	h.server.Restart()
	refusedWith(t, read(other), "E_SEALED", fault.Intermittent)
	h.server.Unseal()
	must(t, read(other))
	must(t, v.Health(ctx))
	for _, words := range []string{"Vault is sealed", "connection refused", "vault serves the hub's secrets again"} {
		if !strings.Contains(h.logs.String(), words) {
			t.Errorf("the log does not say %q:\n%s", words, h.logs)
		}
	}
}

func TestVaultIsNotThereWhenTheHubStarts(t *testing.T) {
	t.Parallel()
	h := newHubs(t, testenv.Vault(t), nil)
	h.server.Restart() // sealed
	v := h.open()
	eventually(t, "the log tells of it", func() bool { return strings.Contains(h.logs.String(), "Vault is sealed") })
	h.server.Unseal()
	eventually(t, "the hub signs in by itself", func() bool { return strings.Contains(h.logs.String(), "signed in to vault") })
	must(t, v.Health(ctx))
}

func TestVaultSessionOutlivesItsTokens(t *testing.T) {
	t.Parallel()
	h := newHubs(t, testenv.Vault(t), map[string]any{"token_ttl": "2s", "token_max_ttl": "4s"})
	v := h.open()
	tenant, env, id := page.NewID(), page.NewID(), page.NewID()
	until, tick := time.After(9*time.Second), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for running, n := true, 0; running; n++ {
		must(t, v.Put(ctx, tenant, env, id, map[string]string{"n": fmt.Sprint(n)}))
		select {
		case <-until:
			running = false
		case <-tick.C:
		}
	}
	out := h.logs.String()
	if n := strings.Count(out, "signed in to vault"); n < 2 || n > 6 {
		t.Errorf("signed in %d times in 9 s with tokens of 4 s at most:\n%s", n, out)
	}
	if strings.Contains(out, "does not take the hub's token") {
		t.Errorf("a token ended before it was replaced:\n%s", out)
	}
	must(t, v.Close())
	eventually(t, "no token is left", func() bool { return len(h.tokens()) == 0 })
}

func TestVaultTokenRevoked(t *testing.T) {
	t.Parallel()
	h := newHubs(t, testenv.Vault(t), nil)
	v := h.open()
	must(t, v.Health(ctx))
	h.revokeTokens()
	must(t, v.Health(ctx)) // signs in again
	if !strings.Contains(h.logs.String(), "vault does not take the hub's token any more") {
		t.Errorf("the log does not tell of it:\n%s", h.logs)
	}

	// Neither the token nor the secret id is good any more.
	h.server.Do("DELETE", "auth/approle/role/ropeway", nil)
	h.revokeTokens()
	err := v.Health(ctx)
	refusedWith(t, err, "E_SECRETS_DENIED", fault.Intermittent, "sign in", "approle", "credential")
	refusedWith(t, v.Health(ctx), "E_SECRETS_DENIED", fault.Intermittent)
	eventually(t, "the log says why", func() bool {
		return strings.Contains(h.logs.String(), "Vault does not let the hub sign in")
	})
	role, id := h.server.AppRole("ropeway", policy(t), nil)
	h.file("role-id", role)
	h.file("secret-id", id)
	eventually(t, "it signs in with the new files", func() bool { return v.Health(ctx) == nil })
}

func TestVaultTokenFile(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	token := func() string {
		auth, _ := h.server.Do("POST", "auth/token/create", map[string]any{"policies": []string{"ropeway"}, "ttl": "1h"})["auth"].(map[string]any)
		return auth["client_token"].(string)
	}
	first := token()
	h.cfg.Auth, h.cfg.TokenFile = "token", h.file("token", first)
	v := h.open()
	must(t, v.Health(ctx))
	h.server.Do("POST", "auth/token/revoke", map[string]any{"token": first})
	refusedWith(t, v.Health(ctx), "E_SECRETS_DENIED", fault.Intermittent, "sign in", "token")
	h.file("token", token())
	must(t, v.Health(ctx))
	must(t, v.Close())
	must(t, h.open().Health(ctx)) // Close has not revoked what is not the hub's
	if strings.Contains(h.logs.String(), first) {
		t.Error("the log shows a token")
	}
}

func TestVaultKubernetes(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	// Vault asks the cluster whose token it is; the cluster is the one stand-in here.
	cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,
			"user":{"username":"system:serviceaccount:ropeway:hub","uid":"4711"}}}`)
	}))
	t.Cleanup(cluster.Close)
	part := base64.RawURLEncoding.EncodeToString
	jwt := part([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." +
		part([]byte(`{"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"ropeway",
			"kubernetes.io/serviceaccount/service-account.name":"hub","kubernetes.io/serviceaccount/service-account.uid":"4711"}`)) +
		"." + part([]byte("signature"))
	h.server.Do("POST", "sys/auth/k8s", map[string]any{"type": "kubernetes"})
	ca, err := os.ReadFile(h.server.CA) // any: the cluster speaks plain HTTP here
	must(t, err)
	h.server.Do("POST", "auth/k8s/config", map[string]any{"kubernetes_host": cluster.URL, "disable_local_ca_jwt": true,
		"kubernetes_ca_cert": string(ca)})
	h.server.Do("POST", "auth/k8s/role/hub", map[string]any{"bound_service_account_names": "hub",
		"bound_service_account_namespaces": "ropeway", "token_policies": "ropeway", "token_ttl": "1h"})
	h.cfg.Auth, h.cfg.AuthMount, h.cfg.Role, h.cfg.JWTFile = "kubernetes", "k8s", "hub", h.file("jwt", jwt)
	must(t, h.open().Health(ctx))
	h.cfg.Role = "other"
	refusedWith(t, h.open().Health(ctx), "E_SECRETS_DENIED", fault.Intermittent, "sign in", "kubernetes")
	h.cfg.AuthMount = "nowhere"
	refusedWith(t, h.open().Health(ctx), "E_SECRETS_DENIED", fault.Intermittent, "sign in", "kubernetes")
	if strings.Contains(h.logs.String(), jwt) {
		t.Error("the log shows the token of the service account")
	}
}

func TestVaultPolicyThatLacksARightIsNamed(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	h.server.AppRole("ropeway", `path "secret/data/ropeway/*" { capabilities = ["create", "read", "update"] }`, nil)
	v := h.open()
	refusedWith(t, v.Health(ctx), "E_SECRETS_DENIED", fault.Intermittent, "permission denied", "docs/vault.md")
	if n := strings.Count(h.logs.String(), "signed in to vault"); n != 1 {
		t.Errorf("signed in %d times for what a sign-in does not mend", n)
	}
}

func TestVaultEnginesThatAreNotThereAreNamed(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	h.server.AppRole("ropeway", `path "*" { capabilities = ["create", "read", "update"] }`, nil)
	for _, change := range []func(*secret.VaultConfig){
		func(c *secret.VaultConfig) { c.Mount = "nowhere" }, func(c *secret.VaultConfig) { c.Transit = "nowhere" },
	} {
		saved := h.cfg
		change(&h.cfg)
		refusedWith(t, h.open().Health(ctx), "E_SECRETS_UNREACHABLE", fault.Intermittent, "nowhere")
		h.cfg = saved
	}
}

func TestVaultKeysAreNeverMadeTwice(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	tenant := page.NewID()
	ids := make([]string, 8)
	var group sync.WaitGroup
	for i := range ids { // eight replicas at once
		v := h.open()
		group.Go(func() {
			key, err := v.DataKey(ctx, tenant)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = key.ID()
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("replicas have the keys %v", ids)
		}
	}
	path := "secret/data/ropeway/" + tenant.String() + "/keys"
	h.server.Do("DELETE", path, nil)
	_, err := h.open().DataKey(ctx, tenant)
	refusedWith(t, err, "E_SEALED", fault.Internal, "deleted", "undelete")
	h.server.Do("POST", strings.Replace(path, "data", "undelete", 1), map[string]any{"versions": []int{1}})
	_, err = h.open().DataKey(ctx, tenant)
	must(t, err)
}

func TestPromise_S6_TransitKeysRotateWithoutDowntime(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	tenant := page.NewID()
	key, err := h.open().DataKey(ctx, tenant)
	must(t, err)
	sealed := page.SealBytes(key, []byte("record"), nil)
	h.server.Do("POST", "transit/keys/ropeway-"+tenant.String()+"/rotate", nil)
	v := h.open()
	plain, err := page.OpenBytes(sealed, nil, func(id string) (*page.Key, error) { return v.KeyByID(ctx, tenant, id) })
	if err != nil || string(plain) != "record" {
		t.Fatalf("got %q, %v", plain, err)
	}
	// Refusing the old version takes the key away: said, and nothing is made anew.
	h.server.Do("POST", "transit/keys/ropeway-"+tenant.String()+"/config", map[string]any{"min_decryption_version": 2})
	_, err = h.open().DataKey(ctx, tenant)
	refusedWith(t, err, "E_SEALED", fault.Internal, "transit", "ropeway-"+tenant.String())
}

func TestVaultSwappedKeysDoNotOpen(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	tenants := [2]page.ID{page.NewID(), page.NewID()}
	var rings [2]map[string]any
	for i, tenant := range tenants {
		_, err := h.open().DataKey(ctx, tenant)
		must(t, err)
		data := h.server.Do("GET", "secret/data/ropeway/"+tenant.String()+"/keys", nil)["data"].(map[string]any)
		rings[i] = data["data"].(map[string]any)
	}
	put := func(ring map[string]any) {
		h.server.Do("POST", "secret/data/ropeway/"+tenants[0].String()+"/keys", map[string]any{"data": ring})
	}
	put(rings[1])
	_, err := h.open().DataKey(ctx, tenants[0])
	refusedWith(t, err, "E_SEALED", fault.Internal)
	// The key of hashes in the place of the data key: one tenant, another purpose.
	current := rings[0]["current"].(string)
	put(map[string]any{"format": rings[0]["format"], "current": current, "mac": rings[0]["mac"],
		"keys": map[string]any{current: rings[0]["mac"]}})
	_, err = h.open().DataKey(ctx, tenants[0])
	refusedWith(t, err, "E_SEALED", fault.Internal)
	for _, ring := range []map[string]any{{"format": "other"}, {"keys": 7}, {}} {
		put(ring)
		_, err = h.open().DataKey(ctx, tenants[0])
		refusedWith(t, err, "E_SEALED", fault.Internal)
	}
}

func TestVaultDeletedSecretsAreGone(t *testing.T) {
	h := newHubs(t, testenv.Vault(t), nil)
	v := h.open()
	tenant, env, id := page.NewID(), page.NewID(), page.NewID()
	for range 3 {
		must(t, v.Put(ctx, tenant, env, id, map[string]string{"password": canary}))
	}
	must(t, v.Delete(ctx, tenant, env, id))
	path := strings.Join([]string{"secret/data/ropeway", tenant.String(), env.String(), id.String()}, "/")
	for version := 1; version <= 3; version++ {
		answer, _, err := h.server.Ask(h.server.Token, "GET", fmt.Sprintf("%s?version=%d", path, version), nil)
		if err != nil || strings.Contains(fmt.Sprint(answer), canary) {
			t.Errorf("version %d is still there, %v", version, err)
		}
	}
	// What a person writes into Vault counts, numbers too; what is no text is refused.
	h.server.Do("POST", path, map[string]any{"data": map[string]any{"user": "erp", "pin": 4711}})
	eventually(t, "the value set in Vault is seen", func() bool {
		f, _, err := v.Fields(ctx, tenant, env, id)
		return err == nil && f["user"] == "erp" && f["pin"] == "4711"
	})
	h.server.Do("POST", path, map[string]any{"data": map[string]any{"user": []string{canary}}})
	_, _, err := h.open().Fields(ctx, tenant, env, id)
	refusedWith(t, err, "E_NO_CREDENTIAL", fault.Auth, "not a text")
}

func TestSecurity_S5_NothingOfVaultIsShown(t *testing.T) {
	t.Parallel()
	h := newHubs(t, testenv.Vault(t), map[string]any{"token_ttl": "2s", "token_max_ttl": "3s"})
	id, err := os.ReadFile(h.cfg.SecretIDFile)
	must(t, err)
	v := h.open()
	tenant, env, place := page.NewID(), page.NewID(), page.NewID()
	must(t, v.Put(ctx, tenant, env, place, map[string]string{"password": canary}))
	var said strings.Builder
	try := func() {
		_, _, err := v.Fields(ctx, tenant, env, place)
		_, err2 := v.DataKey(ctx, page.NewID())
		fmt.Fprintf(&said, "%v %+v %#v %v %v %v\n", err, err, err, err2, v.Health(ctx),
			v.Put(ctx, tenant, env, place, map[string]string{"password": canary}))
	}
	for _, harm := range []func(){h.server.Seal, h.server.Unseal, h.revokeTokens,
		func() { h.server.Do("DELETE", "auth/approle/role/ropeway", nil); h.revokeTokens() },
		func() { h.file("secret-id", canary+"\nsecond line") }, h.server.Kill} {
		harm()
		try()
	}
	for _, text := range []string{canary, strings.TrimSpace(string(id)), h.server.Token, "hvs."} {
		for _, form := range []string{text, base64.StdEncoding.EncodeToString([]byte(text))} {
			if strings.Contains(said.String(), form) || strings.Contains(h.logs.String(), form) {
				t.Fatalf("%q is shown", form)
			}
		}
	}
	raw, err := os.ReadFile(filepath.Join(h.server.Dir, "server.log"))
	if err != nil || bytes.Contains(raw, []byte(canary)) {
		t.Errorf("Vault's own log: %v", err)
	}
}
