package certs

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxChain bounds what a peer may send: leaf, intermediate, root and one spare.
const maxChain = 4

// VerifyAgent checks that sent (leaf first) is an agent certificate of the trust
// domain at the given moment: chain to the roots, client use only, no authority,
// and the tenant of the intermediate equal to the tenant of the leaf. Name
// constraints are set by the authority but never relied on here.
func VerifyAgent(sent []*x509.Certificate, roots *x509.CertPool, trustDomain string, at time.Time) (Identity, error) {
	chains, err := verifyChain(sent, roots, x509.ExtKeyUsageClientAuth, at)
	if err != nil {
		return Identity{}, err
	}
	leaf := sent[0]
	if err := onlyUse(leaf, x509.ExtKeyUsageClientAuth); err != nil {
		return Identity{}, err
	}
	id, err := ParseIdentity(leaf)
	if err != nil {
		return Identity{}, err
	}
	if id.TrustDomain != trustDomain {
		return Identity{}, fmt.Errorf("certificate is of trust domain %.100q, not %q", id.TrustDomain, trustDomain)
	}
	want := TenantURI(trustDomain, id.Tenant).String()
	for _, chain := range chains {
		if signer, err := onlyURI(chain[1]); err == nil && len(chain) == 3 && signer.String() == want {
			return id, nil
		}
	}
	return Identity{}, fmt.Errorf("certificate of %s is not signed by the authority of its tenant", id)
}

// VerifyHub checks that sent (leaf first) is a hub certificate of the trust
// domain and returns the name of the replica. Host names play no part: an agent
// may reach its hub by any name, and only the hub's root can sign this identity.
func VerifyHub(sent []*x509.Certificate, roots *x509.CertPool, trustDomain string, at time.Time) (string, error) {
	chains, err := verifyChain(sent, roots, x509.ExtKeyUsageServerAuth, at)
	if err != nil {
		return "", err
	}
	if len(chains[0]) != 2 {
		return "", errors.New("hub certificate is not signed by the root itself")
	}
	u, err := spiffeURI(sent[0])
	if err != nil {
		return "", err
	}
	name, isHub := strings.CutPrefix(u.Path, "/hub/")
	if !isHub || name == "" || strings.Contains(name, "/") || u.Host != trustDomain {
		return "", fmt.Errorf("certificate names %.200q, not a hub of trust domain %q", u, trustDomain)
	}
	return name, nil
}

func verifyChain(sent []*x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage, at time.Time) ([][]*x509.Certificate, error) {
	if len(sent) == 0 {
		return nil, errors.New("no certificate was sent")
	}
	if len(sent) > maxChain {
		return nil, fmt.Errorf("a chain of %d certificates was sent, at most %d are read", len(sent), maxChain)
	}
	if roots == nil {
		return nil, errors.New("no root certificate to verify against")
	}
	if sent[0].IsCA {
		return nil, errors.New("an authority's certificate was sent as a leaf")
	}
	between := x509.NewCertPool()
	for _, cert := range sent[1:] {
		between.AddCert(cert)
	}
	opt := x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}}
	chains, err := sent[0].Verify(opt)
	if err != nil {
		return nil, fmt.Errorf("verify certificate: %w", err)
	}
	return chains, nil
}

func onlyUse(cert *x509.Certificate, use x509.ExtKeyUsage) error {
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != use || len(cert.UnknownExtKeyUsage) > 0 {
		return errors.New("certificate allows other uses than its own")
	}
	return nil
}

// Pin is the SHA-256 of a certificate's public key (SubjectPublicKeyInfo), in hex.
// Tokens carry the pin of the hub's root.
func Pin(cert *x509.Certificate) string {
	sum := PublicKeyHash(cert)
	return hex.EncodeToString(sum[:])
}

// PublicKeyHash is the SHA-256 of a certificate's SubjectPublicKeyInfo. Keys are
// known and revoked by it: unlike a fingerprint it does not change when a
// signature is encoded anew.
func PublicKeyHash(cert *x509.Certificate) [32]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// PinnedRoot finds the authority with the given pin among the certificates a hub
// sent, checks that the hub's leaf chains to it, and returns it.
func PinnedRoot(sent []*x509.Certificate, pin string, at time.Time) (*x509.Certificate, error) {
	if len(sent) > maxChain {
		return nil, fmt.Errorf("a chain of %d certificates was sent, at most %d are read", len(sent), maxChain)
	}
	for _, cert := range sent {
		if subtle.ConstantTimeCompare([]byte(Pin(cert)), []byte(strings.ToLower(pin))) != 1 {
			continue
		}
		domain, err := TrustDomain(cert)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		if _, err := VerifyHub(sent, pool, domain, at); err != nil {
			return nil, err
		}
		return cert, nil
	}
	return nil, ErrPin
}

// ErrPin says that no certificate the hub sent has the pinned key.
var ErrPin = errors.New("the hub's certificate does not have the pinned key")
