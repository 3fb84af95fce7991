package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// EncodeChain writes certificates as PEM text in the given order.
func EncodeChain(chain ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range chain {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}) // a Buffer never fails
	}
	return out.Bytes()
}

// ParseChain reads 1 to 4 certificates from PEM text; other blocks are refused.
func ParseChain(text []byte) ([]*x509.Certificate, error) {
	key, chain, err := ParseBundle(text)
	switch {
	case err != nil:
		return nil, err
	case key != nil:
		return nil, errors.New("a private key stands among the certificates")
	case len(chain) == 0:
		return nil, errors.New("no certificate in PEM text")
	}
	return chain, nil
}

// EncodeKey writes a private key as PEM text (PKCS #8).
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseBundle reads PEM text that holds at most one private key (PKCS #8) and up
// to 4 certificates. The key, when there, belongs to the first certificate.
func ParseBundle(text []byte) (crypto.Signer, []*x509.Certificate, error) {
	var key crypto.Signer
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		switch {
		case block.Type == "CERTIFICATE" && len(chain) < maxChain:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("parse certificate: %w", err)
			}
			chain = append(chain, cert)
		case block.Type == "PRIVATE KEY" && key == nil:
			var err error
			if key, err = parseKey(block.Bytes); err != nil {
				return nil, nil, err
			}
		default:
			return nil, nil, fmt.Errorf("unexpected PEM block %.40q", block.Type)
		}
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, nil, errors.New("text that is not PEM")
	}
	if key != nil && len(chain) > 0 && !SameKey(key.Public(), chain[0].PublicKey) {
		return nil, nil, errors.New("private key and certificate do not belong together")
	}
	return key, chain, nil
}

// SameKey tells whether two public keys are equal.
func SameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("parse private key: not PKCS #8") // the cause might quote the key
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key of type %T cannot sign", key)
	}
	return signer, nil
}
