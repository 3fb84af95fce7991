package testenv

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A VaultServer is a real Vault core on loopback, over TLS, with KV v2 at secret/,
// transit at transit/ and AppRole, initialised and unsealed.
type VaultServer struct {
	Address string // https://127.0.0.1:PORT, the same after a restart
	CA      string // file with the PEM of its authority
	Token   string // a root token
	Dir     string // everything of it is in here

	t      testing.TB
	share  string // the one share of the unseal key
	server *process
	http   *http.Client
}

// Vault starts a server for one test. Where none can be started it skips the
// test and says why; with ROPEWAY_VAULT=1 the test fails instead.
func Vault(t testing.TB) *VaultServer {
	t.Helper()
	bin, err := vaultBinary()
	if err != nil && os.Getenv("ROPEWAY_VAULT") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("skipped: needs a Vault: %v", err)
	}
	v := &VaultServer{t: t, Dir: t.TempDir()}
	v.must(v.prepare())
	v.start(bin)
	t.Cleanup(v.Kill)
	v.initialise()
	return v
}

func (v *VaultServer) prepare() error {
	c, err := newCertificate()
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	v.Address, v.CA = fmt.Sprintf("https://127.0.0.1:%d", port), v.file("ca.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.ca))
	v.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true,
	}}
	return errors.Join(
		os.WriteFile(v.CA, []byte(c.ca), 0o600),
		os.WriteFile(v.file("server.pem"), []byte(c.leaf), 0o600),
		os.WriteFile(v.file("server.key"), []byte(c.key), 0o600))
}

func (v *VaultServer) start(bin string) {
	v.t.Helper()
	var err error
	v.server, err = startProcess(context.Background(), account{home: v.Dir, uid: -1, gid: -1},
		v.file("server.log"), bin, "-data", v.file("data"), "-listen", strings.TrimPrefix(v.Address, "https://"),
		"-certificate", v.file("server.pem"), "-key", v.file("server.key"))
	v.must(err)
	deadline, tick := time.After(60*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := v.http.Get(v.Address + "/v1/sys/seal-status")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-v.server.done:
			v.t.Fatalf("Vault ended at its start: %s", v.server.lastLog())
		case <-deadline:
			v.t.Fatalf("Vault is not ready after 60 s: %v", err)
		case <-tick.C:
		}
	}
}

// initialise makes the keys, unseals and turns on the engines that tests need.
func (v *VaultServer) initialise() {
	v.t.Helper()
	answer := v.Do("PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	v.Token, _ = answer["root_token"].(string)
	shares, _ := answer["keys_base64"].([]any)
	if len(shares) != 1 || v.Token == "" {
		v.t.Fatal("Vault answered its initialisation with something else")
	}
	v.share, _ = shares[0].(string)
	v.Unseal()
	v.Do("POST", "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Do("POST", "sys/mounts/transit", map[string]any{"type": "transit"})
	v.Do("POST", "sys/auth/approle", map[string]any{"type": "approle"})
}

// Unseal opens the barrier; the server answers again when it returns.
func (v *VaultServer) Unseal() {
	v.t.Helper()
	v.Do("PUT", "sys/unseal", map[string]any{"key": v.share})
	v.wait(http.StatusOK)
}

// Seal shuts the barrier: nothing can be read or written until Unseal.
func (v *VaultServer) Seal() {
	v.t.Helper()
	v.Do("PUT", "sys/seal", nil)
	v.wait(http.StatusServiceUnavailable)
}

// Kill ends the server without a word.
func (v *VaultServer) Kill() {
	v.server.cmd.Process.Kill()
	<-v.server.done
}

// Restart starts the server again on the same data and port. It is sealed then.
func (v *VaultServer) Restart() {
	v.t.Helper()
	v.Kill()
	v.start(v.server.cmd.Path)
}

// wait returns when the health of the server has the given status.
func (v *VaultServer) wait(status int) {
	v.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := v.http.Get(v.Address + "/v1/sys/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == status {
				return
			}
		}
		select {
		case <-deadline:
			v.t.Fatalf("Vault's health is not %d after 30 s: %v", status, err)
		case <-tick.C:
		}
	}
}

// Do asks the server something as root and fails the test unless it agrees.
func (v *VaultServer) Do(method, path string, body any) map[string]any {
	v.t.Helper()
	answer, status, err := v.Ask(v.Token, method, path, body)
	v.must(err)
	if status >= 300 {
		v.t.Fatalf("Vault answers %s %s with %d: %v", method, path, status, answer["errors"])
	}
	return answer
}

// Ask asks the server something with a token and returns what it says.
func (v *VaultServer) Ask(token, method, path string, body any) (map[string]any, int, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequest(method, v.Address+"/v1/"+path, bytes.NewReader(raw))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	resp, err := v.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer := map[string]any{}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if errors.Is(err, io.EOF) {
		err = nil // 204
	}
	return answer, resp.StatusCode, err
}

// AppRole makes a role that may do what the policy (in HCL) says and returns
// what signs it in. Settings are those of Vault's roles, such as token_ttl.
func (v *VaultServer) AppRole(name, policy string, settings map[string]any) (roleID, secretID string) {
	v.t.Helper()
	v.Do("PUT", "sys/policies/acl/"+name, map[string]any{"policy": policy})
	role := map[string]any{"token_policies": name}
	for k, s := range settings {
		role[k] = s
	}
	v.Do("POST", "auth/approle/role/"+name, role)
	data, _ := v.Do("GET", "auth/approle/role/"+name+"/role-id", nil)["data"].(map[string]any)
	roleID, _ = data["role_id"].(string)
	return roleID, v.SecretID(name)
}

// SecretID makes one more secret id of a role.
func (v *VaultServer) SecretID(role string) string {
	v.t.Helper()
	data, _ := v.Do("POST", "auth/approle/role/"+role+"/secret-id", nil)["data"].(map[string]any)
	id, _ := data["secret_id"].(string)
	return id
}

func (v *VaultServer) file(name string) string { return filepath.Join(v.Dir, name) }

func (v *VaultServer) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}
