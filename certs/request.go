package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxRequest bounds the text of a certificate request.
const MaxRequest = 16 << 10

var (
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// NewRequest makes the text of a certificate request for key. It names nothing:
// the hub decides who the key speaks for.
func NewRequest(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseRequest reads the text of exactly one certificate request and checks it
// with CheckRequest.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > MaxRequest {
		return nil, fmt.Errorf("certificate request has %d bytes, at most %d are read", len(text), MaxRequest)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(block.Headers) > 0 {
		return nil, errors.New("certificate request is not PEM text of type CERTIFICATE REQUEST")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("-----BEGIN CERTIFICATE REQUEST-----")) || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("certificate request has something beside it; send exactly one")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	return csr, CheckRequest(csr)
}

// CheckRequest accepts a request whose key is P-256, P-384, Ed25519 or RSA of
// 2048 to 4096 bits, which is signed by that key, and which does not ask to be an
// authority. Names in it are ignored, whatever they say.
func CheckRequest(csr *x509.CertificateRequest) error {
	if err := checkKey(csr.PublicKey); err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return fmt.Errorf("certificate request is not signed by its own key: %w", err)
	}
	for _, ext := range csr.Extensions {
		switch {
		case ext.Id.Equal(oidBasicConstraints):
			if asksAuthority(ext.Value) {
				return errors.New("certificate request asks to be an authority")
			}
		case ext.Id.Equal(oidKeyUsage), ext.Id.Equal(oidExtKeyUsage), ext.Id.Equal(oidSubjectAltName):
		case ext.Critical:
			return fmt.Errorf("certificate request holds an unknown critical extension %s", ext.Id)
		}
	}
	return nil
}

func checkKey(key any) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return errors.New("key is on another curve than P-256 or P-384")
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 4096 {
			return fmt.Errorf("RSA key has %d bits, want 2048 to 4096", bits)
		}
		return nil
	}
	return fmt.Errorf("key of type %T is not accepted", key)
}

// asksAuthority reads BasicConstraints; what cannot be read asks for too much.
func asksAuthority(der []byte) bool {
	var constraints struct {
		IsCA       bool `asn1:"optional"`
		MaxPathLen int  `asn1:"optional,default:-1"`
	}
	rest, err := asn1.Unmarshal(der, &constraints)
	return err != nil || len(rest) > 0 || constraints.IsCA
}
