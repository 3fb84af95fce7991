package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"ropeway/agent/internal/identity"
	"ropeway/certs/enroll"
)

// Enrolled is what enrollment made of this machine.
type Enrolled struct {
	Name        string    `json:"name"`
	Agent       string    `json:"agent"`
	Group       string    `json:"group"`
	Tenant      string    `json:"tenant"`
	Environment string    `json:"environment"`
	Hub         string    `json:"hub"`
	NotAfter    time.Time `json:"notAfter"`
}

// Enroll trades a token for a certificate and keeps it in the state directory.
// An agent that was enrolled at the same hub before keeps its key, id and buffer.
func Enroll(ctx context.Context, c Config, token enroll.Token, hub string) (out Enrolled, err error) {
	if err := identity.Prepare(c.State); err != nil {
		return Enrolled{}, err
	}
	lock, err := identity.Acquire(c.State)
	if err != nil {
		return Enrolled{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	key, err := identity.Key(c.State)
	if err != nil {
		return Enrolled{}, err
	}
	host, _ := os.Hostname() // a machine without name gets a name from the hub
	grant, err := enroll.Enroll(ctx, dialHub, enroll.Request{
		Token: token, Hub: hub, Key: key, Name: c.Name, Hostname: host, Software: Version(),
		Certificate: formerCertificate(c.State, token.Pin),
	})
	if err != nil {
		return Enrolled{}, err
	}
	i, err := identity.Enrolled(c.State, key, []byte(grant.ChainPEM), []byte(grant.RootPEM), facts(grant, hub))
	if err != nil {
		return Enrolled{}, err
	}
	return Enrolled{
		Name: grant.AgentName, Agent: grant.Agent.String(), Group: grant.GroupName, Tenant: grant.TenantName,
		Environment: grant.EnvironmentName, Hub: hub, NotAfter: i.NotAfter(),
	}, nil
}

func facts(g enroll.Grant, hub string) identity.Facts {
	return identity.Facts{
		Hub: hub, Name: g.AgentName, Tenant: g.Tenant, TenantName: g.TenantName, Environment: g.Environment,
		EnvironmentName: g.EnvironmentName, Group: g.Group, GroupName: g.GroupName,
		Enrolled: time.Now().UTC().Truncate(time.Second),
	}
}

// formerCertificate is what this directory holds of the same hub, if anything.
func formerCertificate(state, pin string) *tls.Certificate {
	i, err := identity.Load(state)
	if err != nil || i.Pin() != pin {
		return nil
	}
	cert := i.Certificate()
	return &cert
}

func dialHub(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}
	return d.DialContext(ctx, network, address)
}

// renew trades the current certificate for one of key and takes it into use.
func (p *parts) renew(ctx context.Context, key crypto.Signer) error {
	grant, err := enroll.Renew(ctx, dialHub, enroll.RenewRequest{
		Hub: p.identity.Facts().Hub, Pin: p.identity.Pin(), Certificate: p.identity.Certificate(),
		Key: key, Software: Version(),
	})
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if err := p.identity.Install(key, []byte(grant.ChainPEM), []byte(grant.RootPEM)); err != nil {
		return err
	}
	p.log.Info("certificate renewed", "serial", p.identity.Serial(), "until", p.identity.NotAfter())
	return nil
}
