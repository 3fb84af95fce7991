package agent

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/agent/internal/identity"
	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub renews every certificate it is shown, unless it is told to refuse.
type hub struct {
	authority *ca.Authority
	id        certs.Identity
	address   string
	asked     chan enroll.Renewal

	mu     sync.Mutex
	now    time.Time // zero = the true time
	refuse *fault.Error
}

func (h *hub) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now.IsZero() {
		return time.Now()
	}
	return h.now
}

func (h *hub) set(now time.Time, refuse *fault.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now, h.refuse = now, refuse
}

func (h *hub) Enroll(context.Context, enroll.Application) (enroll.Grant, error) {
	return enroll.Grant{}, fault.Of("E_TOKEN_INVALID")
}

func (h *hub) Renew(_ context.Context, r enroll.Renewal) (enroll.Grant, error) {
	h.asked <- r
	h.mu.Lock()
	refuse := h.refuse
	h.mu.Unlock()
	if refuse != nil {
		return enroll.Grant{}, refuse
	}
	chain, err := h.authority.SignAgent(h.id, r.CSR)
	return enroll.Grant{
		ChainPEM: string(chain), RootPEM: string(h.authority.RootPEM()),
		Agent: h.id.Agent, Tenant: h.id.Tenant, Environment: h.id.Environment,
	}, err
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{asked: make(chan enroll.Renewal, 16)}
	h.set(time.Now().Add(-100*24*time.Hour), nil)
	var err error
	if h.authority, err = ca.Open(t.TempDir(), h.clock); err != nil {
		t.Fatal(err)
	}
	h.set(time.Time{}, nil)
	h.id = certs.Identity{TrustDomain: h.authority.TrustDomain(), Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}
	cert, err := h.authority.HubCertificates([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { _ = enroll.Serve(ctx, tls.Server(raw, certs.HubEnrollTLS(cert)), h) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		wait.Wait()
	})
	return h
}

// agent makes the parts of an agent whose certificate was issued some time ago.
func (h *hub) agent(t *testing.T, age time.Duration) *parts {
	t.Helper()
	c := DefaultConfig("")
	c.State, c.Policy = filepath.Join(t.TempDir(), "state"), ""
	if err := identity.Prepare(c.State); err != nil {
		t.Fatal(err)
	}
	key, err := identity.Key(c.State)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certs.ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	h.set(time.Now().Add(-age), nil)
	chain, err := h.authority.SignAgent(h.id, csr)
	h.set(time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = identity.Enrolled(c.State, key, chain, h.authority.RootPEM(), identity.Facts{
		Hub: "https://" + h.address, Tenant: h.id.Tenant, Environment: h.id.Environment,
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestT5_CertificateIsRenewedWhenItIsTime(t *testing.T) {
	const day = 24 * time.Hour
	for name, age := range map[string]time.Duration{"beyond half life": 5 * day, "expired by a day": 8 * day, "expired by 89 days": 96 * day} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			p := h.agent(t, age)
			before := p.identity.Serial()
			ctx, cancel := context.WithCancel(t.Context())
			var wait sync.WaitGroup
			wait.Go(func() { p.renewals(ctx) })
			asked := <-h.asked
			until(t, func() bool { return p.identity.Serial() != before })
			cancel()
			wait.Wait()
			if !certs.SameKey(asked.CSR.PublicKey, asked.Chain[0].PublicKey) {
				t.Error("a renewal asked for another key")
			}
			stored, err := identity.Load(p.config.State)
			if err != nil || stored.Serial() == before || time.Until(stored.NotAfter()) < 6*day {
				t.Errorf("stored until %v, %v", stored.NotAfter(), err)
			}
		})
	}
}

func TestFreshCertificateIsLeftAlone(t *testing.T) {
	h := newHub(t)
	p := h.agent(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p.renewals(ctx)
	if len(h.asked) > 0 {
		t.Error("renewed at once")
	}
}

func TestFailedRotationKeepsTheOldKeyAndGoesOnWithTheNew(t *testing.T) {
	h := newHub(t)
	p := h.agent(t, 0)
	before := p.identity.Serial()
	h.set(time.Time{}, fault.Of("E_REVOKED").WithCause("test"))
	if _, err := p.rotateKey(t.Context()); fault.CodeOf(err) != "E_REVOKED" {
		t.Fatalf("rotateKey = %v", err)
	}
	if stored, err := identity.Load(p.config.State); err != nil || stored.Serial() != before || p.identity.Serial() != before {
		t.Fatalf("the old certificate is gone: %v", err)
	}
	first := <-h.asked
	h.set(time.Time{}, nil)
	after, err := p.rotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := <-h.asked
	if after.Serial == before || !certs.SameKey(first.CSR.PublicKey, second.CSR.PublicKey) {
		t.Error("the second try made another key, or changed nothing")
	}
	if certs.SameKey(second.CSR.PublicKey, second.Chain[0].PublicKey) {
		t.Error("the key was not rotated")
	}
}

func TestTwoRotationsAtOnce(t *testing.T) {
	h := newHub(t)
	p := h.agent(t, 0)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if _, err := p.rotateKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if stored, err := identity.Load(p.config.State); err != nil || stored.Serial() != p.identity.Serial() {
		t.Errorf("disk and memory differ: %v", err)
	}
}

// until polls a condition that another goroutine brings about.
func until(t *testing.T, is func() bool) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen in time")
		}
	}
}
