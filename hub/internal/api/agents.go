package api

import (
	"context"
	"net/http"
	"time"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

type tokenInput struct {
	Named
	Body *model.TokenOptions
}

type tokenOutput struct{ Body model.Token }

type agentList struct{ Body list[model.Agent] }

type agentOutput struct{ Body model.Agent }

func (s *server) agentRoutes() {
	route(s, op{id: "create-agent-token", method: http.MethodPost, path: "/api/v1/agent-groups/{name}/tokens",
		right: access.ManageAgents, status: http.StatusCreated, summary: "Make a one-time enrollment token; it is shown once"}, s.agentToken)
	route(s, op{id: "list-agents", method: http.MethodGet, path: "/api/v1/agents", right: access.View, summary: "List the agents"},
		func(ctx context.Context, in *struct{ Where }) (*agentList, error) {
			agents, err := s.agents(ctx, in.Where)
			return &agentList{Body: listOf(agents, "")}, err
		})
	route(s, op{id: "get-agent", method: http.MethodGet, path: "/api/v1/agents/{name}", right: access.View, summary: "Show one agent"},
		func(ctx context.Context, in *Named) (*agentOutput, error) {
			a, err := s.agent(ctx, in)
			return &agentOutput{Body: a}, err
		})
	route(s, op{id: "revoke-agent", method: http.MethodPost, path: "/api/v1/agents/{name}/revoke", right: access.ManageAgents,
		summary: "Revoke an agent's identity for ever; its tunnels are closed"},
		func(ctx context.Context, in *Named) (*agentOutput, error) {
			scope, err := s.scope(ctx, in.Where)
			if err != nil {
				return nil, err
			}
			a, err := s.Agents.Revoke(ctx, scope, in.Name, callerOf(ctx).Name)
			return &agentOutput{Body: a}, err
		})
}

func (s *server) agentToken(ctx context.Context, in *tokenInput) (*tokenOutput, error) {
	var options model.TokenOptions
	if in.Body != nil {
		options = *in.Body
	}
	if options.Agent != "" && !model.ValidName(options.Agent) {
		return nil, badRequest("agent", "this cannot be an agent's name")
	}
	group, err := s.ensure(ctx, in.Where, model.KindAgentGroup, in.Name, &model.AgentGroup{})
	if err != nil {
		return nil, err
	}
	token, err := s.Agents.Token(ctx, group, TokenRequest{Name: options.Agent, Uses: options.Uses,
		TTL: time.Duration(options.TTLSeconds) * time.Second}, callerOf(ctx).Name)
	return &tokenOutput{Body: token}, err
}

func (s *server) agents(ctx context.Context, w Where) ([]model.Agent, error) {
	scope, err := s.scope(ctx, w)
	if err != nil {
		return nil, err
	}
	return s.Agents.Agents(ctx, scope)
}

// agent finds an agent by name or id.
func (s *server) agent(ctx context.Context, in *Named) (model.Agent, error) {
	agents, err := s.agents(ctx, in.Where)
	if err != nil {
		return model.Agent{}, err
	}
	for _, a := range agents {
		if a.Name == in.Name || a.ID.String() == in.Name {
			return a, nil
		}
	}
	return model.Agent{}, fault.Of("E_NOT_FOUND").WithCause("there is no agent of this name")
}
