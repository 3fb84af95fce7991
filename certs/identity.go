// Package certs owns the words of Ropeway's own public key infrastructure: the
// SPIFFE identities in certificates, the rules for certificate requests, and the
// tls.Config of each side of the tunnel and of enrollment. It knows neither how
// certificates are issued (certs/ca) nor who may have one (certs/enroll).
package certs

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"

	"ropeway/protocol/page"
)

// Lifetimes of certificates. Every certificate starts Backdate before it is
// issued, so that a machine whose clock is a day late can use it.
const (
	AgentLife = 7 * 24 * time.Hour
	HubLife   = 90 * 24 * time.Hour
	Backdate  = 24 * time.Hour
	// RenewalGrace is how long after its expiry an unrevoked certificate may
	// still ask for a new one, with the same key only.
	RenewalGrace = 90 * 24 * time.Hour
)

const spiffe = "spiffe"

// An Identity says which agent a certificate speaks for. It comes only from a
// verified certificate, never from anything the peer says about itself.
type Identity struct {
	TrustDomain string
	Tenant      page.ID
	Environment page.ID
	Agent       page.ID
}

// URI is spiffe://<trust domain>/tenant/T/env/E/agent/A.
func (i Identity) URI() *url.URL {
	path := "/tenant/" + i.Tenant.String() + "/env/" + i.Environment.String() + "/agent/" + i.Agent.String()
	return &url.URL{Scheme: spiffe, Host: i.TrustDomain, Path: path}
}

// String is the text of URI.
func (i Identity) String() string { return i.URI().String() }

// ParseIdentity reads the agent identity of a leaf certificate. The certificate
// must hold exactly one name, a canonical agent URI; the subject is ignored.
func ParseIdentity(cert *x509.Certificate) (Identity, error) {
	u, err := onlyURI(cert)
	if err != nil {
		return Identity{}, err
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) != 6 || parts[0] != "tenant" || parts[2] != "env" || parts[4] != "agent" {
		return Identity{}, fmt.Errorf("certificate names %.200q, not an agent", u)
	}
	id := Identity{TrustDomain: u.Host}
	for _, field := range []struct {
		to   *page.ID
		text string
	}{{&id.Tenant, parts[1]}, {&id.Environment, parts[3]}, {&id.Agent, parts[5]}} {
		if *field.to, err = page.ParseID(field.text); err != nil {
			return Identity{}, fmt.Errorf("certificate names %.200q: %w", u, err)
		}
	}
	if id.URI().String() != u.String() {
		return Identity{}, fmt.Errorf("certificate names %.200q, which is not canonical", u)
	}
	return id, nil
}

// HubURI is the identity of a hub replica: spiffe://<trust domain>/hub/NAME.
func HubURI(trustDomain, name string) *url.URL {
	return &url.URL{Scheme: spiffe, Host: trustDomain, Path: "/hub/" + name}
}

// TenantURI is the identity of a tenant's intermediate authority.
func TenantURI(trustDomain string, tenant page.ID) *url.URL {
	return &url.URL{Scheme: spiffe, Host: trustDomain, Path: "/tenant/" + tenant.String()}
}

// RootURI is the identity of the hub's root authority; its host is the trust domain.
func RootURI(trustDomain string) *url.URL { return &url.URL{Scheme: spiffe, Host: trustDomain} }

// TrustDomain reads the trust domain from a root certificate.
func TrustDomain(root *x509.Certificate) (string, error) {
	u, err := onlyURI(root)
	if err != nil {
		return "", err
	}
	if u.Path != "" || !root.IsCA {
		return "", fmt.Errorf("certificate names %.200q, not a root authority", u)
	}
	return u.Host, nil
}

// onlyURI returns the single SPIFFE URI of a certificate that holds no other name.
func onlyURI(cert *x509.Certificate) (*url.URL, error) {
	if len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) > 0 {
		return nil, fmt.Errorf("certificate holds names beside its SPIFFE URI")
	}
	return spiffeURI(cert)
}

func spiffeURI(cert *x509.Certificate) (*url.URL, error) {
	if len(cert.URIs) != 1 {
		return nil, fmt.Errorf("certificate holds %d URIs, want one SPIFFE URI", len(cert.URIs))
	}
	u := cert.URIs[0]
	plain := &url.URL{Scheme: spiffe, Host: u.Host, Path: u.Path}
	if u.Host == "" || u.Port() != "" || plain.String() != u.String() {
		return nil, fmt.Errorf("certificate names %.200q, not a plain SPIFFE URI", u)
	}
	return u, nil
}
