package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// writeCertificate makes an authority and the server's certificate.
func (p *PG) writeCertificate(a account) error {
	c, err := newCertificate()
	if err != nil {
		return err
	}
	p.CA = c.ca
	return errors.Join(
		a.writeFile(p.file("ca.pem"), c.ca),
		a.writeFile(p.file("server.pem"), c.leaf),
		a.writeFile(p.file("server.key"), c.key))
}

// certificate is what a server on loopback shows, and the authority of it, as PEM.
type certificate struct{ ca, leaf, key string }

func newCertificate() (c certificate, err error) {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leafKey, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return c, err
	}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(leafKey)
	return certificate{
		ca: pemText("CERTIFICATE", caDER), leaf: pemText("CERTIFICATE", leafDER), key: pemText("PRIVATE KEY", keyDER),
	}, errors.Join(err1, err2, err3)
}

func (p *PG) readCA() error {
	b, err := os.ReadFile(p.file("ca.pem"))
	p.CA = string(b)
	return err
}

func (p *PG) tlsSettings() []string {
	return []string{"ssl=on", "ssl_cert_file=" + p.file("server.pem"),
		"ssl_key_file=" + p.file("server.key")}
}

func (p *PG) file(name string) string { return filepath.Join(p.Dir, name) }

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
