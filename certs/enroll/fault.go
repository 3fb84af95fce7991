package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"ropeway/certs"
	"ropeway/protocol/fault"
)

const newToken = "make a new token with `ropeway agent token --group GROUP`"

func badToken(cause string) *fault.Error {
	return fault.Of("E_TOKEN_INVALID").WithCause(cause).
		WithFix("copy the whole token into the file, or " + newToken)
}

func badQuestion(cause error) *fault.Error {
	return fault.Of("E_REQUEST").WithSource("hub").WithCause(cause).
		WithFix("use a ropeway-agent that fits the version of the hub")
}

func badRequest(cause error) *fault.Error {
	return fault.Of("E_CSR").WithSource("hub").WithCause(cause)
}

func wrongVersion(got int) *fault.Error {
	cause := fmt.Sprintf("the agent speaks version %d of enrollment, the hub version %d", got, wireVersion)
	return fault.Of("E_FORMAT_VERSION").WithSource("hub").WithCause(cause)
}

func noCertificate() *fault.Error {
	return fault.Of("E_UNAUTHENTICATED").WithSource("hub").
		WithCause("a renewal came without the certificate that is to be renewed").
		WithFix("enroll with a one-time token")
}

func badHub(cause error) *fault.Error {
	return fault.Of("E_REQUEST").WithSentence("the hub's address is not valid").WithCause(cause).
		WithField("hub").WithFix("write it as https://host[:port]")
}

func foreignHub(hub string, err error) *fault.Error {
	cause := fmt.Sprintf("%s does not have the key that is named in the token", hub)
	return fault.Of("E_TOKEN_FOREIGN").WithCause(cause).Wrap(err).
		WithFix("check the hub's address and that no proxy ends the TLS connection, or make a token at the hub you want; the token was not sent")
}

func changedHub(hub string, err error) *fault.Error {
	cause := fmt.Sprintf("%s does not have the key this agent was enrolled with", hub)
	return fault.Of("E_HUB_IDENTITY").WithCause(cause).Wrap(err).
		WithFix("check the hub's address and that no proxy ends the TLS connection")
}

func badGrant(cause error) *fault.Error {
	return fault.Of("E_HUB_IDENTITY").
		WithSentence("the hub's answer is not a certificate this agent can use").WithCause(cause).
		WithFix("check the clock of this machine and that nothing stands between agent and hub")
}

func unreachable(address string, err error) error {
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		return f
	}
	f := fault.Of("E_UNREACHABLE").
		WithSentence(fmt.Sprintf("the hub at %s cannot be reached", address)).WithCause(reason(err)).
		WithFix("check the address, the firewall (outbound TCP to this port) and that the hub runs").Wrap(err)
	return f
}

// reason is the end of a dial error, without the address that the sentence names.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

// handshakeFailed tells apart why TLS did not come about.
func handshakeFailed(address string, err error) error {
	if errors.Is(err, certs.ErrPin) {
		return err
	}
	var record tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &record):
		return fault.Of("E_TLS").WithSentence(fmt.Sprintf("%s does not speak TLS", address)).
			WithCause("the answer is not a TLS record").WithFix("check host and port of the hub").Wrap(err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fault.Of("E_TLS").WithSentence("the hub's certificate is not valid at this machine's time").
			WithCause(invalid.Detail).WithFix("set the clock of this machine, or that of the hub").Wrap(err)
	case strings.HasSuffix(err.Error(), "tls: no application protocol"): // an alert has no exported type
		return fault.Of("E_TLS").WithSentence(fmt.Sprintf("%s is not a Ropeway hub", address)).
			WithCause("it does not offer " + certs.ALPNEnroll).WithFix("check host and port of the hub").Wrap(err)
	case isNetwork(err):
		return unreachable(address, err)
	}
	return fault.Of("E_HUB_IDENTITY").WithCause(err).
		WithSentence(fmt.Sprintf("%s does not prove that it is the hub", address))
}

func isNetwork(err error) bool {
	var n net.Error
	var op *net.OpError
	return errors.As(err, &op) && op.Op != "remote error" || errors.As(err, &n) && n.Timeout() ||
		errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
