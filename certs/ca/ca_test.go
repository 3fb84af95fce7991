package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/protocol/page"
)

func open(t *testing.T, dir string, clock func() time.Time) *ca.Authority {
	t.Helper()
	a, err := ca.Open(dir, clock)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T) (crypto.Signer, *x509.CertificateRequest) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
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
	return key, csr
}

func agent(a *ca.Authority) certs.Identity {
	return certs.Identity{TrustDomain: a.TrustDomain(), Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}
}

func signed(t *testing.T, a *ca.Authority, id certs.Identity) []*x509.Certificate {
	t.Helper()
	_, csr := request(t)
	text, err := a.SignAgent(id, csr)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := certs.ParseChain(text)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestTheSameAuthorityAfterARestart(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, nil)
	id := agent(first)
	chain := signed(t, first, id)
	second := open(t, dir, nil)
	if first.TrustDomain() != second.TrustDomain() || first.Pin() != second.Pin() {
		t.Fatalf("%s %s became %s %s", first.TrustDomain(), first.Pin(), second.TrustDomain(), second.Pin())
	}
	if got, err := certs.VerifyAgent(chain, second.Roots(), second.TrustDomain(), time.Now()); err != nil || got != id {
		t.Fatalf("VerifyAgent = %v, %v, want %v", got, err, id)
	}
	again := signed(t, second, id)
	if !again[1].Equal(chain[1]) {
		t.Error("the tenant got a second intermediate")
	}
	if other := open(t, t.TempDir(), nil); other.TrustDomain() == first.TrustDomain() {
		t.Error("two authorities have one trust domain")
	}
}

func TestKeyFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a := open(t, dir, nil)
	signed(t, a, agent(a))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range append(files, dir) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", file, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "root.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(dir, nil); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("Open with a world-readable key = %v", err)
	}
}

func TestAgentCertificateSaysOnlyWhatItMust(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	a := open(t, t.TempDir(), func() time.Time { return now })
	id := agent(a)
	leaf := signed(t, a, id)[0]
	if leaf.IsCA || len(leaf.URIs) != 1 || leaf.URIs[0].String() != id.String() {
		t.Errorf("CA %v, URIs %v", leaf.IsCA, leaf.URIs)
	}
	if !leaf.NotAfter.Equal(now.Add(7*24*time.Hour)) || !leaf.NotBefore.Equal(now.Add(-certs.Backdate)) {
		t.Errorf("valid from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("uses %v", leaf.ExtKeyUsage)
	}
}

func TestSignAgentRefuses(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	_, csr := request(t)
	foreign, empty := agent(a), agent(a)
	foreign.TrustDomain = "elsewhere"
	empty.Tenant = page.ID{}
	for name, id := range map[string]certs.Identity{"another trust domain": foreign, "no tenant": empty} {
		if _, err := a.SignAgent(id, csr); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	broken := *csr
	broken.Signature = append([]byte{}, csr.Signature...)
	broken.Signature[len(broken.Signature)-1] ^= 1
	if _, err := a.SignAgent(agent(a), &broken); err == nil {
		t.Error("a request with a broken signature was signed")
	}
}

func TestIntermediateIsReplacedBeforeItsEnd(t *testing.T) {
	now := time.Now()
	a := open(t, t.TempDir(), func() time.Time { return now })
	id := agent(a)
	before := signed(t, a, id)
	now = now.Add(9*365*24*time.Hour + time.Hour)
	after := signed(t, a, id)
	if after[1].Equal(before[1]) || after[1].NotAfter.Sub(now) < 9*365*24*time.Hour {
		t.Fatal("the intermediate was not replaced")
	}
	if _, err := certs.VerifyAgent(after, a.Roots(), a.TrustDomain(), now); err != nil {
		t.Error(err)
	}
}

func TestHubCertificateNames(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	cert, err := a.HubCertificate([]string{"127.0.0.1:8443", "Hub.Example:443", "[::1]:1", "hub.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "hub.example", "::1"} {
		opt := x509.VerifyOptions{Roots: a.Roots(), DNSName: name}
		if _, err := cert.Leaf.Verify(opt); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(cert.Leaf.DNSNames) != 1 {
		t.Errorf("names %v", cert.Leaf.DNSNames)
	}
	every, err := a.HubCertificate([]string{"0.0.0.0:8443"})
	if err != nil || every.Leaf.VerifyHostname("localhost") != nil || every.Leaf.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("every interface: %v %v %v", every.Leaf.DNSNames, every.Leaf.IPAddresses, err)
	}
	for _, bad := range []string{"*.example", "a b", "x/y", "a\x00b", strings.Repeat("x", 254)} {
		if _, err := a.HubCertificate([]string{bad}); err == nil {
			t.Errorf("%q became a name", bad)
		}
	}
}

func TestHubCertificateIsRenewedAtHalfLife(t *testing.T) {
	now := time.Now()
	a := open(t, t.TempDir(), func() time.Time { return now })
	source, err := a.HubCertificates([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		cert, err := source(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	now = now.Add(44 * 24 * time.Hour)
	if serial() != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * 24 * time.Hour)
	if serial() == first {
		t.Error("not renewed after half of its life")
	}
}

func TestConcurrentSigningMakesOneIntermediate(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	id := agent(a)
	_, csr := request(t)
	signers := make([]string, 16)
	var wait sync.WaitGroup
	for i := range signers {
		wait.Go(func() {
			text, err := a.SignAgent(id, csr)
			if err != nil {
				t.Error(err)
				return
			}
			chain, _ := certs.ParseChain(text)
			signers[i] = chain[1].SerialNumber.String()
		})
	}
	wait.Wait()
	for _, s := range signers {
		if s != signers[0] {
			t.Fatal("more than one intermediate")
		}
	}
}

// A tunnel handshake of every kind of client the hub must refuse. TLS 1.3 tells
// the client of a refusal with its first read.
func TestTunnelHandshake(t *testing.T) {
	now := time.Now()
	clock := now
	a := open(t, t.TempDir(), func() time.Time { return clock })
	other := open(t, t.TempDir(), nil)
	hub, err := a.HubCertificates([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	id := agent(a)
	issue := func(by *ca.Authority, at time.Time) tls.Certificate {
		clock = at
		defer func() { clock = now }()
		key, csr := request(t)
		id := id
		id.TrustDomain = by.TrustDomain()
		text, err := by.SignAgent(id, csr)
		if err != nil {
			t.Fatal(err)
		}
		return pair(t, text, key)
	}
	good := issue(a, now)
	hubCert, _ := hub(nil)
	selfKey, _ := request(t)
	agentCfg := func(cert tls.Certificate) *tls.Config {
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return certs.AgentTLS(show, a.Roots(), a.TrustDomain())
	}
	odd := func(cert tls.Certificate, change func(*tls.Config)) *tls.Config {
		cfg := agentCfg(cert)
		change(cfg)
		return cfg
	}
	for _, test := range []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"agent", agentCfg(good), true},
		{"no certificate", agentCfg(tls.Certificate{}), false},
		{"expired", agentCfg(issue(a, now.Add(-8*24*time.Hour))), false},
		{"not yet valid", agentCfg(issue(a, now.Add(2*24*time.Hour))), false},
		{"another authority", agentCfg(issue(other, now)), false},
		{"hub certificate", agentCfg(*hubCert), false},
		{"without its intermediate", agentCfg(tls.Certificate{Certificate: good.Certificate[:1], PrivateKey: good.PrivateKey}), false},
		{"intermediate as leaf", agentCfg(tls.Certificate{Certificate: good.Certificate[1:], PrivateKey: selfKey}), false},
		{"chain of 200", agentCfg(long(good, 200)), false},
		{"self-signed", agentCfg(selfSigned(t, id)), false},
		{"TLS 1.2", odd(good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), false},
		{"no ALPN", odd(good, func(c *tls.Config) { c.NextProtos = nil }), false},
		{"wrong ALPN", odd(good, func(c *tls.Config) { c.NextProtos = []string{"h2"} }), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := certs.HubTunnelTLS(hub, a.Roots(), a.TrustDomain(), nil)
			serverErr, clientErr := shake(t, server, test.client)
			if ok := serverErr == nil; ok != test.ok {
				t.Errorf("server: %v (client: %v)", serverErr, clientErr)
			}
		})
	}
	t.Run("revoked", func(t *testing.T) {
		refuse := func(cert *x509.Certificate, got certs.Identity) error {
			if got != id || cert.SerialNumber.Cmp(good.Leaf.SerialNumber) != 0 {
				t.Errorf("asked about %v", got)
			}
			return os.ErrPermission
		}
		server := certs.HubTunnelTLS(hub, a.Roots(), a.TrustDomain(), refuse)
		if err, _ := shake(t, server, agentCfg(good)); err == nil {
			t.Error("a revoked agent came in")
		}
	})
	t.Run("agent refuses another hub", func(t *testing.T) {
		foreign, _ := other.HubCertificates([]string{"localhost"})
		server := certs.HubTunnelTLS(foreign, a.Roots(), a.TrustDomain(), nil)
		if _, err := shake(t, server, agentCfg(good)); err == nil {
			t.Error("the agent trusts a foreign hub")
		}
	})
	t.Run("agent refuses an agent as hub", func(t *testing.T) {
		server := certs.HubTunnelTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &good, nil }, a.Roots(), a.TrustDomain(), nil)
		if _, err := shake(t, server, agentCfg(good)); err == nil {
			t.Error("the agent trusts an agent")
		}
	})
	t.Run("no resumption", func(t *testing.T) {
		server := certs.HubTunnelTLS(hub, a.Roots(), a.TrustDomain(), nil)
		client := agentCfg(good)
		client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		client.ServerName = "localhost"
		for range 2 {
			if err, _ := shake(t, server, client); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The name constraints of an intermediate cannot hold its tenant, so a stolen
// intermediate key must still not speak for other tenants.
func TestVerifyComparesTheTenantOfTheIntermediate(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, nil)
	mine, theirs := agent(a), agent(a)
	chain := signed(t, a, mine)
	text, err := os.ReadFile(filepath.Join(dir, "tenant-"+mine.Tenant.String()+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := certs.ParseBundle(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"another tenant":       func(c *x509.Certificate) { c.URIs = nil; c.URIs = append(c.URIs, theirs.URI()) },
		"authority":            func(c *x509.Certificate) { c.IsCA = true },
		"server use":           func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"any use":              func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"no use":               func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"a DNS name beside it": func(c *x509.Certificate) { c.DNSNames = []string{a.TrustDomain()} },
		"two URIs":             func(c *x509.Certificate) { c.URIs = append(c.URIs, theirs.URI()) },
		"hub": func(c *x509.Certificate) {
			c.URIs = nil
			c.URIs = append(c.URIs, certs.HubURI(a.TrustDomain(), "main"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			template := *chain[0]
			template.URIs = append(template.URIs[:0:0], mine.URI())
			change(&template)
			public, _ := request(t)
			der, err := x509.CreateCertificate(rand.Reader, &template, chain[1], public.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			sent := []*x509.Certificate{leaf, chain[1]}
			if id, err := certs.VerifyAgent(sent, a.Roots(), a.TrustDomain(), time.Now()); err == nil {
				t.Errorf("accepted as %v", id)
			}
			if name, err := certs.VerifyHub(sent, a.Roots(), a.TrustDomain(), time.Now()); err == nil {
				t.Errorf("accepted as hub %v", name)
			}
		})
	}
}

func pair(t *testing.T, chain []byte, key crypto.Signer) tls.Certificate {
	t.Helper()
	list, err := certs.ParseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: list[0]}
	for _, c := range list {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func long(cert tls.Certificate, n int) tls.Certificate {
	for len(cert.Certificate) < n {
		cert.Certificate = append(cert.Certificate[:len(cert.Certificate):len(cert.Certificate)], cert.Certificate[1])
	}
	return cert
}

func selfSigned(t *testing.T, id certs.Identity) tls.Certificate {
	t.Helper()
	key, csr := request(t)
	a := open(t, t.TempDir(), nil)
	id.TrustDomain = a.TrustDomain()
	text, err := a.SignAgent(id, csr)
	if err != nil {
		t.Fatal(err)
	}
	template := pair(t, text, key).Leaf
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// shake runs one handshake over loopback and one byte each way.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		if err = conn.Handshake(); err == nil {
			_, err = conn.Write([]byte{1})
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	defer conn.Close()
	if clientErr = conn.Handshake(); clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	_ = conn.Close()
	return <-done, clientErr
}
