package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"ropeway/certs"
	"ropeway/protocol/page"
)

func rootTemplate(domain string, now time.Time) *x509.Certificate {
	return authority("Ropeway root", certs.RootURI(domain), now, rootLife)
}

// tenantTemplate makes an intermediate that can sign leaves for clients of its
// trust domain only. The tenant itself cannot be put into a name constraint:
// certs.VerifyAgent compares it.
func tenantTemplate(domain string, tenant page.ID, now time.Time) *x509.Certificate {
	t := authority("Ropeway tenant "+tenant.String(), certs.TenantURI(domain, tenant), now, intermediateLife)
	t.MaxPathLenZero = true
	t.MaxPathLen = 0
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	t.PermittedDNSDomainsCritical = true
	t.PermittedURIDomains = []string{domain}
	t.PermittedDNSDomains = []string{domain}
	return t
}

func authority(name string, uri *url.URL, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		URIs:                  []*url.URL{uri},
		NotBefore:             now.Add(-certs.Backdate),
		NotAfter:              now.Add(life),
		IsCA:                  true,
		MaxPathLen:            1,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func agentTemplate(id certs.Identity, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Ropeway agent " + id.Agent.String()},
		URIs:                  []*url.URL{id.URI()},
		NotBefore:             now.Add(-certs.Backdate),
		NotAfter:              now.Add(certs.AgentLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// hubTemplate allows client use too: replicas speak to each other with it.
func hubTemplate(domain string, sans []string, now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Ropeway hub"},
		URIs:                  []*url.URL{certs.HubURI(domain, "main")},
		NotBefore:             now.Add(-certs.Backdate),
		NotAfter:              now.Add(certs.HubLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, san := range sans {
		if err := addName(t, san); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// addName adds one host name or address. An address that means "every interface"
// stands for the names of this machine.
func addName(t *x509.Certificate, san string) error {
	host := san
	if h, _, err := net.SplitHostPort(san); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		t.IPAddresses = append(t.IPAddresses, ip)
		return nil
	} else if ip != nil || host == "" {
		return addMachine(t)
	}
	if strings.ContainsAny(host, "*/\\@ :\x00") || len(host) > 253 {
		return fmt.Errorf("hub name %.100q is neither a host name nor an address", san)
	}
	t.DNSNames = appendNew(t.DNSNames, strings.ToLower(host))
	return nil
}

// addMachine adds the names and addresses by which this machine is reached.
func addMachine(t *x509.Certificate) error {
	t.DNSNames = appendNew(t.DNSNames, "localhost")
	if name, err := os.Hostname(); err == nil && name != "" {
		t.DNSNames = appendNew(t.DNSNames, strings.ToLower(name))
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses of this machine: %w", err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLinkLocalUnicast() {
			t.IPAddresses = append(t.IPAddresses, network.IP)
		}
	}
	return nil
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// sign gives the template a random serial and the key's id, and signs it.
func sign(template *x509.Certificate, by pair, public crypto.PublicKey) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails since Go 1.24
	serial[0] &= 0x7f        // positive
	serial[0] |= 0x40        // of full length
	template.SerialNumber = new(big.Int).SetBytes(serial)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	id := sha256.Sum256(spki)
	template.SubjectKeyId = id[:20]
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, public, by.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}
