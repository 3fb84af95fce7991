package enroll_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/certs"
	"ropeway/certs/ca"
	wire "ropeway/certs/enroll"
	"ropeway/hub/internal/enroll"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// hub is an issuer over a real store and a real authority, at a time of its own.
type hub struct {
	*enroll.Issuer
	store     *store.Store
	authority *ca.Authority
	scope     store.Scope
	group     page.ID

	mu  sync.Mutex
	now time.Time
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{now: time.Now().Truncate(time.Second), group: page.NewID()}
	dir := t.TempDir()
	var err error
	if h.store, err = store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "hub.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	if h.authority, err = ca.Open(filepath.Join(dir, "ca"), h.clock); err != nil {
		t.Fatal(err)
	}
	h.scope = h.place(t, "main", "default")
	h.Issuer = enroll.New(enroll.Config{Store: h.store, Authority: h.authority, Hub: "https://hub.example:8443", Clock: h.clock})
	return h
}

func (h *hub) place(t *testing.T, tenant, environment string) store.Scope {
	t.Helper()
	tn, err := h.store.EnsureTenant(t.Context(), tenant, "private", h.clock())
	if err != nil {
		t.Fatal(err)
	}
	env, err := h.store.EnsureEnvironment(t.Context(), tn.ID, environment, h.clock())
	if err != nil {
		t.Fatal(err)
	}
	return store.Scope{Tenant: tn.ID, Environment: env.ID}
}

func (h *hub) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hub) later(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *hub) token(t *testing.T, change func(*enroll.TokenRequest)) wire.Token {
	t.Helper()
	r := enroll.TokenRequest{Scope: h.scope, Group: h.group, GroupName: "plant-7", CreatedBy: "admin"}
	if change != nil {
		change(&r)
	}
	text, _, err := h.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	token, err := wire.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csr(t testing.TB, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	text, err := certs.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := certs.ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func (h *hub) enroll(t *testing.T, token wire.Token, key crypto.Signer, change func(*wire.Application)) (wire.Grant, error) {
	t.Helper()
	a := wire.Application{Secret: token.Secret, CSR: csr(t, key), Hostname: "Press-1.plant.local", Software: "1.0", Remote: "192.0.2.1:5"}
	if change != nil {
		change(&a)
	}
	return h.Enroll(t.Context(), a)
}

func (h *hub) mustEnroll(t *testing.T, key crypto.Signer) wire.Grant {
	t.Helper()
	g, err := h.enroll(t, h.token(t, nil), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func chain(t *testing.T, g wire.Grant) []*x509.Certificate {
	t.Helper()
	list, err := certs.ParseChain([]byte(g.ChainPEM))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	f := fault.From(err)
	if err == nil || f.Code != code || f.Sentence == "" || f.Cause == "" || f.Fix == "" {
		t.Errorf("got %v (%s), want %s with cause and fix", err, fault.CodeOf(err), code)
	}
}

func TestEnrollMakesAnAgent(t *testing.T) {
	h, key := newHub(t), newKey(t)
	g := h.mustEnroll(t, key)
	if _, err := g.Check(h.authority.Pin(), key.Public(), h.clock()); err != nil {
		t.Fatal(err)
	}
	if g.AgentName != "press-1" || g.GroupName != "plant-7" || g.TenantName != "main" || g.EnvironmentName != "default" {
		t.Errorf("grant %+v", g)
	}
	a, err := h.store.Agent(t.Context(), h.scope, g.Agent)
	if err != nil || a.Name != "press-1" || a.State != model.AgentPending || a.Group != h.group || a.Serial == "" {
		t.Errorf("agent %+v, %v", a, err)
	}
	if err := h.Revoked(chain(t, g)[0], identityOf(t, g)); err != nil {
		t.Errorf("Revoked = %v", err)
	}
	log, err := h.store.AuditEntries(t.Context(), h.scope.Tenant, 10, 0)
	if err != nil || len(log.Items) == 0 || log.Items[0].Action != "agent enroll" {
		t.Errorf("audit %+v, %v", log, err)
	}
}

func identityOf(t *testing.T, g wire.Grant) certs.Identity {
	t.Helper()
	id, err := certs.ParseIdentity(chain(t, g)[0])
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestS2_OneCertificateFrom100ParallelRedemptions(t *testing.T) {
	h := newHub(t)
	token := h.token(t, nil)
	requests := make([]*x509.CertificateRequest, 100)
	for n := range requests {
		requests[n] = csr(t, newKey(t))
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	for _, request := range requests {
		wait.Go(func() {
			_, err := h.Enroll(t.Context(), wire.Application{Secret: token.Secret, CSR: request, Hostname: "h"})
			mu.Lock()
			defer mu.Unlock()
			outcomes[fault.CodeOf(err)]++
		})
	}
	wait.Wait()
	if outcomes[""] != 1 || outcomes["E_TOKEN_USED"] != 99 {
		t.Errorf("outcomes %v, want one certificate and 99 refusals", outcomes)
	}
	if agents, err := h.store.Agents(t.Context(), h.scope); err != nil || len(agents) != 1 {
		t.Errorf("%d agents, %v", len(agents), err)
	}
}

func TestS2_LostReplyIsRepeatedWithTheSameKey(t *testing.T) {
	h, key := newHub(t), newKey(t)
	token := h.token(t, nil)
	first, err := h.enroll(t, token, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.enroll(t, token, key, nil)
	if err != nil || second.Agent != first.Agent || second.AgentName != first.AgentName {
		t.Errorf("again: %v %s, %v; want agent %v %s", second.Agent, second.AgentName, err, first.Agent, first.AgentName)
	}
	_, err = h.enroll(t, token, newKey(t), nil)
	wantCode(t, err, "E_TOKEN_USED")
}

func TestS2_BadTokens(t *testing.T) {
	h, other := newHub(t), newHub(t)
	used := h.token(t, nil)
	if _, err := h.enroll(t, used, newKey(t), nil); err != nil {
		t.Fatal(err)
	}
	withdrawn := h.token(t, nil)
	list, err := h.store.EnrollTokens(t.Context(), h.scope)
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range list {
		if tok.Used == 0 {
			if err := h.store.RevokeEnrollToken(t.Context(), h.scope, tok.ID, "admin", h.clock()); err != nil {
				t.Fatal(err)
			}
		}
	}
	foreign := other.token(t, nil)
	late := h.token(t, nil)
	h.later(enroll.DefaultTTL)
	for name, test := range map[string]struct {
		token wire.Token
		code  string
	}{
		"used":            {h.token(t, nil), ""},
		"expired":         {late, "E_TOKEN_EXPIRED"},
		"used, expired":   {used, "E_TOKEN_EXPIRED"},
		"of another hub":  {foreign, "E_TOKEN_INVALID"},
		"never issued":    {wire.Token{Secret: wire.NewSecret()}, "E_TOKEN_INVALID"},
		"withdrawn":       {withdrawn, "E_TOKEN_INVALID"},
		"empty of secret": {wire.Token{}, "E_TOKEN_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.enroll(t, test.token, newKey(t), nil)
			if test.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				_, err = h.enroll(t, test.token, newKey(t), nil)
				test.code = "E_TOKEN_USED"
			}
			wantCode(t, err, test.code)
		})
	}
}

func TestTokenRequests(t *testing.T) {
	h := newHub(t)
	for name, change := range map[string]func(*enroll.TokenRequest){
		"negative life": func(r *enroll.TokenRequest) { r.TTL = -time.Second },
		"short life":    func(r *enroll.TokenRequest) { r.TTL = time.Second },
		"long life":     func(r *enroll.TokenRequest) { r.TTL = enroll.MaxTTL + 1 },
		"bad name":      func(r *enroll.TokenRequest) { r.Name = "Press 1" },
	} {
		r := enroll.TokenRequest{Scope: h.scope, Group: h.group, GroupName: "g", CreatedBy: "admin"}
		change(&r)
		_, _, err := h.Create(t.Context(), r)
		if fault.CodeOf(err) != "E_REQUEST" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAgentNames(t *testing.T) {
	h := newHub(t)
	bound := func(name string) func(*enroll.TokenRequest) {
		return func(r *enroll.TokenRequest) { r.Name = name }
	}
	for _, test := range []struct {
		name       string
		token      func(*enroll.TokenRequest)
		asks, host string
		want, code string
	}{
		{"of the host", nil, "", "Press-1.plant.local", "press-1", ""},
		{"of the host, taken", nil, "", "press-1", "press-1-2", ""},
		{"of the host, taken again", nil, "", "PRESS-1", "press-1-3", ""},
		{"of no host", nil, "", "", "agent", ""},
		{"of an odd host", nil, "", "\x00Bü_ro\u202e\n", "b-ro", ""},
		{"of a long host", nil, "", strings.Repeat("a", 200), strings.Repeat("a", 63), ""},
		{"asked for", nil, "mill-2", "x", "mill-2", ""},
		{"asked for, taken", nil, "mill-2", "x", "", "E_EXISTS"},
		{"bad", nil, "Mill 2", "x", "", "E_REQUEST"},
		{"case", nil, "MILL-3", "x", "", "E_REQUEST"},
		{"unicode", nil, "mi\u0301ll", "x", "", "E_REQUEST"},
		{"path", nil, "../mill", "x", "", "E_REQUEST"},
		{"subject", nil, "mill.>", "x", "", "E_REQUEST"},
		{"bound", bound("saw-1"), "", "x", "saw-1", ""},
		{"bound, same asked", bound("saw-2"), "saw-2", "x", "saw-2", ""},
		{"bound, other asked", bound("saw-3"), "saw-4", "x", "", "E_FORBIDDEN"},
		{"bound, taken", bound("saw-1"), "", "x", "", "E_EXISTS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := h.enroll(t, h.token(t, test.token), newKey(t), func(a *wire.Application) { a.Name, a.Hostname = test.asks, test.host })
			if test.code != "" {
				wantCode(t, err, test.code)
			} else if err != nil || g.AgentName != test.want {
				t.Errorf("named %q, %v", g.AgentName, err)
			}
		})
	}
}

func TestT5_Renewal(t *testing.T) {
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		after  time.Duration
		newKey bool
		code   string
	}{
		"at once":                 {0, false, ""},
		"at half life":            {3*day + day/2, false, ""},
		"new key while valid":     {3 * day, true, ""},
		"expired by a second":     {7*day + time.Second, false, ""},
		"expired, new key":        {7*day + time.Second, true, "E_CERT_EXPIRED"},
		"after 8 days":            {8 * day, false, ""},
		"89 days after its end":   {7*day + 89*day, false, ""},
		"91 days after its end":   {7*day + 91*day, false, "E_CERT_EXPIRED"},
		"10 years later":          {3650 * day, false, "E_CERT_EXPIRED"},
		"before it was issued":    {-25 * time.Hour, false, "E_UNAUTHENTICATED"},
		"hub's clock a day early": {-day, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, key := newHub(t), newKey(t)
			first := h.mustEnroll(t, key)
			h.later(test.after)
			next := key
			if test.newKey {
				next = newKey(t)
			}
			g, err := h.Renew(t.Context(), wire.Renewal{Chain: chain(t, first), CSR: csr(t, next)})
			if test.code != "" {
				wantCode(t, err, test.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if id, err := g.Check(h.authority.Pin(), next.Public(), h.clock()); err != nil || id != identityOf(t, first) {
				t.Errorf("renewed as %v, %v", id, err)
			}
			a, err := h.store.Agent(t.Context(), h.scope, g.Agent)
			if err != nil || a.Serial != chain(t, g)[0].SerialNumber.Text(16) {
				t.Errorf("the hub knows serial %s, %v", a.Serial, err)
			}
		})
	}
}

func TestRenewalRefusesStrangers(t *testing.T) {
	h, other := newHub(t), newHub(t)
	key := newKey(t)
	mine, foreign := h.mustEnroll(t, key), other.mustEnroll(t, key)
	for name, sent := range map[string][]*x509.Certificate{
		"another hub's":       chain(t, foreign),
		"leaf alone":          chain(t, mine)[:1],
		"mixed chain":         {chain(t, mine)[0], chain(t, foreign)[1]},
		"an authority":        chain(t, mine)[1:],
		"the root as a leaf":  rootOf(t, mine),
		"more than is needed": append(chain(t, mine), chain(t, mine)...)[:3:3],
	} {
		_, err := h.Renew(t.Context(), wire.Renewal{Chain: sent, CSR: csr(t, key)})
		if name == "more than is needed" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantCode(t, err, "E_UNAUTHENTICATED")
	}
}

func rootOf(t *testing.T, g wire.Grant) []*x509.Certificate {
	t.Helper()
	root, err := certs.ParseChain([]byte(g.RootPEM))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestS4_RevokedAgentsStayOut(t *testing.T) {
	h, key := newHub(t), newKey(t)
	token := h.token(t, nil)
	first, err := h.enroll(t, token, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	rotated := newKey(t)
	second, err := h.Renew(t.Context(), wire.Renewal{Chain: chain(t, first), CSR: csr(t, rotated)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.RevokeAgent(t.Context(), h.scope, first.Agent, "admin", "stolen", h.clock()); err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]wire.Grant{"first certificate": first, "after rotation": second} {
		wantCode(t, h.Revoked(chain(t, g)[0], identityOf(t, g)), "E_REVOKED")
		for keyName, k := range map[string]crypto.Signer{"own key": key, "rotated key": rotated, "new key": newKey(t)} {
			_, err := h.Renew(t.Context(), wire.Renewal{Chain: chain(t, g), CSR: csr(t, k)})
			if fault.CodeOf(err) != "E_REVOKED" {
				t.Errorf("%s, %s: renewal = %v", name, keyName, err)
			}
		}
	}
	_, err = h.enroll(t, token, key, nil)
	wantCode(t, err, "E_REVOKED")
	_, err = h.enroll(t, h.token(t, nil), rotated, nil)
	wantCode(t, err, "E_REVOKED")
	if _, err := h.enroll(t, h.token(t, nil), newKey(t), nil); err != nil {
		t.Errorf("the site cannot come back with a new key: %v", err)
	}
}

func TestUnknownAndDisabledAgents(t *testing.T) {
	h, key := newHub(t), newKey(t)
	g := h.mustEnroll(t, key)
	id := identityOf(t, g)
	id.Agent = page.NewID()
	wantCode(t, h.Revoked(chain(t, g)[0], id), "E_REVOKED")
	if _, err := h.store.ChangeAgent(t.Context(), h.scope, g.Agent, func(a *model.Agent) { a.State = model.AgentDisabled }); err != nil {
		t.Fatal(err)
	}
	_, err := h.Renew(t.Context(), wire.Renewal{Chain: chain(t, g), CSR: csr(t, key)})
	wantCode(t, err, "E_REVOKED")
}

func TestT5_EnrollingAgainKeepsTheAgent(t *testing.T) {
	h, key := newHub(t), newKey(t)
	first := h.mustEnroll(t, key)
	h.later(200 * 24 * time.Hour)
	second, err := h.enroll(t, h.token(t, nil), key, func(a *wire.Application) { a.Chain = chain(t, first) })
	if err != nil || second.Agent != first.Agent || second.AgentName != first.AgentName {
		t.Errorf("again: agent %v %s, %v, want %v", second.Agent, second.AgentName, err, first.Agent)
	}
	for name, change := range map[string]struct {
		key   crypto.Signer
		scope store.Scope
	}{
		"another key":         {newKey(t), h.scope},
		"another environment": {key, h.place(t, "main", "test")},
		"another tenant":      {key, h.place(t, "other", "default")},
	} {
		token := h.token(t, func(r *enroll.TokenRequest) { r.Scope = change.scope })
		g, err := h.enroll(t, token, change.key, func(a *wire.Application) { a.Chain = chain(t, first) })
		if err != nil || g.Agent == first.Agent || g.Tenant != change.scope.Tenant || g.Environment != change.scope.Environment {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
}

// A revocation that comes while a key is rotated must not be overwritten.
func TestS4_RevocationDuringRotation(t *testing.T) {
	h, key := newHub(t), newKey(t)
	first := h.mustEnroll(t, key)
	between := &pause{Store: h.store, before: func(ctx context.Context) error {
		_, err := h.store.RevokeAgent(ctx, h.scope, first.Agent, "admin", "stolen", h.clock())
		return err
	}}
	issuer := enroll.New(enroll.Config{Store: between, Authority: h.authority, Hub: "https://h", Clock: h.clock})
	_, err := issuer.Renew(t.Context(), wire.Renewal{Chain: chain(t, first), CSR: csr(t, newKey(t))})
	wantCode(t, err, "E_REVOKED")
	a, err := h.store.Agent(t.Context(), h.scope, first.Agent)
	if err != nil || a.State != model.AgentRevoked {
		t.Errorf("agent %s, %v", a.State, err)
	}
}

// pause runs something between the reading and the writing of an agent.
type pause struct {
	*store.Store
	before func(context.Context) error
}

func (p *pause) RenewAgent(ctx context.Context, r store.Renewal) (model.Agent, error) {
	if err := p.before(ctx); err != nil {
		return model.Agent{}, err
	}
	return p.Store.RenewAgent(ctx, r)
}

// A rotation ends the key before it. Who has a copy of that one can neither renew
// it nor, once the new key was seen, connect with it.
func TestS4_ARotatedKeyIsWorthNothing(t *testing.T) {
	h, stolen, fresh := newHub(t), newKey(t), newKey(t)
	first := h.mustEnroll(t, stolen)
	renew := func(g wire.Grant, key crypto.Signer) (wire.Grant, error) {
		return h.Renew(t.Context(), wire.Renewal{Chain: chain(t, g), CSR: csr(t, key)})
	}
	second, err := renew(first, fresh)
	if err != nil {
		t.Fatal(err)
	}
	// The agent may not have got the answer: its old key works on, and the same
	// rotation may be asked for again.
	if err := h.Revoked(chain(t, first)[0], identityOf(t, first)); err != nil {
		t.Errorf("the old key before the new one was seen: %v", err)
	}
	if _, err := renew(first, fresh); err != nil {
		t.Errorf("the rotation again: %v", err)
	}
	if _, err := renew(first, stolen); err != nil {
		t.Errorf("the old key renews while the new one was not seen: %v", err)
	}
	if err := h.Proved(t.Context(), chain(t, second)[0], identityOf(t, second)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.Revoked(chain(t, first)[0], identityOf(t, first)), "E_REVOKED")
	for name, key := range map[string]crypto.Signer{"itself": stolen, "the new key": fresh, "another": newKey(t)} {
		if _, err := renew(first, key); fault.CodeOf(err) != "E_REVOKED" {
			t.Errorf("the old key renews for %s: %v", name, err)
		}
	}
	_, err = h.enroll(t, h.token(t, nil), stolen, func(a *wire.Application) { a.Chain = chain(t, first) })
	wantCode(t, err, "E_REVOKED")
	if err := h.Revoked(chain(t, second)[0], identityOf(t, second)); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := renew(second, fresh); err != nil {
		t.Errorf("the new key renews: %v", err)
	}
}

// A key that was given and never used, then passed over by another rotation.
func TestS4_AnAbandonedRotationRenewsNothing(t *testing.T) {
	h, old, lost, fresh := newHub(t), newKey(t), newKey(t), newKey(t)
	first := h.mustEnroll(t, old)
	renew := func(g wire.Grant, key crypto.Signer) (wire.Grant, error) {
		return h.Renew(t.Context(), wire.Renewal{Chain: chain(t, g), CSR: csr(t, key)})
	}
	abandoned, err := renew(first, lost)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := renew(first, fresh); err != nil {
		t.Fatal(err)
	}
	if _, err := renew(abandoned, lost); fault.CodeOf(err) != "E_REVOKED" {
		t.Errorf("the abandoned key renews: %v", err)
	}
}

// Every certificate that is given out has a row in the audit log.
func TestS7_RenewalsAreAudited(t *testing.T) {
	h, key := newHub(t), newKey(t)
	g := h.mustEnroll(t, key)
	for _, k := range []crypto.Signer{key, newKey(t)} {
		if _, err := h.Renew(t.Context(), wire.Renewal{Chain: chain(t, g), CSR: csr(t, k)}); err != nil {
			t.Fatal(err)
		}
	}
	log, err := h.store.AuditEntries(t.Context(), h.scope.Tenant, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range log.Items {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, ", "); got != "agent rotate-key, agent renew, agent enroll, agent token" {
		t.Errorf("audited, newest first: %s", got)
	}
}
