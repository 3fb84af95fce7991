package access_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// rig is a gate over a real store with a clock that the test moves.
type rig struct {
	store  *store.Store
	gate   *access.Gate
	tenant page.ID
	now    time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	s, err := store.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	tenant, err := s.EnsureTenant(context.Background(), "main", "", r.now)
	if err != nil {
		t.Fatal(err)
	}
	r.store, r.tenant = s, tenant.ID
	r.gate = access.New(s, func() time.Time { return r.now })
	return r
}

func (r *rig) issue(t *testing.T, n access.NewToken) string {
	t.Helper()
	n.Tenant, n.Actor = r.tenant, "ann"
	text, _, err := r.gate.Issue(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenIsItsPrincipal(t *testing.T) {
	r := newRig(t)
	env := page.NewID()
	text := r.issue(t, access.NewToken{Name: "ci", Role: access.Builder, Environments: []page.ID{env}})
	p, err := r.gate.Authenticate(context.Background(), text)
	if err != nil {
		t.Fatal(err)
	}
	if p.Tenant != r.tenant || p.Name != "ci" || p.Role != access.Builder || !p.In(env) ||
		p.In(page.NewID()) || p.In(page.ID{}) {
		t.Fatalf("got %+v", p)
	}
	list, err := r.store.APITokens(context.Background(), r.tenant)
	if err != nil || len(list) != 1 || list[0].LastUsed == nil {
		t.Fatalf("got %+v, %v", list, err)
	}
}

func TestStrangersAreRefusedAlike(t *testing.T) {
	r := newRig(t)
	good := r.issue(t, access.NewToken{Name: "good", Role: access.Viewer})
	expired := r.issue(t, access.NewToken{Name: "expired", Role: access.Admin,
		Expires: r.now.Add(time.Hour)})
	revoked := r.issue(t, access.NewToken{Name: "revoked", Role: access.Admin})
	if err := r.store.RevokeAPIToken(context.Background(), r.tenant, "revoked", "ann",
		r.now); err != nil {
		t.Fatal(err)
	}
	if _, err := r.gate.Authenticate(context.Background(), expired); err != nil {
		t.Fatalf("before it expires: %v", err)
	}
	r.now = r.now.Add(time.Hour)
	want := ""
	for name, text := range map[string]string{"empty": "", "prefix": "rwa1.",
		"cut": good[:len(good)-1], "longer": good + "A",
		"padded": good + strings.Repeat("A", 1<<20), "upper": strings.ToUpper(good), "spaced": " " + good,
		"expired": expired, "revoked": revoked, "nul": good + "\x00",
		"other": "rwa1." + strings.Repeat("A", 43)} {
		_, err := r.gate.Authenticate(context.Background(), text)
		if fault.CodeOf(err) != "E_UNAUTHENTICATED" {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if want == "" {
			want = err.Error()
		}
		if err.Error() != want || strings.Contains(err.Error(), "rwa1") {
			t.Errorf("%s is refused in other words: %v", name, err)
		}
	}
	if _, err := r.gate.Authenticate(context.Background(), good); err != nil {
		t.Fatal(err)
	}
}

func TestTokensAreIssuedWithCare(t *testing.T) {
	r := newRig(t)
	seen := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		text := r.issue(t, access.NewToken{Name: name, Role: access.Viewer})
		if seen[text] || len(text) != len("rwa1.")+43 || !strings.HasPrefix(text, "rwa1.") {
			t.Fatalf("token of length %d", len(text))
		}
		seen[text] = true
	}
	for _, bad := range []access.NewToken{{Name: "x", Role: "root"}, {Name: "", Role: access.Admin},
		{Name: strings.Repeat("n", 129), Role: access.Admin}} {
		bad.Tenant = r.tenant
		if _, _, err := r.gate.Issue(context.Background(), bad); fault.CodeOf(err) != "E_REQUEST" {
			t.Errorf("%+v gives %v", bad, err)
		}
	}
	if _, _, err := r.gate.Issue(context.Background(), access.NewToken{Tenant: r.tenant, Name: "a",
		Role: access.Viewer}); err == nil {
		t.Error("a name was given twice")
	}
}

func TestRoles(t *testing.T) {
	all := []access.Action{access.View, access.UseRoutes, access.ViewRecords, access.Operate,
		access.EditRecords,
		access.Build, access.SetSecrets, access.ManageAgents, access.ManageTokens, access.ReadAudit}
	for role, count := range map[access.Role]int{access.Viewer: 1, access.Operator: 5,
		access.Builder: 7, access.Admin: 10, "": 0, "root": 0} {
		for i, a := range all {
			if got := access.Can(access.Principal{Role: role}, a); got != (i < count) {
				t.Errorf("%q may %s: %v", role, a, got)
			}
		}
		for _, never := range []access.Action{access.ManageTenants, "", "fly"} {
			if access.Can(access.Principal{Role: role}, never) {
				t.Errorf("%q may %q", role, never)
			}
		}
	}
	env := page.NewID()
	p := access.Principal{Role: access.Operator, Environments: []page.ID{env}}
	for _, c := range []struct {
		action access.Action
		env    page.ID
		code   string
	}{{access.Operate, env, ""}, {access.Operate, page.NewID(), "E_FORBIDDEN"}, {access.Operate,
		page.ID{}, "E_FORBIDDEN"},
		{access.Build, env, "E_FORBIDDEN"}} {
		if got := fault.CodeOf(access.Check(p, c.action, c.env)); got != c.code {
			t.Errorf("%s in %s: %q, want %q", c.action, c.env, got, c.code)
		}
	}
}
