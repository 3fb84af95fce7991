package enroll

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"ropeway/certs"
	wire "ropeway/certs/enroll"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
)

// Renew gives the holder of a certificate its next one. While the certificate is
// valid the new one may be for a new key; for certs.RenewalGrace after its end it
// must be for the same key. A key that a newer one has replaced renews nothing:
// who copied it loses it with the rotation.
func (i *Issuer) Renew(ctx context.Context, r wire.Renewal) (wire.Grant, error) {
	id, keyHash, err := i.holder(ctx, r)
	if err != nil {
		return wire.Grant{}, err
	}
	agent, err := i.live(ctx, id)
	if err != nil {
		return wire.Grant{}, err
	}
	chain, err := i.sign(&agent, r.CSR)
	if err != nil {
		return wire.Grant{}, err
	}
	if agent, err = i.note(ctx, agent, r, keyHash); err != nil {
		return wire.Grant{}, err
	}
	i.log.Info("certificate renewed", "agent", agent.Name, "until", agent.NotAfter)
	return i.grant(ctx, agent, chain)
}

// note keeps the new certificate, with an audit row. A revocation that came in
// between wins: the grant is given to nobody.
func (i *Issuer) note(ctx context.Context, agent model.Agent, r wire.Renewal, keyHash [32]byte) (model.Agent, error) {
	used := certs.PublicKeyHash(r.Chain[0])
	entry := i.entry(agent, "agent renew", agent.Name)
	entry.Detail = fmt.Sprintf("serial %s, from %s", agent.Serial, r.Remote)
	if used != keyHash {
		entry.Action = "agent rotate-key"
		entry.Detail = fmt.Sprintf("key %s, %s", hex.EncodeToString(keyHash[:8]), entry.Detail)
	}
	scope := store.Scope{Tenant: agent.Tenant, Environment: agent.Environment}
	return i.agents.RenewAgent(ctx, store.Renewal{
		Scope: scope, Agent: agent.ID, Used: used, Key: keyHash, Audit: entry,
		Change: func(a *model.Agent) {
			a.Serial, a.Fingerprint, a.NotAfter = agent.Serial, agent.Fingerprint, agent.NotAfter
			a.Version = printable(r.Software)
		},
	})
}

// holder verifies the certificate of a renewal and the key that is asked for.
func (i *Issuer) holder(ctx context.Context, r wire.Renewal) (certs.Identity, [32]byte, error) {
	now := i.clock()
	leaf, keyHash := r.Chain[0], requestKey(r.CSR)
	at, expired := now, now.After(leaf.NotAfter)
	if expired {
		at = leaf.NotAfter
	}
	id, err := certs.VerifyAgent(r.Chain, i.authority.Roots(), i.authority.TrustDomain(), at)
	if err != nil {
		return id, keyHash, fault.Of("E_UNAUTHENTICATED").WithSource("hub").WithCause(err).
			WithFix("enroll with a one-time token")
	}
	if expired {
		if err := grace(now.Sub(leaf.NotAfter), certs.PublicKeyHash(leaf) == keyHash); err != nil {
			return id, keyHash, err
		}
	}
	if err := i.notRevoked(ctx, id.Tenant, serial(leaf), certs.PublicKeyHash(leaf)); err != nil {
		return id, keyHash, err
	}
	return id, keyHash, i.notRevoked(ctx, id.Tenant, "", keyHash)
}

// grace judges a certificate that ended some time ago.
func grace(since time.Duration, sameKey bool) error {
	expired := fault.New(fault.Auth, "E_CERT_EXPIRED", "the agent's certificate has expired").WithSource("hub")
	switch {
	case since > certs.RenewalGrace:
		return expired.WithCause(fmt.Sprintf("it ended %d days ago, it can be renewed for %d", since/(24*time.Hour), certs.RenewalGrace/(24*time.Hour))).
			WithFix("enroll again with a new token in the same state directory: the agent keeps its id and its buffer")
	case !sameKey:
		return expired.WithCause("an expired certificate is renewed for the same key only").
			WithFix("let the agent renew its certificate first, then rotate the key")
	}
	return nil
}
