package sqldb

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strconv"
	"strings"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// The words of the setting tls.
const (
	TLSDisable    = "disable"
	TLSRequire    = "require"
	TLSVerifyCA   = "verify-ca"
	TLSVerifyFull = "verify-full"
)

// EndpointFields are the settings of a system that is reached by host and port.
func EndpointFields(port int64) []connectors.Field {
	return []connectors.Field{
		{Name: "host", Type: connectors.String, Required: true,
			Doc: "Name or address of the server."},
		{Name: "port", Type: connectors.Int, Default: port, Min: 1, Max: 65535,
			Doc: "Port of the server."},
		{Name: "database", Type: connectors.String, Required: true,
			Doc: "Name of the database."},
		{Name: "tls", Type: connectors.String, Default: TLSVerifyFull,
			Enum: []string{TLSDisable, TLSRequire, TLSVerifyCA, TLSVerifyFull},
			Doc:  "How the connection is encrypted and the server's certificate checked."},
		{Name: "ca", Type: connectors.PEM,
			Doc: "PEM certificates to trust instead of the system's."},
		{Name: "connectTimeout", Type: connectors.Duration, Default: "10s",
			Doc: "Longest time to connect."},
		{Name: "statementTimeout", Type: connectors.Duration, Default: "10m",
			Doc: "Longest time of one statement, except of a read without key."},
	}
}

// Endpoint is "host:port" as written. A host that could be anything but one
// name or address (a socket, a list, options) is refused.
func Endpoint(s connectors.Settings) (string, error) {
	host := s.String("host")
	if bare, ok := strings.CutPrefix(host, "["); ok {
		if bare, ok = strings.CutSuffix(bare, "]"); !ok || net.ParseIP(bare) == nil {
			return "", badHost()
		}
		host = bare
	}
	if host == "" || strings.HasPrefix(host, ".") || strings.ContainsAny(host, "/\\@,;? \t%[]=()") ||
		strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", badHost()
	}
	return net.JoinHostPort(host, strconv.FormatInt(s.Int("port"), 10)), nil
}

func badHost() error {
	return fault.Of("E_SETTINGS").WithField("host").
		WithCause("host must be one host name or one IP address")
}

// TLS makes the TLS configuration of the settings; nil = none.
func TLS(s connectors.Settings, host string) (*tls.Config, error) {
	mode := s.String("tls")
	if mode == TLSDisable {
		return nil, nil
	}
	var roots *x509.CertPool
	if ca := s.String("ca"); ca != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(ca)) {
			return nil, fault.Of("E_SETTINGS").WithField("ca").WithCause("ca holds no PEM certificate")
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots}
	switch mode {
	case TLSRequire:
		config.InsecureSkipVerify = true // encrypted only, as libpq's "require"
	case TLSVerifyCA:
		config.InsecureSkipVerify = true // the chain is checked here, the name is not
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return verifyChain(state, roots)
		}
	}
	return config, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}
