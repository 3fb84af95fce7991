package testenv_test

import (
	"testing"

	"ropeway/tests/testenv"
)

func TestVaultKeepsItsDataSealedOverAKill(t *testing.T) {
	v := testenv.Vault(t)
	v.Do("POST", "secret/data/a", map[string]any{"data": map[string]any{"k": "v"}})
	role, id := v.AppRole("r", `path "secret/data/*" { capabilities = ["read"] }`, nil)
	v.Restart()
	if _, status, err := v.Ask(v.Token, "GET", "secret/data/a", nil); err != nil || status != 503 {
		t.Fatalf("after a kill it answers %d, %v: it is not sealed", status, err)
	}
	v.Unseal()
	login := v.Do("POST", "auth/approle/login", map[string]any{"role_id": role, "secret_id": id})
	token := login["auth"].(map[string]any)["client_token"].(string)
	answer, status, err := v.Ask(token, "GET", "secret/data/a", nil)
	if err != nil || status != 200 || answer["data"].(map[string]any)["data"].(map[string]any)["k"] != "v" {
		t.Fatalf("got %v, %d, %v", answer, status, err)
	}
	if _, status, _ := v.Ask(token, "GET", "sys/mounts", nil); status != 403 {
		t.Errorf("its policies do not hold: %d", status)
	}
}
