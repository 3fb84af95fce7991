package hub

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"

	"ropeway/certs"
	"ropeway/hub/internal/api"
	"ropeway/hub/internal/egress"
	"ropeway/hub/internal/enroll"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// lookUp bounds a question to the store that has no caller to wait for it.
const lookUp = 5 * time.Second

// hello looks up an agent that opened a session and issues its process epoch.
func (h *hub) hello(ctx context.Context, id certs.Identity, process []byte) (gateway.AgentInfo, error) {
	scope := store.Scope{Tenant: id.Tenant, Environment: id.Environment}
	agent, err := h.store.Agent(ctx, scope, id.Agent)
	if err != nil {
		return gateway.AgentInfo{}, err
	}
	if agent.Revoked != nil {
		return gateway.AgentInfo{}, fault.Of("E_REVOKED")
	}
	var random [16]byte
	if copy(random[:], process) != len(random) {
		return gateway.AgentInfo{}, fault.Of("E_REQUEST").WithCause("the process id has not 16 bytes")
	}
	epoch, newest, err := h.store.Hello(ctx, scope, id.Agent, random, time.Now())
	if err != nil {
		return gateway.AgentInfo{}, err
	}
	if !newest {
		return gateway.AgentInfo{}, fault.Of("E_SUPERSEDED").WithCause("a newer process of this agent has connected since")
	}
	return gateway.AgentInfo{Name: agent.Name, Group: agent.Group, GroupName: agent.GroupName, Epoch: epoch}, nil
}

// revokedEvery is how often living sessions are compared with the store.
const revokedEvery = 4 * time.Second

// endRevoked ends the sessions of agents that were revoked in any other way than
// through this process: by another replica, or by hand (PROMISES S4).
func (h *hub) endRevoked(ctx context.Context) {
	tick := time.NewTicker(revokedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range h.gateway.Agents() {
			id := certs.Identity{Tenant: p.Tenant, Environment: p.Environment, Agent: p.Agent}
			if err := h.issuer.Live(ctx, id); fault.CodeOf(err) == "E_REVOKED" {
				h.log.Warn("session of a revoked agent ended", "agent", p.Agent, "name", p.Name)
				h.gateway.Close(p.Agent, err)
			}
		}
	}
}

// agentsChanged follows an agent that came or went.
func (h *hub) agentsChanged(_, _, group page.ID) {
	h.engine.AgentsChanged(context.Background(), group)
}

// egress are the rules for what steps of a tenant may dial from the hub.
func (h *hub) egress(tenant page.ID) egress.Rules {
	rules := egress.Rules{Own: secretAddresses(h.secrets)}
	for _, l := range []string{h.listener.Addr().String(), h.ops.Addr().String()} {
		if ap, err := netip.ParseAddrPort(l); err == nil {
			rules.Own = append(rules.Own, ap)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookUp)
	defer cancel()
	if t, err := h.store.Tenant(ctx, tenant); err == nil && t.Egress == "private" {
		rules.Private = true
		rules.Files = filepath.Join(h.config.Data, "files", tenant.String())
	}
	return rules
}

// agents is what the API sees of agents: what the store knows, and who is here.
type agents struct{ *hub }

// Agents lists the enrolled agents with their state of now.
func (a agents) Agents(ctx context.Context, scope store.Scope) ([]model.Agent, error) {
	list, err := a.store.Agents(ctx, scope)
	if err != nil {
		return nil, err
	}
	here := map[page.ID]gateway.Presence{}
	for _, p := range a.gateway.Agents() {
		here[p.Agent] = p
	}
	for i := range list {
		switch p, ok := here[list[i].ID]; {
		case list[i].Revoked != nil:
		case ok:
			present(&list[i], p)
		case list[i].LastSeen != nil:
			list[i].State = model.AgentOffline
		}
	}
	return list, nil
}

// present fills in what the agent's session says.
func present(a *model.Agent, p gateway.Presence) {
	a.State = model.AgentOnline
	if p.Draining {
		a.State = model.AgentDraining
	}
	a.Transport, a.Remote, a.Version, a.Connectors = p.Transport, p.Remote, p.Version, p.Connectors
	a.Hostname, a.OS, a.Arch = p.Hostname, p.OS, p.Arch
	now := time.Now()
	a.LastSeen = &now
}

// Revoke ends the agent's certificate, and its session at once.
func (a agents) Revoke(ctx context.Context, scope store.Scope, name, actor string) (model.Agent, error) {
	agent, err := a.store.AgentByName(ctx, scope, name)
	if err != nil {
		return agent, err
	}
	agent, err = a.store.RevokeAgent(ctx, scope, agent.ID, actor, "by "+actor, time.Now())
	if err == nil {
		a.gateway.Close(agent.ID, fault.Of("E_REVOKED"))
	}
	return agent, err
}

// Token makes a one-time enrollment token.
func (a agents) Token(ctx context.Context, group model.Object, r api.TokenRequest, actor string) (model.Token, error) {
	if r.Uses > 1 {
		return model.Token{}, fault.Of("E_UNSUPPORTED").WithCause("tokens with several uses are not in this version").
			WithFix("make one token for each agent")
	}
	text, expires, err := a.issuer.Create(ctx, enroll.TokenRequest{
		Scope: group.Place(), Group: group.ID, GroupName: group.Name, Name: r.Name, TTL: r.TTL, CreatedBy: actor,
	})
	return model.Token{Token: text, Expires: expires}, err
}
