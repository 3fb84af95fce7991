package quic_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel/quic"
)

// site is an authority with one hub and one agent of it.
type site struct {
	authority *ca.Authority
	id        certs.Identity
	agent     tls.Certificate
	revoked   error
}

func newSite(t *testing.T) *site {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authority, err := ca.Open(t.TempDir(), time.Now)
	must(err)
	s := &site{authority: authority, id: certs.Identity{TrustDomain: authority.TrustDomain(),
		Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	text, err := certs.NewRequest(key)
	must(err)
	csr, err := certs.ParseRequest(text)
	must(err)
	chain, err := authority.SignAgent(s.id, csr)
	must(err)
	parsed, err := certs.ParseChain(chain)
	must(err)
	s.agent.PrivateKey = key
	for _, c := range parsed {
		s.agent.Certificate = append(s.agent.Certificate, c.Raw)
	}
	return s
}

func (s *site) listen(t *testing.T) *quic.Listener {
	t.Helper()
	cert, err := s.authority.HubCertificate([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	show := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	return listen(t, certs.HubTunnelTLS(show, s.authority.Roots(), s.authority.TrustDomain(),
		func(_ *x509.Certificate, id certs.Identity) error {
			if id != s.id {
				return errors.New("another agent")
			}
			return s.revoked
		}), quic.Options{})
}

func (s *site) agentTLS() *tls.Config {
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &s.agent, nil }
	return certs.AgentTLS(show, s.authority.Roots(), s.authority.TrustDomain())
}

func TestDial_HubAndAgentKnowEachOther(t *testing.T) {
	s := newSite(t)
	l := s.listen(t)
	a, b := meet(t, l.Addr().String(), l, s.agentTLS(), quic.Options{})
	echoes(t, a, b)
	if id, err := certs.PeerIdentity(b.Info().TLS); err != nil || id != s.id {
		t.Errorf("the hub sees %v, %v", id, err)
	}
	other := newSite(t)
	if _, err := quic.Dial(t.Context(), l.Addr().String(), other.agentTLS(), quic.Options{}); err == nil {
		t.Error("an agent took the hub of another authority for its own")
	}
}

func TestListen_RevokedAgentIsRefusedInTheHandshake(t *testing.T) {
	s := newSite(t)
	s.revoked = errors.New("the agent is revoked")
	l := s.listen(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	accepted := make(chan error, 1)
	go func() { _, err := l.Accept(ctx); accepted <- err }()
	session, err := quic.Dial(ctx, l.Addr().String(), s.agentTLS(), quic.Options{})
	if err == nil {
		defer session.Close()
		<-session.Done()
		err = session.Err()
	}
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("the agent hears %v, want what TLS over TCP says", err)
	}
	cancel()
	if err := <-accepted; err == nil {
		t.Error("the hub took the session")
	}
}
