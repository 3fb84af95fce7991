package enroll

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"ropeway/certs"
	"ropeway/protocol/fault"
)

// exchangeTime bounds one enrollment or renewal as seen by the agent.
const exchangeTime = 45 * time.Second

// Dial opens a connection to the hub, perhaps through a proxy.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// A Request is what an agent needs to enroll. Repeating it with the same key
// after a lost answer gives a certificate again.
type Request struct {
	Token    Token
	Hub      string // where to dial, "" = Token.Hub; the pin of the token holds anyway
	Key      crypto.Signer
	Name     string // "" lets the hub choose
	Hostname string
	Software string

	// Certificate of this agent when it was enrolled at this hub before, expired or
	// not: with it, and the same key, it stays the same agent. Nil otherwise.
	Certificate *tls.Certificate
}

// Enroll trades the token for a certificate. The hub proves that it has the
// pinned root before the token is sent, and what it answers is checked against
// that root and the key before it is returned.
func Enroll(ctx context.Context, dial Dial, r Request) (Grant, error) {
	hub := r.Hub
	if hub == "" {
		hub = r.Token.Hub
	}
	csr, err := certs.NewRequest(r.Key)
	if err != nil {
		return Grant{}, err
	}
	q := question{
		Version: wireVersion, Kind: kindEnroll, Secret: r.Token.Secret[:], CSR: string(csr),
		Name: r.Name, Hostname: r.Hostname, Software: r.Software,
	}
	var show certs.ClientCertificate
	if r.Certificate != nil {
		show = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.Certificate, nil }
	}
	grant, err := exchange(ctx, dial, hub, certs.AgentEnrollTLS(r.Token.Pin, show), q)
	if errors.Is(err, certs.ErrPin) {
		return Grant{}, foreignHub(hub, err)
	}
	if err != nil {
		return Grant{}, err
	}
	_, err = grant.Check(r.Token.Pin, r.Key.Public(), time.Now())
	return grant, err
}

// A RenewRequest asks for the next certificate of an agent. Key is the current
// key or, while Certificate is valid, a new one.
type RenewRequest struct {
	Hub         string
	Pin         string // of the root the agent trusts
	Certificate tls.Certificate
	Key         crypto.Signer
	Software    string
}

// Renew trades the current certificate for the next one. It works for
// certs.RenewalGrace after the expiry too, with the same key.
func Renew(ctx context.Context, dial Dial, r RenewRequest) (Grant, error) {
	csr, err := certs.NewRequest(r.Key)
	if err != nil {
		return Grant{}, err
	}
	cert := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &r.Certificate, nil }
	q := question{Version: wireVersion, Kind: kindRenew, CSR: string(csr), Software: r.Software}
	grant, err := exchange(ctx, dial, r.Hub, certs.AgentEnrollTLS(r.Pin, cert), q)
	if errors.Is(err, certs.ErrPin) {
		return Grant{}, changedHub(r.Hub, err)
	}
	if err != nil {
		return Grant{}, err
	}
	_, err = grant.Check(r.Pin, r.Key.Public(), time.Now())
	return grant, err
}

// Check verifies a grant against the pin of the root and the key it was asked
// for, and returns the identity in it. The moment is what the certificate must be
// valid at.
func (g Grant) Check(pin string, key crypto.PublicKey, at time.Time) (certs.Identity, error) {
	root, err := certs.ParseChain([]byte(g.RootPEM))
	if err != nil {
		return certs.Identity{}, badGrant(err)
	}
	chain, err := certs.ParseChain([]byte(g.ChainPEM))
	if err != nil {
		return certs.Identity{}, badGrant(err)
	}
	if len(root) != 1 || certs.Pin(root[0]) != pin {
		return certs.Identity{}, badGrant(certs.ErrPin)
	}
	domain, err := certs.TrustDomain(root[0])
	if err != nil {
		return certs.Identity{}, badGrant(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root[0])
	id, err := certs.VerifyAgent(chain, pool, domain, at)
	switch {
	case err != nil:
		return certs.Identity{}, badGrant(err)
	case !certs.SameKey(key, chain[0].PublicKey):
		return certs.Identity{}, badGrant(errors.New("certificate is for another key"))
	case id.Agent != g.Agent || id.Tenant != g.Tenant || id.Environment != g.Environment:
		return certs.Identity{}, badGrant(errors.New("certificate names another agent than the answer"))
	}
	return id, nil
}

func exchange(ctx context.Context, dial Dial, hub string, cfg *tls.Config, q question) (Grant, error) {
	address, err := Address(hub)
	if err != nil {
		return Grant{}, badHub(err)
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return Grant{}, unreachable(address, err)
	}
	cfg.ServerName, _, _ = net.SplitHostPort(address)
	conn := tls.Client(raw, cfg)
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return Grant{}, handshakeFailed(address, err)
	}
	if err := writeMessage(conn, q, maxQuestion); err != nil {
		return Grant{}, unreachable(address, err)
	}
	var a answer
	if err := readMessage(conn, &a, maxAnswer); err != nil {
		return Grant{}, unreachable(address, fmt.Errorf("no answer: %w", err))
	}
	return a.outcome()
}

func (a answer) outcome() (Grant, error) {
	switch {
	case a.Fault != nil && a.Grant == nil:
		return Grant{}, a.Fault
	case a.Grant != nil && a.Fault == nil:
		return *a.Grant, nil
	}
	return Grant{}, fault.From(errors.New("hub answered neither a grant nor a fault"))
}
