// Package ca is the hub's certificate authority: a root made at the first start
// with a random trust domain, one intermediate per tenant, and the certificates
// of agents and of the hub itself. It decides what a certificate says and how
// long it lives; who may have one is for its callers.
package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ropeway/certs"
	"ropeway/protocol/page"
)

// Lifetimes of authorities. An intermediate is replaced by a new one when less
// than intermediateRest is left; certificates it signed carry it and stay valid.
const (
	rootLife         = 30 * 365 * 24 * time.Hour
	intermediateLife = 10 * 365 * 24 * time.Hour
	intermediateRest = 365 * 24 * time.Hour
)

// An Authority signs with keys kept as files (0600) under one directory. It is
// safe for concurrent use by one process.
type Authority struct {
	dir    string
	clock  func() time.Time
	domain string
	root   pair

	mu      sync.Mutex // guards tenants and the making of their files
	tenants map[page.ID]pair
}

// pair is a certificate with its private key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Open loads the authority under dir, or makes one with a new random trust domain
// when dir holds none. A nil clock means time.Now.
func Open(dir string, clock func() time.Time) (*Authority, error) {
	if clock == nil {
		clock = time.Now
	}
	a := &Authority{dir: dir, clock: clock, tenants: map[page.ID]pair{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make authority directory: %w", err)
	}
	root, err := readPair(a.rootFile())
	if errors.Is(err, os.ErrNotExist) {
		root, err = a.makeRoot()
	}
	if err != nil {
		return nil, fmt.Errorf("open authority %s: %w", dir, err)
	}
	if a.domain, err = certs.TrustDomain(root.cert); err != nil {
		return nil, fmt.Errorf("open authority %s: %w", dir, err)
	}
	a.root = root
	return a, nil
}

// TrustDomain is the random name this authority got at its first start.
func (a *Authority) TrustDomain() string { return a.domain }

// RootPEM is the root certificate as PEM text, for ca.pem and for agents.
func (a *Authority) RootPEM() []byte { return certs.EncodeChain(a.root.cert) }

// Pin is the SHA-256 of the root's public key in hex, as tokens carry it.
func (a *Authority) Pin() string { return certs.Pin(a.root.cert) }

// Roots is a new pool that holds the root certificate only.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root.cert)
	return pool
}

// SignAgent issues a certificate for id to the key of csr and returns it with the
// tenant's intermediate as PEM text. Nothing else of csr is used; a csr that
// breaks the rules of certs.CheckRequest is refused.
func (a *Authority) SignAgent(id certs.Identity, csr *x509.CertificateRequest) ([]byte, error) {
	if err := certs.CheckRequest(csr); err != nil {
		return nil, err
	}
	if id.TrustDomain != a.domain {
		return nil, fmt.Errorf("sign agent of trust domain %.100q: this authority is %q", id.TrustDomain, a.domain)
	}
	if id.Tenant.IsZero() || id.Environment.IsZero() || id.Agent.IsZero() {
		return nil, errors.New("sign agent: an id is missing")
	}
	signer, err := a.tenant(id.Tenant)
	if err != nil {
		return nil, err
	}
	cert, err := sign(agentTemplate(id, a.clock()), signer, csr.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("sign agent: %w", err)
	}
	return certs.EncodeChain(cert, signer.cert), nil
}

// HubCertificate issues a new certificate with a new key for a hub that listens
// under the given host names and addresses (ports are cut off). Its chain ends
// with the root, which is what pins are compared with.
func (a *Authority) HubCertificate(sans []string) (tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	template, err := hubTemplate(a.domain, sans, a.clock())
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := sign(template, a.root, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign hub certificate: %w", err)
	}
	chain := [][]byte{cert.Raw, a.root.cert.Raw}
	return tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: cert}, nil
}

// HubCertificates issues the first hub certificate and returns a source for
// tls.Config.GetCertificate that issues the next one at half life.
func (a *Authority) HubCertificates(sans []string) (certs.ServerCertificate, error) {
	current, err := a.HubCertificate(sans)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if current.Leaf.NotAfter.Sub(a.clock()) < certs.HubLife/2 {
			next, err := a.HubCertificate(sans)
			if err != nil {
				return nil, err
			}
			current = next
		}
		cert := current
		return &cert, nil
	}, nil
}

// tenant returns the intermediate of a tenant, making it when there is none or
// when its end is near.
func (a *Authority) tenant(id page.ID) (pair, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, known := a.tenants[id]
	if !known {
		var err error
		if p, err = readPair(a.tenantFile(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return pair{}, fmt.Errorf("load authority of tenant %s: %w", id, err)
		}
	}
	if p.cert == nil || p.cert.NotAfter.Sub(a.clock()) < intermediateRest {
		var err error
		if p, err = a.makeTenant(id); err != nil {
			return pair{}, fmt.Errorf("make authority of tenant %s: %w", id, err)
		}
	}
	a.tenants[id] = p
	return p, nil
}

func (a *Authority) rootFile() string { return filepath.Join(a.dir, "root.pem") }

func (a *Authority) tenantFile(id page.ID) string {
	return filepath.Join(a.dir, "tenant-"+id.String()+".pem")
}

func (a *Authority) makeRoot() (pair, error) {
	domain := make([]byte, 16)
	_, _ = rand.Read(domain) // never fails since Go 1.24
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(domain))
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	template := rootTemplate(text+".ropeway", a.clock())
	cert, err := sign(template, pair{template, key}, key.Public())
	if err != nil {
		return pair{}, err
	}
	root := pair{cert, key}
	return root, writePair(a.rootFile(), root)
}

func (a *Authority) makeTenant(id page.ID) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	cert, err := sign(tenantTemplate(a.domain, id, a.clock()), a.root, key.Public())
	if err != nil {
		return pair{}, err
	}
	p := pair{cert, key}
	return p, writePair(a.tenantFile(id), p)
}
