package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// The protocols that use our own authority, chosen by ALPN on the hub's one port.
const (
	ALPNTunnel = "ropeway/1"
	ALPNEnroll = "ropeway-enroll/1"
)

// ClientCertificate gives the certificate an agent shows; it may change over time.
type ClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// ServerCertificate gives the certificate a hub shows; it may change over time.
type ServerCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Revoked returns an error when the key, the certificate or its agent is revoked,
// disabled or unknown. It must ask by public key and serial, not by fingerprint.
type Revoked = func(cert *x509.Certificate, id Identity) error

// AgentTLS is the agent's side of a tunnel: TLS 1.3, our own roots only, no
// resumption, and the hub's identity checked in VerifyConnection. A test may set
// Time on the result before it is used or cloned.
func AgentTLS(cert ClientCertificate, roots *x509.CertPool, trustDomain string) *tls.Config {
	cfg := base(ALPNTunnel)
	cfg.GetClientCertificate = cert
	// Host names do not decide who the hub is: VerifyConnection checks the whole
	// chain and the SPIFFE identity, on every connection.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := spoke(cs, ALPNTunnel); err != nil {
			return err
		}
		_, err := VerifyHub(cs.PeerCertificates, roots, trustDomain, now(cfg))
		return err
	}
	return cfg
}

// HubTunnelTLS is the hub's side of a tunnel: it requires an agent certificate,
// verifies it as VerifyAgent does, and asks revoked (which may be nil) last.
func HubTunnelTLS(cert ServerCertificate, roots *x509.CertPool, trustDomain string, revoked Revoked) *tls.Config {
	cfg := base(ALPNTunnel)
	cfg.DynamicRecordSizingDisabled = true // bulk; small first records gain nothing here
	cfg.GetCertificate = cert
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.ClientCAs = roots
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := spoke(cs, ALPNTunnel); err != nil {
			return err
		}
		id, err := VerifyAgent(cs.PeerCertificates, roots, trustDomain, now(cfg))
		if err != nil || revoked == nil {
			return err
		}
		return revoked(cs.PeerCertificates[0], id)
	}
	return cfg
}

// PeerIdentity returns the agent of a connection accepted with HubTunnelTLS.
func PeerIdentity(cs tls.ConnectionState) (Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return Identity{}, fmt.Errorf("connection has no client certificate")
	}
	return ParseIdentity(cs.PeerCertificates[0])
}

// HubEnrollTLS is the hub's side of enrollment and renewal. A client certificate
// is asked for, not required and not verified here: possession of its key is
// proved by the handshake, and the issuer judges the rest, because a renewal may
// come with an expired one.
func HubEnrollTLS(cert ServerCertificate) *tls.Config {
	cfg := base(ALPNEnroll)
	cfg.GetCertificate = cert
	cfg.ClientAuth = tls.RequestClientCert
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return spoke(cs, ALPNEnroll) }
	return cfg
}

// AgentEnrollTLS is the agent's side of enrollment (cert nil) and renewal. The
// hub must prove, before anything is sent to it, that it belongs to the root
// whose pin the agent holds.
func AgentEnrollTLS(pin string, cert ClientCertificate) *tls.Config {
	cfg := base(ALPNEnroll)
	cfg.GetClientCertificate = cert
	cfg.InsecureSkipVerify = true // VerifyConnection checks the chain against the pin
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if _, err := PinnedRoot(cs.PeerCertificates, pin, now(cfg)); err != nil {
			return err
		}
		return spoke(cs, ALPNEnroll)
	}
	return cfg
}

func base(alpn string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,
	}
}

// spoke refuses a connection that negotiated nothing or something else, and one
// that was resumed although resumption is off.
func spoke(cs tls.ConnectionState, alpn string) error {
	if cs.NegotiatedProtocol != alpn {
		return fmt.Errorf("peer speaks %.50q, want %q", cs.NegotiatedProtocol, alpn)
	}
	if cs.DidResume {
		return fmt.Errorf("resumed sessions are refused")
	}
	return nil
}

func now(cfg *tls.Config) time.Time {
	if cfg.Time != nil {
		return cfg.Time()
	}
	return time.Now()
}
