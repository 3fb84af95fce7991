package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// rightNone is what an operation needs that is open to everybody.
const rightNone access.Action = ""

// may reports whether the caller's role allows an action.
func (c Caller) may(a access.Action) bool {
	return a == rightNone || access.Can(access.Principal{Role: access.Role(c.Role)}, a)
}

type callerKey struct{}

func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// rightKey is where an operation keeps the right it needs.
const rightKey = "right"

// authenticate lets only callers through that have the operation's right.
func (s *server) authenticate(ctx huma.Context, next func(huma.Context)) {
	need, declared := ctx.Operation().Metadata[rightKey].(access.Action)
	if !declared {
		need = access.ManageTokens // whoever forgets to say gets the narrowest
	}
	if need == rightNone {
		next(ctx)
		return
	}
	caller, err := s.bearer(ctx.Context(), ctx.Header("Authorization"))
	if err == nil && !caller.may(need) {
		err = fault.Of("E_FORBIDDEN").WithCause("the role " + caller.Role + " may not " + string(need))
	}
	if err != nil {
		p := problemOf(err)
		if p.Status == http.StatusUnauthorized {
			ctx.SetHeader("WWW-Authenticate", `Bearer realm="ropeway"`)
		}
		if e := huma.WriteErr(s.api, ctx, p.Status, p.Title, p); e != nil {
			s.Log.Debug("answer not written", "error", e)
		}
		return
	}
	next(huma.WithValue(ctx, callerKey{}, caller))
}

// maxToken bounds a bearer token.
const maxToken = 4096

// known reports whether a request comes from a known caller.
func (s *server) known(r *http.Request) bool {
	_, err := s.bearer(r.Context(), r.Header.Get("Authorization"))
	return err == nil
}

func (s *server) bearer(ctx context.Context, header string) (Caller, error) {
	scheme, token, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return Caller{}, fault.Of("E_UNAUTHENTICATED").WithCause("the request has no bearer token")
	}
	return s.Access.Authenticate(ctx, token)
}

// DefaultEnvironment is meant when a request names none.
const DefaultEnvironment = "default"

// Where is the environment of a request, as every input that needs one has it.
type Where struct {
	Environment string `query:"environment" maxLength:"63" doc:"The environment; left out: default, or the only one of the token."`
}

// scope returns the place a request works in: the tenant of its token and the
// environment it names, if the token may work there.
func (s *server) scope(ctx context.Context, w Where) (store.Scope, error) {
	caller := callerOf(ctx)
	name := w.Environment
	if name == "" && len(caller.Environments) == 1 {
		return store.Scope{Tenant: caller.Tenant, Environment: caller.Environments[0]}, nil
	}
	if name == "" {
		name = DefaultEnvironment
	}
	none := fault.Of("E_NOT_FOUND").WithCause("there is no environment of this name").WithField("environment")
	if !model.ValidName(name) {
		return store.Scope{}, none
	}
	env, err := s.Places.EnvironmentByName(ctx, caller.Tenant, name)
	if err != nil {
		return store.Scope{}, err
	}
	if len(caller.Environments) > 0 && !slices.Contains(caller.Environments, env.ID) {
		return store.Scope{}, none
	}
	return store.Scope{Tenant: caller.Tenant, Environment: env.ID}, nil
}

// idOf reads an id out of a path; what is no id is simply not there.
func idOf(what, text string) (page.ID, error) {
	id, err := page.ParseID(text)
	if err != nil {
		return page.ID{}, fault.Of("E_NOT_FOUND").WithCause("there is no " + what + " of this id")
	}
	return id, nil
}
