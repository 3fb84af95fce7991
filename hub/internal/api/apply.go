package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/hub/internal/transform"
	"ropeway/protocol/fault"
)

type applyInput struct {
	Where
	DryRun  bool   `query:"dryRun" doc:"Check and tell, change nothing."`
	IfMatch string `header:"If-Match" maxLength:"64" doc:"With one manifest: refuse unless the object has this ETag."`
	RawBody []byte `contentType:"application/yaml" doc:"One or more manifests, YAML or JSON."`
}

type applyOutput struct{ Body model.ApplyResult }

func (s *server) applyRoute() {
	route(s, op{id: "apply", method: http.MethodPost, path: "/api/v1/apply", right: access.Build,
		summary: "Create or change a set of objects, all or none", maxBody: model.MaxManifestBytes + 1, raw: true},
		func(ctx context.Context, in *applyInput) (*applyOutput, error) {
			ms, err := model.ParseManifests(bytes.NewReader(in.RawBody), "")
			if err != nil {
				return nil, err
			}
			if in.Environment, err = oneEnvironment(ms, in.Environment); err != nil {
				return nil, err
			}
			scope, err := s.scope(ctx, in.Where)
			if err != nil {
				return nil, err
			}
			result, err := s.apply(ctx, scope, ms, in)
			return &applyOutput{Body: result}, err
		})
}

// oneEnvironment returns the environment of a set: all or none is only promised
// within one.
func oneEnvironment(ms []model.Manifest, asked string) (string, error) {
	name := asked
	for _, m := range ms {
		if m.Environment == "" || m.Environment == name {
			continue
		}
		if name != "" {
			return "", fault.Of("E_MANIFEST").WithField("environment").
				WithCause(fmt.Sprintf("%s %s belongs to %s, others to %s", m.Kind, m.Name, m.Environment, name)).
				WithFix("apply one environment at a time")
		}
		name = m.Environment
	}
	return name, nil
}

// apply tries again when a flow was changed at the same moment: its step names
// follow from the version before.
func (s *server) apply(ctx context.Context, scope store.Scope, ms []model.Manifest, in *applyInput) (model.ApplyResult, error) {
	model.SortByReference(ms)
	for try := 0; ; try++ {
		result, err := s.applyOnce(ctx, scope, ms, in)
		if in.IfMatch == "" && try < 3 && errors.Is(err, fault.Of("E_CONFLICT")) {
			continue
		}
		return result, err
	}
}

func (s *server) applyOnce(ctx context.Context, scope store.Scope, ms []model.Manifest, in *applyInput) (model.ApplyResult, error) {
	existing, err := s.shelf(ctx, scope)
	if err != nil {
		return model.ApplyResult{}, err
	}
	if err := model.Validate(ms, existing, s.rules()); err != nil {
		return model.ApplyResult{}, err
	}
	changes, err := planned(ms, existing)
	if err != nil {
		return model.ApplyResult{}, err
	}
	if err := onlyIf(changes, existing, in.IfMatch); err != nil {
		return model.ApplyResult{}, err
	}
	out := model.ApplyResult{Changes: []model.Change{}, DryRun: in.DryRun, Warnings: s.warnings(ctx, scope, ms, existing)}
	if in.DryRun {
		for _, c := range changes {
			out.Changes = append(out.Changes, foreseen(c, existing))
		}
		return out, nil
	}
	applied, err := s.Objects.ApplyObjects(ctx, scope, callerOf(ctx).Name, changes, s.Clock())
	if err != nil {
		return model.ApplyResult{}, err
	}
	for _, a := range applied {
		o := a.Object
		out.Changes = append(out.Changes, model.Change{Kind: o.Kind, Name: o.Name, Action: a.Action,
			ID: o.ID.String(), Version: o.Version})
		if a.Action != store.ActionUnchanged {
			s.changed(ctx, o)
		}
	}
	return out, nil
}

func (s *server) changed(ctx context.Context, o model.Object) {
	if s.Changed != nil {
		s.Changed(context.WithoutCancel(ctx), o)
	}
}

func (s *server) rules() model.Rules {
	return model.Rules{
		Connectors: s.Connectors.Names,
		Settings:   s.Connectors.CheckSettings,
		Flow: func(f *model.Flow) []error {
			if errs := transform.Check(f, nil); len(errs) > 0 {
				return errs
			}
			if err := s.Flows.Check(f); err != nil {
				return []error{err}
			}
			return nil
		},
	}
}

// shelf is everything in one environment.
type shelf map[model.Kind]map[string]model.Object

func (s *server) shelf(ctx context.Context, scope store.Scope) (shelf, error) {
	out := shelf{}
	for _, kind := range model.Kinds() {
		objects, err := s.Objects.Objects(ctx, scope, kind)
		if err != nil {
			return nil, err
		}
		out[kind] = make(map[string]model.Object, len(objects))
		for _, o := range objects {
			out[kind][o.Name] = o
		}
	}
	return out, nil
}

// Spec and Names make a shelf a model.Lookup.
func (s shelf) Spec(kind model.Kind, name string) (any, bool) {
	o, ok := s[kind][name]
	if !ok {
		return nil, false
	}
	spec, err := model.DecodeSpec(kind, o.Spec)
	return spec, err == nil
}

// Names returns the names of all objects of a kind.
func (s shelf) Names(kind model.Kind) []string {
	names := make([]string, 0, len(s[kind]))
	for name := range s[kind] {
		names = append(names, name)
	}
	return names
}

// planned turns manifests into changes. A flow keeps the step names it has, and
// is changed only from the version they were taken from.
func planned(ms []model.Manifest, existing shelf) ([]store.Change, error) {
	var out []store.Change
	for _, m := range ms {
		c := store.Change{Kind: m.Kind, Name: m.Name, Labels: m.Labels}
		if flow, ok := m.Spec.(*model.Flow); ok {
			if old, ok := existing.Spec(model.KindFlow, m.Name); ok {
				model.KeepStepNames(old.(*model.Flow), flow)
				c.IfVersion = existing[model.KindFlow][m.Name].Version
			}
		}
		raw, err := model.EncodeSpec(m.Spec)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", m.Kind, m.Name, err)
		}
		c.Spec = raw
		out = append(out, c)
	}
	return out, nil
}

// onlyIf binds a single change to the version the caller has seen.
func onlyIf(changes []store.Change, existing shelf, ifMatch string) error {
	if ifMatch == "" {
		return nil
	}
	if len(changes) != 1 {
		return badRequest("If-Match", "If-Match goes with exactly one manifest")
	}
	o, ok := existing[changes[0].Kind][changes[0].Name]
	if !ok || etag(o) != ifMatch && ifMatch != "*" {
		return stale(o)
	}
	changes[0].IfVersion = o.Version
	return nil
}

func etag(o model.Object) string { return `"` + strconv.FormatUint(o.Version, 10) + `"` }

func stale(o model.Object) error {
	f := fault.New(fault.Value, "E_PRECONDITION", "the object is not in the version of If-Match").
		WithFix("read it again and repeat the change")
	if o.Version > 0 {
		f = f.WithCause("its ETag is " + etag(o))
	}
	return f
}

// foreseen says what a change would do.
func foreseen(c store.Change, existing shelf) model.Change {
	o, ok := existing[c.Kind][c.Name]
	out := model.Change{Kind: c.Kind, Name: c.Name, Action: store.ActionCreated}
	if !ok {
		return out
	}
	out.ID, out.Version, out.Action = o.ID.String(), o.Version, store.ActionUnchanged
	if !bytes.Equal(canonical(c.Spec), canonical(o.Spec)) || !maps.Equal(c.Labels, o.Labels) {
		out.Action = store.ActionChanged
	}
	return out
}

// canonical is raw without insignificant differences.
func canonical(raw json.RawMessage) []byte {
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return raw
	}
	return out.Bytes()
}

// warnings tells what will not work yet, such as a credential without a value.
func (s *server) warnings(ctx context.Context, scope store.Scope, ms []model.Manifest, existing shelf) []string {
	out := []string{}
	for _, m := range ms {
		switch spec := m.Spec.(type) {
		case *model.Credential:
			if spec.Custody == model.CustodyVault && !s.hasSecret(ctx, existing, m.Name) {
				out = append(out, fmt.Sprintf("credential %s has no value yet: ropeway secret set %s --file -", m.Name, m.Name))
			}
			if spec.Custody == model.CustodySealed {
				out = append(out, fmt.Sprintf("credential %s: custody sealed is not yet available", m.Name))
			}
		case *model.Route, *model.Listener:
			out = append(out, fmt.Sprintf("%s %s is stored; it does not run yet", strings.ToLower(string(m.Kind)), m.Name))
		case *model.Flow:
			if spec.Schedule != nil {
				out = append(out, fmt.Sprintf("flow %s: the schedule is stored; it does not fire yet", m.Name))
			}
		}
	}
	return out
}

func (s *server) hasSecret(ctx context.Context, existing shelf, name string) bool {
	o, ok := existing[model.KindCredential][name]
	if !ok {
		return false
	}
	version, err := s.Secrets.Version(ctx, o)
	return err == nil && version > 0
}
