// Package enroll decides on the hub who becomes an agent and who stays one: it
// makes one-time tokens, redeems them for certificates and renews certificates.
// It knows tokens, agents and the authority; it knows no tunnel and no flow.
package enroll

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ropeway/certs"
	wire "ropeway/certs/enroll"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Authority signs certificates; *ca.Authority is one.
type Authority interface {
	TrustDomain() string
	RootPEM() []byte
	Pin() string
	Roots() *x509.CertPool
	SignAgent(id certs.Identity, csr *x509.CertificateRequest) ([]byte, error)
}

// Tokens keeps one-time tokens by the hash of their secret; *store.Store does.
type Tokens interface {
	CreateEnrollToken(ctx context.Context, tok store.EnrollToken, hash [32]byte) error
	RedeemToken(ctx context.Context, hash, keyHash [32]byte, now time.Time) (store.Redemption, error)
}

// Agents keeps agents and revocations; *store.Store does.
type Agents interface {
	Agent(ctx context.Context, scope store.Scope, id page.ID) (model.Agent, error)
	PutAgent(ctx context.Context, a model.Agent, keyHash []byte) error
	RenewAgent(ctx context.Context, r store.Renewal) (model.Agent, error)
	KeySeen(ctx context.Context, scope store.Scope, agent page.ID, key [32]byte, now time.Time) error
	Revoked(ctx context.Context, tenant page.ID, serial string, keyHash []byte) (bool, error)
}

// Places knows the names of tenants and environments; *store.Store does.
type Places interface {
	Tenant(ctx context.Context, id page.ID) (store.Tenant, error)
	Environments(ctx context.Context, tenant page.ID) ([]store.Environment, error)
}

// Auditor writes the audit log; *store.Store does.
type Auditor interface {
	Audit(ctx context.Context, entries ...model.AuditEntry) error
}

// Config is what an Issuer works with. Store stands for all four interfaces.
type Config struct {
	Store interface {
		Tokens
		Agents
		Places
		Auditor
	}
	Authority Authority
	Hub       string           // URL that tokens carry, https://host:port
	Clock     func() time.Time // nil = time.Now
	Log       *slog.Logger
}

// An Issuer is safe for concurrent use.
type Issuer struct {
	tokens    Tokens
	agents    Agents
	places    Places
	audit     Auditor
	authority Authority
	hub       string
	clock     func() time.Time
	log       *slog.Logger
}

// New makes an issuer.
func New(c Config) *Issuer {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Issuer{
		tokens: c.Store, agents: c.Store, places: c.Store, audit: c.Store,
		authority: c.Authority, hub: c.Hub, clock: c.Clock, log: c.Log,
	}
}

var (
	_ wire.Issuer   = (*Issuer)(nil)
	_ certs.Revoked = (*Issuer)(nil).Revoked
)

// Enroll redeems a token. Exactly one key wins a use of it; the same key may come
// again within the token's life, because the answer may have been lost.
func (i *Issuer) Enroll(ctx context.Context, a wire.Application) (wire.Grant, error) {
	keyHash := requestKey(a.CSR)
	won, err := i.tokens.RedeemToken(ctx, a.Secret.Hash(), keyHash, i.clock())
	if err != nil {
		return wire.Grant{}, refusedToken(err)
	}
	scope := won.Token.Scope
	if err := i.notRevoked(ctx, scope.Tenant, "", keyHash); err != nil {
		return wire.Grant{}, err
	}
	agent, known, err := i.whoEnrolls(ctx, a, won, keyHash)
	if err != nil {
		return wire.Grant{}, err
	}
	agent.Group, agent.GroupName = won.Token.Group, won.Token.GroupName
	agent.Hostname, agent.Version, agent.Remote = printable(a.Hostname), printable(a.Software), a.Remote
	agent.Enrolled, agent.State = i.clock(), model.AgentPending
	chain, err := i.sign(&agent, a.CSR)
	if err != nil {
		return wire.Grant{}, err
	}
	if err := i.keep(ctx, &agent, known, wish(a, won), keyHash); err != nil {
		return wire.Grant{}, err
	}
	entry := i.entry(agent, "agent enroll", won.Token.CreatedBy)
	entry.Detail = fmt.Sprintf("key %s, from %s", hex.EncodeToString(keyHash[:8]), a.Remote)
	if err := i.audit.Audit(ctx, entry); err != nil {
		return wire.Grant{}, err
	}
	i.log.Info("agent enrolled", "agent", agent.Name, "group", agent.GroupName, "remote", a.Remote, "again", known)
	return i.grant(ctx, agent, chain)
}

// whoEnrolls finds the agent a redemption speaks for: the one it made before, the
// one whose certificate came along, or a new one.
func (i *Issuer) whoEnrolls(ctx context.Context, a wire.Application, won store.Redemption, keyHash [32]byte) (model.Agent, bool, error) {
	scope := won.Token.Scope
	id := won.Agent
	if former, ok := i.former(a, scope, keyHash); ok {
		id = former
	}
	agent, err := i.agents.Agent(ctx, scope, id)
	switch {
	case errors.Is(err, fault.Of("E_NOT_FOUND")):
		return model.Agent{ID: won.Agent, Tenant: scope.Tenant, Environment: scope.Environment}, false, nil
	case err != nil:
		return model.Agent{}, false, err
	case closed(agent):
		return model.Agent{}, false, revoked("agent " + agent.Name + " was revoked or disabled")
	}
	return agent, true, nil
}

// former reads the agent from the certificate of one that enrolls again, whatever
// its age. The key must be the one it was issued to.
func (i *Issuer) former(a wire.Application, scope store.Scope, keyHash [32]byte) (page.ID, bool) {
	if len(a.Chain) == 0 || certs.PublicKeyHash(a.Chain[0]) != keyHash {
		return page.ID{}, false
	}
	at := i.clock()
	if end := a.Chain[0].NotAfter; at.After(end) {
		at = end
	}
	id, err := certs.VerifyAgent(a.Chain, i.authority.Roots(), i.authority.TrustDomain(), at)
	if err != nil || id.Tenant != scope.Tenant || id.Environment != scope.Environment {
		return page.ID{}, false
	}
	return id.Agent, true
}

// revokedTime bounds the question of one handshake.
const revokedTime = 5 * time.Second

// Revoked refuses the certificate of a tunnel when its serial, its key or its
// agent is revoked, or the agent is disabled or unknown. It is a certs.Revoked.
func (i *Issuer) Revoked(cert *x509.Certificate, id certs.Identity) error {
	ctx, cancel := context.WithTimeout(context.Background(), revokedTime) // a handshake has none
	defer cancel()
	if err := i.notRevoked(ctx, id.Tenant, serial(cert), certs.PublicKeyHash(cert)); err != nil {
		return err
	}
	_, err := i.live(ctx, id)
	return err
}

// Proved says that an agent has proved, in a whole handshake, to hold the key of
// its certificate. The key before, of a rotation, ends with that. (Revoked is
// asked in the middle of the handshake, when nothing is proved yet.)
func (i *Issuer) Proved(ctx context.Context, cert *x509.Certificate, id certs.Identity) error {
	scope := store.Scope{Tenant: id.Tenant, Environment: id.Environment}
	return i.agents.KeySeen(ctx, scope, id.Agent, certs.PublicKeyHash(cert), i.clock())
}

// Live refuses an agent that is revoked, disabled or unknown.
func (i *Issuer) Live(ctx context.Context, id certs.Identity) error {
	_, err := i.live(ctx, id)
	return err
}

func (i *Issuer) notRevoked(ctx context.Context, tenant page.ID, serial string, keyHash [32]byte) error {
	is, err := i.agents.Revoked(ctx, tenant, serial, keyHash[:])
	if err != nil {
		return err
	}
	if is {
		return revoked("this key or certificate was revoked")
	}
	return nil
}

// live returns the agent of a verified certificate unless it is closed.
func (i *Issuer) live(ctx context.Context, id certs.Identity) (model.Agent, error) {
	agent, err := i.agents.Agent(ctx, store.Scope{Tenant: id.Tenant, Environment: id.Environment}, id.Agent)
	switch {
	case errors.Is(err, fault.Of("E_NOT_FOUND")):
		return model.Agent{}, revoked("the hub knows no such agent")
	case err != nil:
		return model.Agent{}, err
	case closed(agent):
		return model.Agent{}, revoked("agent " + agent.Name + " was revoked or disabled")
	}
	return agent, nil
}

func closed(a model.Agent) bool {
	return a.Revoked != nil || a.State == model.AgentRevoked || a.State == model.AgentDisabled
}

// sign issues the certificate and notes it in the agent.
func (i *Issuer) sign(agent *model.Agent, csr *x509.CertificateRequest) ([]byte, error) {
	id := certs.Identity{TrustDomain: i.authority.TrustDomain(), Tenant: agent.Tenant, Environment: agent.Environment, Agent: agent.ID}
	text, err := i.authority.SignAgent(id, csr)
	if err != nil {
		return nil, err
	}
	chain, err := certs.ParseChain(text)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	agent.Serial, agent.Fingerprint, agent.NotAfter = serial(leaf), hex.EncodeToString(sum[:]), &leaf.NotAfter
	return text, nil
}

func (i *Issuer) grant(ctx context.Context, agent model.Agent, chain []byte) (wire.Grant, error) {
	tenant, err := i.places.Tenant(ctx, agent.Tenant)
	if err != nil {
		return wire.Grant{}, err
	}
	environments, err := i.places.Environments(ctx, agent.Tenant)
	if err != nil {
		return wire.Grant{}, err
	}
	g := wire.Grant{
		ChainPEM: string(chain), RootPEM: string(i.authority.RootPEM()), Agent: agent.ID, AgentName: agent.Name,
		Tenant: agent.Tenant, TenantName: tenant.Name, Environment: agent.Environment,
		Group: agent.Group, GroupName: agent.GroupName,
	}
	for _, e := range environments {
		if e.ID == agent.Environment {
			g.EnvironmentName = e.Name
		}
	}
	return g, nil
}

func (i *Issuer) entry(a model.Agent, action, actor string) model.AuditEntry {
	return model.AuditEntry{
		At: i.clock(), Tenant: a.Tenant, Environment: a.Environment,
		Actor: actor, Action: action, Kind: "Agent", Object: a.Name,
	}
}

func serial(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

func requestKey(csr *x509.CertificateRequest) [32]byte {
	return sha256.Sum256(csr.RawSubjectPublicKeyInfo)
}
