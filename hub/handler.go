package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/builtin"
	"ropeway/hub/internal/access"
	"ropeway/hub/internal/api"
	"ropeway/hub/internal/connection"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// handler is everything that HTTP reaches.
func (h *hub) handler() http.Handler {
	return api.New(api.Config{
		Version: h.version, Access: callers{h.access}, Places: h.store, Objects: h.store, Jobs: h.store,
		Parked: h.store, Flows: flows{h.engine, h}, Connections: steering{h}, Secrets: credentials{h}, Agents: agents{h},
		Audit: h.store, Connectors: catalog{}, Changed: h.changed, Clock: time.Now, Log: h.log,
	})
}

// changed lets what runs follow a changed object.
func (h *hub) changed(ctx context.Context, o model.Object) {
	var err error
	switch o.Kind {
	case model.KindConnection:
		err = errors.Join(h.engine.ConnectionChanged(ctx, o.Place(), o.ID), h.connections.Recheck(ctx, o.Place(), o.ID))
	case model.KindCredential:
		h.connections.CredentialChanged(o.ID)
	}
	if err != nil && fault.CodeOf(err) != "E_NOT_FOUND" {
		h.log.Warn("change not followed", "kind", o.Kind, "name", o.Name, "error", err)
	}
}

// callers turns tokens into who makes a request.
type callers struct{ gate *access.Gate }

// Authenticate returns who holds a bearer token.
func (c callers) Authenticate(ctx context.Context, token string) (api.Caller, error) {
	p, err := c.gate.Authenticate(ctx, token)
	if err != nil {
		return api.Caller{}, err
	}
	proved(ctx, p.Name)
	return api.Caller{Name: p.Name, Tenant: p.Tenant, Role: string(p.Role), Environments: p.Environments}, nil
}

// steering looks at and steers connections by their names.
type steering struct{ *hub }

// QueueOf is what waits for a connection and what it is doing.
func (s steering) QueueOf(ctx context.Context, scope store.Scope, name string) (model.ConnectionQueue, error) {
	return s.engine.QueueOf(ctx, scope, name)
}

// Ping does the least that proves that the connection works.
func (s steering) Ping(ctx context.Context, scope store.Scope, name string) error {
	o, err := s.store.Object(ctx, scope, model.KindConnection, name)
	if err != nil {
		return err
	}
	if err := s.engine.Probe(ctx, scope, o.ID); err != nil {
		return err
	}
	return s.connections.Recheck(ctx, scope, o.ID) // it works: go on without waiting
}

// Pause takes a connection offline until Resume.
func (s steering) Pause(ctx context.Context, scope store.Scope, name, actor string) error {
	return s.steer(ctx, scope, name, actor, "connection pause", func(id page.ID) error {
		return s.connections.TakeOffline(ctx, scope, id, model.CauseManual)
	})
}

// Resume ends Pause; the connection is tried at once.
func (s steering) Resume(ctx context.Context, scope store.Scope, name, actor string) error {
	return s.steer(ctx, scope, name, actor, "connection resume", func(id page.ID) error {
		return errors.Join(s.connections.TakeOnline(ctx, scope, id), s.connections.Recheck(ctx, scope, id))
	})
}

func (s steering) steer(
	ctx context.Context, scope store.Scope, name, actor, action string, do func(page.ID) error,
) error {
	o, err := s.store.Object(ctx, scope, model.KindConnection, name)
	if err != nil {
		return err
	}
	e := entryOf(scope, action, string(model.KindConnection), name)
	e.Actor = actor
	return s.audit(ctx, e, func() error { return do(o.ID) })
}

// credentials takes the values of credentials in; they never come out.
type credentials struct{ *hub }

// Set stores the fields of a credential.
func (c credentials) Set(
	ctx context.Context, credential model.Object, fields map[string]string, actor string,
) (uint64, error) {
	e := entryOf(credential.Place(), "secret set", string(model.KindCredential), credential.Name)
	e.Actor = actor
	err := c.audit(ctx, e, func() error {
		return c.secrets.Put(ctx, credential.Tenant, credential.Environment, credential.ID, fields)
	})
	if err != nil {
		return 0, err
	}
	return c.Version(ctx, credential)
}

// Version is the version of a credential's value; 0 = it has none.
func (c credentials) Version(ctx context.Context, credential model.Object) (uint64, error) {
	_, version, err := c.secrets.Fields(ctx, credential.Tenant, credential.Environment, credential.ID)
	if fault.CodeOf(err) == "E_NO_CREDENTIAL" {
		return 0, nil
	}
	return version, err
}

// facts is what a connection's state depends on besides its endpoint.
func (h *hub) facts(ctx context.Context, s store.Scope, id page.ID) (connection.Facts, error) {
	o, err := h.store.ObjectByID(ctx, s, id)
	if err != nil {
		return connection.Facts{}, err
	}
	var spec model.Connection
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		return connection.Facts{}, fmt.Errorf("decode connection %s: %w", o.Name, err)
	}
	var facts connection.Facts
	if spec.AgentGroup != "" {
		group, err := h.store.Object(ctx, s, model.KindAgentGroup, spec.AgentGroup)
		if err != nil {
			return facts, err
		}
		facts.Group = group.ID
	}
	if spec.Credential != "" {
		credential, err := h.store.Object(ctx, s, model.KindCredential, spec.Credential)
		if err != nil {
			return facts, err
		}
		facts.Credential = credential.ID
		if facts.Secret, err = (credentials{h}).Version(ctx, credential); err != nil {
			return facts, err
		}
	}
	return facts, nil
}

// catalog knows the connectors of this build.
type catalog struct{}

// findType finds a connector by name.
func findType(name string) (*connectors.Type, bool) { return builtin.Find(name) }

// Names lists the connectors.
func (catalog) Names() []string {
	var names []string
	for _, t := range builtin.Types() {
		names = append(names, t.Name)
	}
	return names
}

// CheckSettings refuses settings that the connector's schema does not allow.
func (catalog) CheckSettings(name string, settings map[string]any) error {
	t, ok := findType(name)
	if !ok {
		return fault.Of("E_UNKNOWN_CONNECTOR").WithCause(name)
	}
	_, err := t.Settings.Validate(settings)
	return err
}

// SettingsSchema is the JSON Schema of a connector's settings.
func (catalog) SettingsSchema(name string) model.Schema {
	if t, ok := findType(name); ok {
		return t.Settings.JSONSchema()
	}
	return nil
}
