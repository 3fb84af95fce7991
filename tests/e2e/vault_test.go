package e2e

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ropeway/tests/rig"
	"ropeway/tests/testenv"
)

// vaultWorld is a site whose hub keeps its secrets in a Vault that was set up as
// docs/vault.md says.
type vaultWorld struct {
	*world
	vault *testenv.VaultServer
}

// throttled is a target that takes a tenth of a second for each page.
const throttled = `CREATE TABLE orders (id int PRIMARY KEY);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END';
	CREATE TRIGGER slow AFTER INSERT ON orders FOR EACH STATEMENT EXECUTE FUNCTION slow()`

func newVaultWorld(t *testing.T, rows int) *vaultWorld {
	t.Helper()
	v := &vaultWorld{vault: testenv.Vault(t)}
	v.world = newWorld(t)
	v.setUp()
	v.Env = append(v.Env, "ROPEWAY_HUB_SECRETS_ENGINE=vault", "ROPEWAY_HUB_SECRETS_VAULT_ADDRESS="+v.vault.Address,
		"ROPEWAY_HUB_SECRETS_VAULT_CA="+v.vault.CA, "ROPEWAY_HUB_SECRETS_VAULT_ROLE_ID_FILE="+v.Path("role-id"),
		"ROPEWAY_HUB_SECRETS_VAULT_SECRET_ID_FILE="+v.Path("secret-id"))
	v.sql(v.source, fmt.Sprintf(`CREATE TABLE orders AS SELECT generate_series(1, %d) AS id`, rows))
	v.sql(v.source, `ALTER TABLE orders ADD PRIMARY KEY (id)`)
	v.sql(v.target, throttled)
	manifests := v.manifests("  - import: {connection: warehouse, table: orders, mode: insert}\n")
	v.write("manifests/all.yaml", strings.Replace(manifests, "key: [id]}", "key: [id], pageSize: 100}", 1))
	v.start()
	return v
}

// setUp runs the commands of docs/vault.md against a Vault without any engine.
func (v *vaultWorld) setUp() {
	v.t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		v.t.Skip("skipped: the commands of docs/vault.md need curl")
	}
	const doc = "../../docs/vault.md"
	policy, shell := blocks(v.t, doc, "hcl"), blocks(v.t, doc, "sh")
	if len(policy) != 1 || len(shell) != 1 {
		v.t.Fatalf("docs/vault.md has %d hcl and %d sh blocks; this test knows 1 and 1", len(policy), len(shell))
	}
	for _, there := range []string{"sys/mounts/secret", "sys/mounts/transit", "sys/auth/approle"} {
		v.vault.Do("DELETE", there, nil)
	}
	v.write("ropeway.hcl", policy[0])
	v.paste("set -eo pipefail\n" + shell[0])
}

func (v *vaultWorld) paste(script string) {
	v.t.Helper()
	cmd := exec.CommandContext(v.context(time.Minute), "bash", "-c", script)
	cmd.Dir = v.Dir
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+v.vault.Address, "VAULT_CACERT="+v.vault.CA, "VAULT_TOKEN="+v.vault.Token)
	if out, err := cmd.CombinedOutput(); err != nil {
		v.t.Fatalf("%v\n%s", err, out)
	}
}

// start brings the site up.
func (v *vaultWorld) start() {
	v.t.Helper()
	ctx := v.context(2 * time.Minute)
	v.write("policy.yaml", v.policy())
	v.must(v.StartHub(ctx))
	v.run("", "apply", "-f", v.Path("manifests"))
	v.run(v.login(), "secret", "set", "erp-login", "--file", "-")
	v.must(v.Enroll(ctx, "plant-7"))
	v.must(v.StartAgent(ctx, true))
}

// ready asks readyz.
func (v *vaultWorld) ready() (status int, text string) {
	v.t.Helper()
	resp, err := http.Get("http://" + v.Ops + "/readyz")
	v.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	v.must(err)
	return resp.StatusCode, string(body)
}

func (v *vaultWorld) notReady(words ...string) {
	v.t.Helper()
	status, text := v.ready()
	for _, word := range words {
		if status != http.StatusServiceUnavailable || !strings.Contains(text, word) {
			v.t.Errorf("readyz is %d and does not say %q: %s", status, word, text)
		}
	}
}

// eventually waits until a condition holds.
func (v *vaultWorld) eventually(within time.Duration, what string, holds func() bool) {
	v.t.Helper()
	deadline, tick := time.After(within), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			v.t.Fatalf("not within %s: %s\nhub:\n%s", within, what, rig.Tail(v.Path("hub.log"), 20))
		case <-tick.C:
		}
	}
}

func (v *vaultWorld) log() string { return rig.Tail(v.Path("hub.log"), 100_000) }

func (v *vaultWorld) flow() (job string) {
	v.t.Helper()
	job, err := v.RunFlow(v.context(time.Minute), "orders-to-warehouse")
	v.must(err)
	return job
}

// delivered waits for the job and checks that all rows arrived, once.
func (v *vaultWorld) delivered(job string, rows int) {
	v.t.Helper()
	j, err := v.WaitJob(v.context(3*time.Minute), job)
	v.must(err)
	if j.State != "completed" || j.Records.Delivered != int64(rows) || j.Records.Parked != 0 {
		v.t.Fatalf("job: %+v", j)
	}
	if n := v.number(v.target, `SELECT count(*) FROM orders`); n != rows {
		v.t.Errorf("%d rows in the target, want %d", n, rows)
	}
}

// revokeTokens makes the hub's tokens invalid.
func (v *vaultWorld) revokeTokens() {
	v.t.Helper()
	data, _ := v.vault.Do("GET", "auth/token/accessors?list=true", nil)["data"].(map[string]any)
	keys, _ := data["keys"].([]any)
	revoked := 0
	for _, accessor := range keys {
		about, _ := v.vault.Do("POST", "auth/token/lookup-accessor", map[string]any{"accessor": accessor})["data"].(map[string]any)
		if about["path"] == "auth/approle/login" {
			v.vault.Do("POST", "auth/token/revoke-accessor", map[string]any{"accessor": accessor})
			revoked++
		}
	}
	if revoked == 0 {
		v.t.Fatal("the hub has no token at Vault")
	}
}

// shows fails the test when a file of hub or agent holds one of the texts.
func (v *vaultWorld) shows(texts ...string) {
	v.t.Helper()
	err := filepath.WalkDir(v.Dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil || !d.Type().IsRegular() || name == "role-id" || name == "secret-id" {
			return err
		}
		content, err := os.ReadFile(path)
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				v.t.Errorf("%s holds a secret", path)
			}
		}
		return err
	})
	v.must(err)
}

func (v *vaultWorld) file(name string) string {
	v.t.Helper()
	text, err := os.ReadFile(v.Path(name))
	v.must(err)
	return strings.TrimSpace(string(text))
}

func TestPromise_S6_PagesWaitWhileVaultIsSealed(t *testing.T) {
	const rows = 60_000
	v := newVaultWorld(t, rows)
	there := func() int { return v.number(v.target, `SELECT count(*) FROM orders`) }
	job := v.flow()
	v.eventually(time.Minute, "pages arrive", func() bool { return there() > rows/20 })

	v.vault.Seal()
	v.notReady("Vault is sealed", "unseal")
	v.eventually(time.Minute, "pages wait", func() bool { return strings.Contains(v.log(), "code=E_SEALED") })
	sealed := time.NewTimer(8 * time.Second)
	<-sealed.C
	if n := there(); n >= rows {
		t.Fatalf("all %d rows arrived though Vault is sealed: nothing was tested", n)
	}
	if j, err := v.JobOf(v.context(time.Minute), job); err != nil || rig.Ended(j.State) || j.Records.Parked != 0 {
		t.Errorf("while Vault is sealed: %+v, %v", j, err)
	}

	v.vault.Unseal()
	v.delivered(job, rows)
	if status, text := v.ready(); status != http.StatusOK {
		t.Errorf("readyz is %d afterwards: %s", status, text)
	}
	v.shows(v.file("secret-id"), v.vault.Token, "hvs.", v.pg.Password)
}

func TestVaultSealedAtTheStartOfTheHub(t *testing.T) {
	const rows = 1000
	v := newVaultWorld(t, rows)
	v.must(v.Hub.Stop(time.Minute))
	v.vault.Restart()
	v.must(v.StartHub(v.context(time.Minute)))
	v.notReady("Vault is sealed")
	v.vault.Unseal()
	v.eventually(20*time.Second, "the hub is ready", func() bool { status, _ := v.ready(); return status == http.StatusOK })
	v.delivered(v.flow(), rows)

	// The engine is not changed under data that its keys have sealed.
	v.must(v.Hub.Stop(time.Minute))
	v.Env = nil
	if err := v.StartHub(v.context(time.Minute)); err == nil || !strings.Contains(err.Error(), "secrets.engine") {
		t.Errorf("with another engine the hub starts: %v", err)
	}
}

func TestVaultTokenRevokedUnderAFlow(t *testing.T) {
	const rows = 40_000 // the hub asks for credentials every 5 s; this takes longer
	v := newVaultWorld(t, rows)
	job := v.flow()
	v.eventually(time.Minute, "pages arrive", func() bool { return v.number(v.target, `SELECT count(*) FROM orders`) > 0 })
	v.revokeTokens()
	v.delivered(job, rows)
	if !strings.Contains(v.log(), "vault does not take the hub's token any more") {
		t.Errorf("the log does not tell of it:\n%s", rig.Tail(v.Path("hub.log"), 20))
	}

	// Now the sign-in is refused too.
	v.vault.Do("DELETE", "auth/approle/role/ropeway", nil)
	v.revokeTokens()
	v.notReady("Vault does not let the hub sign in", "approle")
	v.eventually(20*time.Second, "the log says why", func() bool {
		return strings.Contains(v.log(), "Vault does not let the hub sign in")
	})
	v.sql(v.target, `TRUNCATE orders`)
	job = v.flow()
	v.eventually(20*time.Second, "pages wait", func() bool { return strings.Contains(v.log(), "code=E_SECRETS_DENIED") })
	role, secret := v.vault.AppRole("ropeway", v.file("ropeway.hcl"), nil)
	v.write("role-id", role)
	v.write("secret-id", secret)
	v.delivered(job, rows)
	v.shows(secret, v.vault.Token, "hvs.")
}
