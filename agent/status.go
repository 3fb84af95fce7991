package agent

import (
	"context"
	"os"

	"ropeway/agent/internal/localapi"
	"ropeway/agent/internal/uplink"
)

// source adds to what the parts show what only a running agent knows.
func (a *running) source() localapi.Source {
	s := a.parts.source()
	s.Status = a.status
	s.Drain = func(context.Context) error { a.drain(); return nil }
	return s
}

func (a *running) status(ctx context.Context) (localapi.Status, error) {
	buffered, err := a.bufferStatus(ctx)
	if err != nil {
		return localapi.Status{}, err
	}
	facts, link := a.identity.Facts(), a.uplink.State()
	return localapi.Status{
		State: a.word(link), Cause: cause(link), Name: facts.Name, Agent: a.identity.ID().Agent.String(),
		Group: facts.GroupName, Tenant: facts.TenantName, Environment: facts.EnvironmentName, Hub: facts.Hub,
		Version: Version(), Process: os.Getpid(), Started: a.started, Tunnels: tunnels(link), Running: a.runner.Running(),
		Identity: describe(a.identity), Buffer: buffered, Policy: a.policyStatus(),
	}, nil
}

// word is the state in the words of `ropeway agent list`.
func (a *running) word(link uplink.State) string {
	switch {
	case a.isDraining():
		return "draining"
	case link.Connected:
		return "online"
	case link.ProcessEpoch == 0 && link.LastError == nil:
		return "pending"
	}
	return "offline"
}

func cause(link uplink.State) *localapi.Cause {
	if f := link.LastError; f != nil && !link.Connected {
		return &localapi.Cause{Code: f.Code, Sentence: f.Sentence, Cause: f.Cause, Fix: f.Fix}
	}
	return nil
}

func tunnels(link uplink.State) []localapi.Tunnel {
	if !link.Connected {
		return []localapi.Tunnel{}
	}
	return []localapi.Tunnel{{Transport: link.Transport, Remote: link.Hub, Since: link.Since}}
}
