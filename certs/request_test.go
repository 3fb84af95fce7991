package certs_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"

	"ropeway/certs"
)

func ec(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csr(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func text(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestRequestsThatAreAccepted(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256 := ec(t, elliptic.P256())
	other, _ := url.Parse("spiffe://td/tenant/x/env/y/agent/z")
	names := x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a\x00b\n\u202e" + strings.Repeat("c", 4000)}, DNSNames: []string{"*.hub"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, URIs: []*url.URL{other}, EmailAddresses: []string{"a@b"},
	}
	notCA := extension(t, []int{2, 5, 29, 19}, true, struct {
		IsCA bool `asn1:"optional"`
	}{})
	for name, der := range map[string][]byte{
		"P-256":                  csr(t, p256, x509.CertificateRequest{}),
		"P-384":                  csr(t, ec(t, elliptic.P384()), x509.CertificateRequest{}),
		"Ed25519":                csr(t, ed, x509.CertificateRequest{}),
		"RSA 2048":               csr(t, weak, x509.CertificateRequest{}),
		"names are ignored":      csr(t, p256, names),
		"CA:false":               csr(t, p256, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{notCA}}),
		"0-length extended uses": csr(t, p256, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 37}, Value: []byte{0x30, 0}}}}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := certs.ParseRequest(text(der)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	p256 := ec(t, elliptic.P256())
	good := csr(t, p256, x509.CertificateRequest{})
	isCA := extension(t, []int{2, 5, 29, 19}, false, struct{ IsCA bool }{true})
	unknown := pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, input := range map[string][]byte{
		"empty":              nil,
		"not PEM":            good,
		"cut":                text(good)[:len(text(good))/2],
		"a certificate":      bytes.ReplaceAll(text(good), []byte("CERTIFICATE REQUEST"), []byte("CERTIFICATE")),
		"two":                append(text(good), text(good)...),
		"something before":   append([]byte("x\n"), text(good)...),
		"something behind":   append(text(good), 'x'),
		"PEM headers":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Headers: map[string]string{"a": "b"}, Bytes: good}),
		"too long":           append(text(good), bytes.Repeat([]byte{'\n'}, certs.MaxRequest)...),
		"broken signature":   text(flipped),
		"P-224":              text(csr(t, ec(t, elliptic.P224()), x509.CertificateRequest{})),
		"P-521":              text(csr(t, ec(t, elliptic.P521()), x509.CertificateRequest{})),
		"RSA 1024":           text(csr(t, rsaKey(t, 1024), x509.CertificateRequest{})),
		"CA:true":            text(csr(t, p256, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{isCA}})),
		"unreadable CA":      text(csr(t, p256, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: isCA.Id, Value: []byte{1}}}})),
		"unknown critical":   text(csr(t, p256, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{unknown}})),
		"trailing DER":       text(append(bytes.Clone(good), 0)),
		"somebody else's":    text(swapKey(t, good, p256, ec(t, elliptic.P256()))),
		"empty DER":          text(nil),
		"a signature of 0 B": text(good[:len(good)-72]),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := certs.ParseRequest(input); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// A key of 16384 bits must be refused before anything is computed with it.
func TestHugeRSAKeyIsRefusedByItsSize(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 16383)
	request := &x509.CertificateRequest{PublicKey: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}}
	if err := certs.CheckRequest(request); err == nil || !strings.Contains(err.Error(), "16384 bits") {
		t.Errorf("CheckRequest = %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(text(csr(f, ec(f, elliptic.P256()), x509.CertificateRequest{DNSNames: []string{"x"}})))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if request, err := certs.ParseRequest(input); err == nil && certs.CheckRequest(request) != nil {
			t.Error("accepted once, refused once")
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	key, err := certs.EncodeKey(ec(f, elliptic.P256()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key)
	f.Add(append(key, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"...))
	f.Fuzz(func(t *testing.T, input []byte) {
		key, chain, err := certs.ParseBundle(input)
		if err == nil && key != nil && len(chain) > 0 && !certs.SameKey(key.Public(), chain[0].PublicKey) {
			t.Error("key and certificate differ")
		}
	})
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0") // the standard library would refuse to make it
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func extension(t testing.TB, id asn1.ObjectIdentifier, critical bool, value any) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: id, Critical: critical, Value: der}
}

// swapKey puts another public key into a signed request.
func swapKey(t testing.TB, der []byte, from, to crypto.Signer) []byte {
	t.Helper()
	old, err := x509.MarshalPKIXPublicKey(from.Public())
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKIXPublicKey(to.Public())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Replace(der, old, other, 1)
}
