package testenv_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"ropeway/tests/testenv"
)

// TestCAPNamesNoRegistry: the lock file pins packages by their hashes alone.
func TestCAPNamesNoRegistry(t *testing.T) {
	b, err := os.ReadFile("cap/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version, Resolved, Integrity string }
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		t.Fatal(err)
	}
	for name, p := range lock.Packages {
		if p.Resolved != "" || name != "" && p.Integrity == "" {
			t.Errorf("%s: resolved %q, integrity %q", name, p.Resolved, p.Integrity)
		}
	}
	if len(lock.Packages) < 100 || strings.Contains(string(b), "registry") {
		t.Error("the lock file is not whole or names a registry")
	}
}

func TestSAPFrontDemandsTokens(t *testing.T) {
	c := testenv.SAP(t)
	f := testenv.NewSAPFront(t, c)
	call := func(method, token, cookie string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, f.Origin+testenv.CAPRoot4+"/", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(c.User, c.Password)
		r.Header.Set("X-Csrf-Token", token)
		r.Header.Set("Cookie", cookie)
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	if r := call("POST", "", ""); r.StatusCode != 403 || r.Header.Get("X-Csrf-Token") != "Required" {
		t.Errorf("without a token: %s", r.Status)
	}
	given := call("GET", "fetch", "")
	token, cookie := given.Header.Get("X-Csrf-Token"), given.Header.Get("Set-Cookie")
	if given.StatusCode != 200 || token == "" || cookie == "" {
		t.Fatalf("fetch: %s, token %q, cookie %q", given.Status, token, cookie)
	}
	cookie, _, _ = strings.Cut(cookie, ";")
	if r := call("POST", token, cookie); r.StatusCode == 403 {
		t.Error("a good token is refused")
	}
	f.Expire()
	if r := call("POST", token, cookie); r.StatusCode != 403 {
		t.Errorf("after the session has ended: %s", r.Status)
	}
}
