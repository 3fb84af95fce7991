package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ropeway/connectors"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// requestTimeout bounds one request on an agent or in the hub (DELIVERY §1.1).
const requestTimeout = 10 * time.Minute

// endpoint is a connection with all that a request over it needs.
type endpoint struct {
	object     model.Object
	spec       model.Connection
	typ        *connectors.Type
	settings   connectors.Settings
	group      page.ID // zero: runs in the hub
	credential *model.Object
	custody    model.Custody

	secretRead bool // the next two hold it
	fields     map[string]string
	version    uint64
}

// object finds a connection by its name.
func (e *Engine) object(ctx context.Context, s store.Scope, name string) (model.Object, error) {
	return e.Store.Object(ctx, s, model.KindConnection, name)
}

// endpoint resolves a connection by its name.
func (e *Engine) endpoint(ctx context.Context, s store.Scope, name string) (*endpoint, error) {
	object, err := e.object(ctx, s, name)
	if err != nil {
		return nil, err
	}
	return e.resolve(ctx, object)
}

// resolve looks up what the connection refers to.
func (e *Engine) resolve(ctx context.Context, object model.Object) (*endpoint, error) {
	ep := &endpoint{object: object}
	if err := json.Unmarshal(object.Spec, &ep.spec); err != nil {
		return nil, fmt.Errorf("decode connection %s: %w", object.Name, err)
	}
	typ, known := e.Types(ep.spec.Connector)
	if !known {
		return nil, fault.New(fault.Internal, "E_UNKNOWN_CONNECTOR", "this hub does not know the connector").
			WithCause(ep.spec.Connector)
	}
	ep.typ = typ
	settings, err := typ.Settings.Validate(ep.spec.Settings)
	if err != nil {
		return nil, err
	}
	ep.settings = settings
	if ep.spec.AgentGroup != "" {
		group, err := e.Store.Object(ctx, object.Place(), model.KindAgentGroup, ep.spec.AgentGroup)
		if err != nil {
			return nil, err
		}
		ep.group = group.ID
	}
	return ep, e.findCredential(ctx, ep)
}

func (e *Engine) findCredential(ctx context.Context, ep *endpoint) error {
	if ep.spec.Credential == "" {
		return nil
	}
	object, err := e.Store.Object(ctx, ep.object.Place(), model.KindCredential, ep.spec.Credential)
	if err != nil {
		return err
	}
	var spec model.Credential
	if err := json.Unmarshal(object.Spec, &spec); err != nil {
		return fmt.Errorf("decode credential %s: %w", object.Name, err)
	}
	ep.credential, ep.custody = &object, spec.Custody
	return nil
}

// secret fetches the fields of the endpoint's credential and their version, once
// for an endpoint, which lives as long as one request; a connection without one
// has none.
func (e *Engine) secret(ctx context.Context, ep *endpoint) (map[string]string, uint64, error) {
	if ep.credential == nil || ep.custody == model.CustodySite || ep.secretRead {
		return ep.fields, ep.version, nil
	}
	fields, version, err := e.freshSecret(ctx, ep)
	if err == nil {
		ep.secretRead, ep.fields, ep.version = true, fields, version
	}
	return fields, version, err
}

// freshSecret asks the secret engine, for connections that log in again later.
func (e *Engine) freshSecret(ctx context.Context, ep *endpoint) (map[string]string, uint64, error) {
	if ep.credential == nil || ep.custody == model.CustodySite {
		return nil, 0, nil
	}
	c := ep.credential
	return e.Secrets.Fields(ctx, c.Tenant, c.Environment, c.ID)
}

// env is what a connector gets when it runs in this process.
func (e *Engine) env(ep *endpoint) connectors.Env {
	rules := e.Egress(ep.object.Tenant)
	return connectors.Env{
		Dial: rules.Dial, Path: rules.Path, Clock: e.Clock,
		Log: e.Log.With("connection", ep.object.Name),
		Secret: func(ctx context.Context) (map[string]string, error) {
			fields, _, err := e.freshSecret(ctx, ep)
			return fields, err
		},
	}
}

// runStep begins the message that asks an agent for a request over ep.
func (e *Engine) runStep(ctx context.Context, s store.Scope, ep *endpoint, kind control.Kind) (*control.RunStep, error) {
	settings, err := json.Marshal(ep.spec.Settings)
	if err != nil {
		return nil, fmt.Errorf("encode settings of %s: %w", ep.object.Name, err)
	}
	credential, err := e.wireCredential(ctx, ep)
	if err != nil {
		return nil, err
	}
	return &control.RunStep{
		Kind: kind, Tenant: s.Tenant[:], Environment: s.Environment[:],
		TimeoutMs: requestTimeout.Milliseconds(),
		Connection: &control.Connection{
			Id: ep.object.ID[:], Name: ep.object.Name, Connector: ep.spec.Connector,
			SettingsJson: settings, Credential: credential,
		},
	}, nil
}

// wireCredential is the credential as it travels: its fields, memory only, or
// the name under which the site keeps it.
func (e *Engine) wireCredential(ctx context.Context, ep *endpoint) (*control.Credential, error) {
	if ep.credential == nil {
		return nil, nil
	}
	if ep.custody == model.CustodySite {
		return &control.Credential{Custody: string(ep.custody), SiteName: ep.credential.Name}, nil
	}
	fields, _, err := e.secret(ctx, ep)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode credential: %w", err)
	}
	return &control.Credential{Custody: string(ep.custody), FieldsJson: raw}, nil
}

func encodeSpec(step *control.RunStep, spec any) error {
	raw, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode step: %w", err)
	}
	step.SpecJson = raw
	return nil
}

// query is an export as connectors understand it.
func query(x *model.Export) connectors.Query {
	return connectors.Query{
		SQL: x.Query, Table: x.Table, Columns: x.Columns, Key: x.Key, PageSize: x.PageSize,
		Where: x.Where,
	}
}

// importSpec is an import step as connectors understand it.
func importSpec(i *model.Import) connectors.ImportSpec {
	return connectors.ImportSpec{
		Table: i.Table, Mode: i.Mode, Key: i.Key, Inbox: i.Inbox, FieldErrors: i.FieldErrors,
	}
}

// keys opens what was sealed with any of the tenant's data keys.
func (e *Engine) keys(ctx context.Context, tenant page.ID) page.Keys {
	return func(id string) (*page.Key, error) { return e.Secrets.KeyByID(ctx, tenant, id) }
}
