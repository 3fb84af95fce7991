package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"ropeway/certs"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// What a stranger may cost: the whole question must be there within questionTime.
const (
	questionTime = 10 * time.Second
	issueTime    = 15 * time.Second
	answerTime   = 10 * time.Second
)

// An Application is what an agent without certificate sends. Name and Hostname
// are its wishes, bounded but otherwise unchecked.
type Application struct {
	Secret   Secret
	CSR      *x509.CertificateRequest // keeps the rules of certs.CheckRequest
	Name     string
	Hostname string
	Software string
	Remote   string // address the connection came from

	// Chain is the certificate of an agent that enrolls again, perhaps long after
	// its end, so that it may stay the same agent; nil otherwise. The connection
	// proved possession of the key of Chain[0]; nothing else about it is checked.
	Chain []*x509.Certificate
}

// A Renewal is what an agent sends with its current certificate. The connection
// proved possession of the key of Chain[0]; nothing else about Chain is checked.
type Renewal struct {
	Chain    []*x509.Certificate
	CSR      *x509.CertificateRequest
	Software string
	Remote   string
}

// A Grant is a certificate with everything the agent must know about itself.
type Grant struct {
	ChainPEM        string  `json:"chain"`
	RootPEM         string  `json:"root"`
	Agent           page.ID `json:"agent"`
	AgentName       string  `json:"agentName"`
	Tenant          page.ID `json:"tenant"`
	TenantName      string  `json:"tenantName"`
	Environment     page.ID `json:"environment"`
	EnvironmentName string  `json:"environmentName"`
	Group           page.ID `json:"group"`
	GroupName       string  `json:"groupName"`
}

// An Issuer decides who gets a certificate. Its errors cross the wire as faults.
type Issuer interface {
	Enroll(ctx context.Context, a Application) (Grant, error)
	Renew(ctx context.Context, r Renewal) (Grant, error)
}

// Serve answers the one question of a connection accepted with certs.HubEnrollTLS
// and closes it. The error is for the hub's log: the peer got its own.
func Serve(ctx context.Context, conn *tls.Conn, issuer Issuer) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(questionTime)); err != nil {
		return err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("enrollment handshake: %w", err)
	}
	if alpn := conn.ConnectionState().NegotiatedProtocol; alpn != certs.ALPNEnroll {
		return fmt.Errorf("enrollment over ALPN %.50q", alpn)
	}
	var q question
	if err := readMessage(conn, &q, maxQuestion); err != nil {
		return errors.Join(err, reply(conn, answer{Fault: badQuestion(err)}))
	}
	grant, err := decide(ctx, conn, issuer, q)
	if err != nil {
		return errors.Join(err, reply(conn, answer{Fault: outward(err)}))
	}
	return reply(conn, answer{Grant: &grant})
}

// outward is what a stranger may read of an error: of the hub's own troubles no
// more than that there are some.
func outward(err error) *fault.Error {
	f := fault.From(err)
	if f.Code == "E_INTERNAL" {
		return fault.Of("E_INTERNAL").WithSource("hub")
	}
	return f
}

func reply(conn *tls.Conn, a answer) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	if err := writeMessage(conn, a, maxAnswer); err != nil {
		return fmt.Errorf("answer enrollment: %w", err)
	}
	return nil
}

func decide(ctx context.Context, conn *tls.Conn, issuer Issuer, q question) (Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, issueTime)
	defer cancel()
	if q.Version != wireVersion {
		return Grant{}, wrongVersion(q.Version)
	}
	if len(q.Name) > 255 || len(q.Hostname) > 255 || len(q.Software) > 255 {
		return Grant{}, badQuestion(errors.New("a name is longer than 255 bytes"))
	}
	csr, err := certs.ParseRequest([]byte(q.CSR))
	if err != nil {
		return Grant{}, badRequest(err)
	}
	remote := conn.RemoteAddr().String()
	chain := conn.ConnectionState().PeerCertificates
	switch q.Kind {
	case kindEnroll:
		if len(q.Secret) != secretSize {
			return Grant{}, badToken("its secret has the wrong length")
		}
		return issuer.Enroll(ctx, Application{
			Secret: Secret(q.Secret), CSR: csr, Name: q.Name, Hostname: q.Hostname,
			Software: q.Software, Remote: remote, Chain: chain,
		})
	case kindRenew:
		if len(chain) == 0 {
			return Grant{}, noCertificate()
		}
		return issuer.Renew(ctx, Renewal{Chain: chain, CSR: csr, Software: q.Software, Remote: remote})
	}
	return Grant{}, badQuestion(fmt.Errorf("kind %.40q is neither enroll nor renew", q.Kind))
}
