package agent

import (
	"context"

	"ropeway/agent/internal/buffer"
	"ropeway/agent/internal/identity"
	"ropeway/agent/internal/localapi"
	"ropeway/agent/internal/policy"
)

// source is what the local API shows of the parts on disk.
func (p *parts) source() localapi.Source {
	return localapi.Source{
		Identity:     func(context.Context) (localapi.IdentityStatus, error) { return describe(p.identity), nil },
		Policy:       func(context.Context) (localapi.Policy, error) { return p.describePolicy(), nil },
		BufferStatus: p.bufferStatus,
		BufferList:   p.bufferList,
		BufferVerify: func(ctx context.Context) (localapi.BufferCheck, error) {
			r, err := p.buffer.Verify(ctx)
			return localapi.BufferCheck{Checked: r.Checked, Damaged: r.Damaged}, err
		},
		BufferPurge: func(ctx context.Context, r localapi.PurgeRequest) (localapi.BufferPurge, error) {
			n, err := p.buffer.Purge(ctx, buffer.Selection{All: r.All, Damaged: r.Damaged, Names: r.Names})
			return localapi.BufferPurge{Pages: n}, err
		},
		Suspend: func(_ context.Context, on bool) error {
			if on {
				return p.policy.Suspend()
			}
			return p.policy.Resume()
		},
		Approve: func(_ context.Context, r localapi.ApproveRequest) (localapi.Statement, error) {
			s, err := p.policy.Approve(r.Hash)
			return statement(s), err
		},
		RotateKey: p.rotateKey,
	}
}

// WhoAmI reads the identity from the state directory without its lock.
func WhoAmI(c Config) (localapi.IdentityStatus, error) {
	i, err := identity.Load(c.State)
	if err != nil {
		return localapi.IdentityStatus{}, err
	}
	return describe(i), nil
}

func describe(i *identity.Identity) localapi.IdentityStatus {
	id := i.ID()
	return localapi.IdentityStatus{
		Serial: i.Serial(), NotAfter: i.NotAfter(), NextRenewal: i.NextRenewal(), Fingerprint: i.Fingerprint(),
		URI: id.String(), Agent: id.Agent.String(), Tenant: id.Tenant.String(), Environment: id.Environment.String(),
		TrustDomain: id.TrustDomain, RootPin: i.Pin(), Hub: i.Facts().Hub,
	}
}

func (p *parts) bufferStatus(ctx context.Context) (localapi.BufferStatus, error) {
	s, err := p.buffer.Stats(ctx)
	out := localapi.BufferStatus{
		Pages: s.Pages, Bytes: s.Bytes, Unacked: s.Unacked, Quota: s.Quota, Evicted: s.Evicted, Damaged: s.Damaged,
	}
	if !s.Oldest.IsZero() {
		out.Oldest = &s.Oldest
	}
	return out, err
}

func (p *parts) bufferList(ctx context.Context, limit int) ([]localapi.BufferPage, error) {
	entries, err := p.buffer.List(ctx, "", limit)
	list := make([]localapi.BufferPage, 0, len(entries))
	for _, e := range entries {
		list = append(list, localapi.BufferPage{Name: e.Name, State: e.State, Records: e.Records, Bytes: e.Bytes, Put: e.Put})
	}
	return list, err
}

func (p *parts) policyStatus() localapi.PolicyStatus {
	s := p.policy.Status()
	return localapi.PolicyStatus{
		File: s.File, State: string(s.State), Rules: s.Rules, Loaded: s.Loaded, Error: s.Error, Warning: s.Warning,
	}
}

func (p *parts) describePolicy() localapi.Policy {
	out := localapi.Policy{PolicyStatus: p.policyStatus(), Approved: statements(p.policy.Approved()), Waiting: statements(p.policy.Waiting())}
	if inForce := p.policy.Policy(); inForce != nil {
		out.InForce = inForce
	}
	return out
}

func statements(list []policy.Statement) []localapi.Statement {
	out := make([]localapi.Statement, 0, len(list))
	for _, s := range list {
		out = append(out, statement(s))
	}
	return out
}

func statement(s policy.Statement) localapi.Statement {
	return localapi.Statement{Hash: s.Hash, Connector: s.Connector, Target: s.Target, Verb: string(s.Verb), SQL: s.SQL, At: s.At}
}
