package hub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ropeway/certs"
	"ropeway/certs/ca"
	wire "ropeway/certs/enroll"
	"ropeway/protocol/page"
)

// pki is the authority of a running hub with all its keys, as the worst insider
// has it, and one agent that is enrolled.
type pki struct {
	running
	t          *testing.T
	authority  *ca.Authority
	rootKey    crypto.Signer
	root       *x509.Certificate
	tenantKey  crypto.Signer
	tenant     *x509.Certificate
	agentKey   crypto.Signer
	agentChain []*x509.Certificate
	id         certs.Identity
	grant      wire.Grant
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{running: start(t, t.TempDir()), t: t}
	p.agentKey = newKey(t)
	p.grant = p.enroll(p.agentKey, p.enrollToken("plant"))
	var err error
	if p.agentChain, err = certs.ParseChain([]byte(p.grant.ChainPEM)); err != nil {
		t.Fatal(err)
	}
	if p.id, err = certs.ParseIdentity(p.agentChain[0]); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(p.config.Data, "ca")
	if p.authority, err = ca.Open(dir, time.Now); err != nil {
		t.Fatal(err)
	}
	p.rootKey, p.root = p.pair(filepath.Join(dir, "root.pem"))
	p.tenantKey, p.tenant = p.pair(filepath.Join(dir, "tenant-"+p.id.Tenant.String()+".pem"))
	return p
}

func (p *pki) pair(path string) (crypto.Signer, *x509.Certificate) {
	p.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	key, chain, err := certs.ParseBundle(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return key, chain[0]
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enrollToken asks the API for a one-time token.
func (p *pki) enrollToken(group string) wire.Token {
	p.t.Helper()
	code, body := p.post(p.t, "/api/v1/agent-groups/"+group+"/tokens", p.token(p.t), `{}`)
	_, text, found := strings.Cut(body, `"token":"`)
	if code != 201 || !found {
		p.t.Fatalf("token: %d %s", code, body)
	}
	text, _, _ = strings.Cut(text, `"`)
	token, err := wire.ParseToken(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

func dialTCP(p *pki) wire.Dial { return (&net.Dialer{}).DialContext }

func (p *pki) enroll(key crypto.Signer, token wire.Token) wire.Grant {
	p.t.Helper()
	g, err := wire.Enroll(p.t.Context(), dialTCP(p), wire.Request{Token: token, Hub: p.url, Key: key, Hostname: "press"})
	if err != nil {
		p.t.Fatal(err)
	}
	return g
}

// leaf is what the authority would sign for the agent; change makes it odd.
func (p *pki) leaf(change func(*x509.Certificate)) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Ropeway agent"},
		URIs: []*url.URL{p.id.URI()}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(t)
	}
	return t
}

func (p *pki) sign(template, by *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by, public, key)
	if err != nil {
		p.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert
}

// odd is a leaf for the agent's key, signed by its tenant's intermediate.
func (p *pki) odd(change func(*x509.Certificate)) tls.Certificate {
	cert := p.sign(p.leaf(change), p.tenant, p.agentKey.Public(), p.tenantKey)
	return chainOf(p.agentKey, cert, p.tenant)
}

func chainOf(key crypto.Signer, list ...*x509.Certificate) tls.Certificate {
	out := tls.Certificate{PrivateKey: key}
	for _, c := range list {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

func (p *pki) good() tls.Certificate { return chainOf(p.agentKey, p.agentChain...) }

// knock dials the port and reports whether the hub takes the connection for a
// tunnel: then it speaks first.
func (p *pki) knock(change func(*tls.Config), cert ...tls.Certificate) error {
	p.t.Helper()
	cfg := &tls.Config{RootCAs: p.roots(p.t), ServerName: "localhost", NextProtos: []string{certs.ALPNTunnel},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(cert) == 0 {
				return &tls.Certificate{}, nil
			}
			return &cert[0], nil // whatever the hub would like
		}}
	if change != nil {
		change(cfg)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", strings.TrimPrefix(p.url, "https://"), cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = conn.Read(make([]byte, 1)); err != nil {
		return err
	}
	if conn.ConnectionState().NegotiatedProtocol != certs.ALPNTunnel {
		return errors.New("it speaks " + conn.ConnectionState().NegotiatedProtocol)
	}
	return nil
}

// HOSTILE §2, first row: certificates that are almost right, through the port.
func TestS1_TunnelTakesNobodyElse(t *testing.T) {
	p := newPKI(t)
	if err := p.knock(nil, p.good()); err != nil {
		t.Fatalf("the enrolled agent itself: %v", err)
	}
	if err := p.knock(nil, p.odd(nil)); err != nil {
		t.Fatalf("a certificate of the same kind, made by this test: %v", err)
	}
	foreign, err := ca.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	other := certs.Identity{TrustDomain: p.authority.TrustDomain(), Tenant: page.NewID(), Environment: p.id.Environment, Agent: p.id.Agent}
	otherLeaf := p.signedBy(p.authority, other)
	otherKey, otherTenant := p.pair(filepath.Join(p.config.Data, "ca", "tenant-"+other.Tenant.String()+".pem"))
	foreignID := p.id
	foreignID.TrustDomain = foreign.TrustDomain()
	unknown := p.id
	unknown.Agent = page.NewID()
	hubCert, err := p.authority.HubCertificate([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	uri := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.URIs = nil
			for _, text := range texts {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
		}
	}
	own := p.id.String()
	long := []*x509.Certificate{p.agentChain[0]}
	for range 60 {
		long = append(long, p.tenant)
	}
	middle := p.sign(p.leaf(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }), p.tenant,
		p.agentKey.Public(), p.tenantKey)
	for name, cert := range map[string]tls.Certificate{
		"self-signed":                   chainOf(p.agentKey, p.sign(p.leaf(nil), p.leaf(nil), p.agentKey.Public(), p.agentKey)),
		"self-signed, with our chain":   chainOf(p.agentKey, p.sign(p.leaf(nil), p.leaf(nil), p.agentKey.Public(), p.agentKey), p.tenant, p.root),
		"the tenant's authority":        chainOf(p.tenantKey, p.tenant),
		"the root":                      chainOf(p.rootKey, p.root),
		"a leaf that is an authority":   p.odd(func(c *x509.Certificate) { c.IsCA = true }),
		"a leaf under a leaf":           chainOf(p.agentKey, p.sign(p.leaf(nil), p.agentChain[0], p.agentKey.Public(), p.agentKey), p.agentChain[0], p.tenant),
		"a leaf under a made authority": chainOf(p.agentKey, p.sign(p.leaf(nil), middle, p.agentKey.Public(), p.agentKey), middle, p.tenant),
		"signed by the root itself":     chainOf(p.agentKey, p.sign(p.leaf(nil), p.root, p.agentKey.Public(), p.rootKey)),
		"the leaf alone":                chainOf(p.agentKey, p.agentChain[0]),
		"for servers":                   p.odd(use(x509.ExtKeyUsageServerAuth)),
		"for servers too":               p.odd(use(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)),
		"for anything":                  p.odd(use(x509.ExtKeyUsageAny)),
		"for nothing":                   p.odd(use()),
		"for an unknown use": p.odd(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}}
		}),
		"the hub's own":              hubCert,
		"expired":                    p.odd(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
		"not yet valid":              p.odd(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
		"another authority's":        p.signedBy(foreign, foreignID),
		"another tenant's authority": chainOf(p.agentKey, p.sign(p.leaf(nil), otherTenant, p.agentKey.Public(), otherKey), otherTenant),
		"an agent of another tenant": otherLeaf,
		"an unknown agent":           p.signedBy(p.authority, unknown),
		"two names":                  p.odd(uri(own, own)),
		"two agents":                 p.odd(uri(own, unknown.String())),
		"no name":                    p.odd(uri()),
		"a DNS name beside it":       p.odd(func(c *x509.Certificate) { c.DNSNames = []string{p.id.TrustDomain} }),
		"other case":                 p.odd(uri(strings.Replace(own, "/agent/", "/Agent/", 1))),
		"upper case id":              p.odd(uri(strings.Replace(own, p.id.Agent.String(), strings.ToUpper(p.id.Agent.String()), 1))),
		"a trailing slash":           p.odd(uri(own + "/")),
		"a query":                    p.odd(uri(own + "?x=1")),
		"a port":                     p.odd(uri(strings.Replace(own, p.id.TrustDomain, p.id.TrustDomain+":1", 1))),
		"another trust domain":       p.odd(uri(strings.Replace(own, p.id.TrustDomain, "x."+p.id.TrustDomain, 1))),
		"a hub's name":               p.odd(uri(certs.HubURI(p.id.TrustDomain, "main").String())),
		"a tenant's name":            p.odd(uri(certs.TenantURI(p.id.TrustDomain, p.id.Tenant).String())),
		"a chain of 61":              chainOf(p.agentKey, long...),
	} {
		if err := p.knock(nil, cert); err == nil {
			t.Errorf("%s: the hub took it", name)
		}
	}
	if err := p.knock(nil); err == nil {
		t.Error("no certificate: the hub took it")
	}
	if err := p.knock(nil, p.good()); err != nil {
		t.Errorf("afterwards the agent itself: %v", err)
	}
}

func use(uses ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = uses }
}

// signedBy is a certificate that an authority issues in its own way.
func (p *pki) signedBy(a *ca.Authority, id certs.Identity) tls.Certificate {
	p.t.Helper()
	text, err := certs.NewRequest(p.agentKey)
	if err != nil {
		p.t.Fatal(err)
	}
	csr, err := certs.ParseRequest(text)
	if err != nil {
		p.t.Fatal(err)
	}
	chain, err := a.SignAgent(id, csr)
	if err != nil {
		p.t.Fatal(err)
	}
	list, err := certs.ParseChain(chain)
	if err != nil {
		p.t.Fatal(err)
	}
	return chainOf(p.agentKey, list...)
}

// Whatever else a client offers, a tunnel has the tunnel's rules; older TLS and
// resumption are refused there.
func TestTunnelALPNAndResumption(t *testing.T) {
	p := newPKI(t)
	protocols := func(list ...string) func(*tls.Config) {
		return func(c *tls.Config) { c.NextProtos = list }
	}
	for name, c := range map[string]struct {
		change func(*tls.Config)
		cert   []tls.Certificate
		ok     bool
	}{
		"tunnel first, with a certificate":    {protocols(certs.ALPNTunnel, "h2"), []tls.Certificate{p.good()}, true},
		"web first, with a certificate":       {protocols("h2", "http/1.1", certs.ALPNTunnel), []tls.Certificate{p.good()}, true},
		"tunnel and enrollment":               {protocols(certs.ALPNEnroll, certs.ALPNTunnel), []tls.Certificate{p.good()}, true},
		"tunnel and web without one":          {protocols("h2", certs.ALPNTunnel), nil, false},
		"tunnel and enrollment without one":   {protocols(certs.ALPNEnroll, certs.ALPNTunnel), nil, false},
		"upper case":                          {protocols("ROPEWAY/1"), []tls.Certificate{p.good()}, false},
		"a later version":                     {protocols("ropeway/2"), []tls.Certificate{p.good()}, false},
		"TLS 1.2":                             {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, []tls.Certificate{p.good()}, false},
		"another server name":                 {func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "evil.example", true }, []tls.Certificate{p.good()}, true},
		"no server name":                      {func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "", true }, []tls.Certificate{p.good()}, true},
		"the other protocols with an agent's": {protocols("h2"), []tls.Certificate{p.good()}, false},
	} {
		if err := p.knock(c.change, c.cert...); (err == nil) != c.ok {
			t.Errorf("%s: %v, want taken %t", name, err, c.ok)
		}
	}
	cache := &tickets{ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	resume := func(c *tls.Config) { c.ClientSessionCache = cache }
	for range 2 {
		if err := p.knock(resume, p.good()); err != nil {
			t.Error(err)
		}
	}
	if cache.put != 0 {
		t.Errorf("the tunnel gave out %d session tickets", cache.put)
	}
	// A session of the web side opens no tunnel.
	web := &tls.Config{RootCAs: p.roots(t), ServerName: "localhost", NextProtos: []string{"h2"}, ClientSessionCache: cache}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), web); err != nil {
		t.Error(err)
	} else {
		_, _ = conn.Read(make([]byte, 1)) // the ticket comes before it
		conn.Close()
	}
	if err := p.knock(func(c *tls.Config) { resume(c) }); err == nil {
		t.Error("a resumed session of the web opened a tunnel without a certificate")
	}
}

// tickets counts the session tickets a client was given.
type tickets struct {
	tls.ClientSessionCache
	put int
}

// Put implements tls.ClientSessionCache.
func (c *tickets) Put(key string, s *tls.ClientSessionState) {
	c.put++
	c.ClientSessionCache.Put(key, s)
}

// Promise S4 through the port: a revoked agent's tunnel ends, and no way leads
// back: not the certificate, not one whose signature is written in another way,
// not a renewal, not the same key with a new token.
func TestS4_NoWayBackAfterARevocation(t *testing.T) {
	p := newPKI(t)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{RootCAs: p.roots(t), ServerName: "localhost",
		NextProtos: []string{certs.ALPNTunnel}, Certificates: []tls.Certificate{p.good()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	code, body := p.post(t, "/api/v1/agents/"+p.grant.AgentName+"/revoke", p.token(t), "")
	if code != 200 {
		t.Fatalf("revoke: %d %s", code, body)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for err == nil {
		_, err = conn.Read(make([]byte, 4096))
	}
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		t.Error("10 s after the revocation the session is still open")
	}
	if err := p.knock(nil, p.good()); err == nil {
		t.Error("the certificate is taken again")
	}
	if err := p.knock(nil, p.odd(nil)); err == nil {
		t.Error("another certificate of the same agent is taken")
	}
	if err := p.knock(nil, chainOf(p.agentKey, p.flipped(p.agentChain[0]), p.tenant)); err == nil {
		t.Error("the certificate with its signature written anew is taken")
	}
	for name, key := range map[string]crypto.Signer{"the same key": p.agentKey, "a new key": newKey(t)} {
		_, err := wire.Renew(t.Context(), dialTCP(p), wire.RenewRequest{Hub: p.url, Pin: p.authority.Pin(), Certificate: p.good(), Key: key})
		if err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("renewal for %s: %v", name, err)
		}
	}
	show := p.good()
	for name, r := range map[string]wire.Request{
		"the same key": {Key: p.agentKey}, "the same key and certificate": {Key: p.agentKey, Certificate: &show},
	} {
		r.Token, r.Hub, r.Hostname = p.enrollToken("plant"), p.url, "press"
		if _, err := wire.Enroll(t.Context(), dialTCP(p), r); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("enrollment with %s: %v", name, err)
		}
	}
	// A new key makes a new agent, whatever certificate comes along.
	g, err := wire.Enroll(t.Context(), dialTCP(p), wire.Request{Token: p.enrollToken("plant"), Hub: p.url, Key: newKey(t),
		Hostname: "press", Certificate: &show})
	if err != nil || g.Agent == p.grant.Agent {
		t.Errorf("enrollment with a new key: agent %v, %v", g.Agent, err)
	}
}

// flipped is the same certificate with the other of its two valid signatures
// (s and n-s): another fingerprint.
func (p *pki) flipped(cert *x509.Certificate) *x509.Certificate {
	p.t.Helper()
	var outer struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(cert.Raw, &outer); err != nil {
		p.t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Signature.Bytes, &rs); err != nil {
		p.t.Fatal(err)
	}
	rs.S.Sub(elliptic.P256().Params().N, rs.S)
	sig, err := asn1.Marshal(rs)
	if err != nil {
		p.t.Fatal(err)
	}
	outer.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	der, err := asn1.Marshal(outer)
	if err != nil {
		p.t.Fatal(err)
	}
	again, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := again.CheckSignatureFrom(p.tenant); err != nil || string(again.Raw) == string(cert.Raw) {
		p.t.Fatal("the signature was not flipped", err)
	}
	return again
}

// Promise S2 through the port and a network that swallows the answer: the same
// key gets its certificate when it asks again, another key never does.
func TestS2_LostReplyOverTheWire(t *testing.T) {
	p := newPKI(t)
	token, key := p.enrollToken("plant"), newKey(t)
	lossy := newLossy(t, strings.TrimPrefix(p.url, "https://"))
	ask := func(hub string, key crypto.Signer) (wire.Grant, error) {
		return wire.Enroll(t.Context(), dialTCP(p), wire.Request{Token: token, Hub: hub, Key: key, Hostname: "press"})
	}
	if _, err := ask("https://"+lossy, key); err == nil {
		t.Fatal("the reply was not lost")
	}
	if _, err := ask(p.url, newKey(t)); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key after the lost reply: %v", err)
	}
	first, err := ask(p.url, key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ask(p.url, key)
	if err != nil || second.Agent != first.Agent {
		t.Errorf("again: %v, %v", second.Agent, err)
	}
	results := make(chan error, 40)
	race := p.enrollToken("plant")
	for range cap(results) {
		go func() {
			_, err := wire.Enroll(t.Context(), dialTCP(p), wire.Request{Token: race, Hub: p.url, Key: newKey(t), Hostname: "press"})
			results <- err
		}()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %d keys got a certificate from one token", won, cap(results))
	}
}

// newLossy is a relay that lets the handshake pass and cuts as soon as the
// client has asked and the hub has had the time to answer.
func newLossy(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			swallow(in, to)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// swallow forwards what the client says; of the hub's words it drops the last,
// which end the connection.
func swallow(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := in.Read(b)
			if err != nil {
				return
			}
			if _, err := out.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	// The server's flight of the handshake passes, what comes after does not.
	b := make([]byte, 64<<10)
	n, err := out.Read(b)
	if err != nil {
		return
	}
	if _, err := in.Write(b[:n]); err != nil {
		return
	}
	for err == nil {
		_, err = out.Read(b)
	}
}
