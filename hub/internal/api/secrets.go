package api

import (
	"context"
	"fmt"
	"net/http"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// Bounds of the value of a credential.
const (
	maxSecretBody   = 256 << 10
	maxSecretFields = 64
)

type secretInput struct {
	Named
	RawBody []byte `contentType:"application/json" doc:"One object of texts, such as {\"username\": …, \"password\": …}."`
}

type secretOutput struct{ Body model.SecretInfo }

type secretList struct{ Body list[model.SecretInfo] }

func (s *server) secretRoutes() {
	route(s, op{id: "set-secret", method: http.MethodPut, path: "/api/v1/credentials/{name}/secret", right: access.SetSecrets,
		summary: "Set the value of a credential; it cannot be read back", maxBody: maxSecretBody, raw: true}, s.setSecret)
	route(s, op{id: "list-secrets", method: http.MethodGet, path: "/api/v1/secrets", right: access.View,
		summary: "List which credentials have a value"}, s.listSecrets)
}

func (s *server) setSecret(ctx context.Context, in *secretInput) (*secretOutput, error) {
	var fields map[string]string
	if err := strictJSON(in.RawBody, &fields); err != nil {
		// The message of the decoder could quote the value: it stays here.
		return nil, badRequest("", "the body must be one JSON object whose values are texts")
	}
	if len(fields) == 0 || len(fields) > maxSecretFields {
		return nil, badRequest("", "the value needs 1 to %d fields", maxSecretFields)
	}
	for name := range fields {
		if !model.ValidName(name) {
			return nil, badRequest("", "a field name of the value cannot be used")
		}
	}
	o, err := s.ensure(ctx, in.Where, model.KindCredential, in.Name, &model.Credential{Custody: model.CustodyVault})
	if err != nil {
		return nil, err
	}
	custody, err := custodyOf(o)
	if err != nil {
		return nil, err
	}
	if custody != model.CustodyVault {
		return nil, fault.Of("E_STATE_CONFLICT").
			WithCause(fmt.Sprintf("the credential %s has custody %s", in.Name, custody)).
			WithFix("set it at the site: ropeway-agent credentials set " + in.Name + " --file -")
	}
	version, err := s.Secrets.Set(ctx, o, fields, callerOf(ctx).Name)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, o)
	now := s.Clock()
	return &secretOutput{Body: model.SecretInfo{Name: o.Name, Custody: custody, Version: version, Set: true, Updated: &now}}, nil
}

func custodyOf(o model.Object) (model.Custody, error) {
	spec, err := model.DecodeSpec(model.KindCredential, o.Spec)
	if err != nil {
		return "", err
	}
	return spec.(*model.Credential).Custody, nil
}

func (s *server) listSecrets(ctx context.Context, in *struct{ Where }) (*secretList, error) {
	scope, err := s.scope(ctx, in.Where)
	if err != nil {
		return nil, err
	}
	objects, err := s.Objects.Objects(ctx, scope, model.KindCredential)
	if err != nil {
		return nil, err
	}
	var out []model.SecretInfo
	for _, o := range objects {
		custody, err := custodyOf(o)
		if err != nil {
			return nil, err
		}
		version, err := s.Secrets.Version(ctx, o)
		if err != nil {
			return nil, err
		}
		out = append(out, model.SecretInfo{Name: o.Name, Custody: custody, Version: version, Set: version > 0})
	}
	return &secretList{Body: listOf(out, "")}, nil
}
