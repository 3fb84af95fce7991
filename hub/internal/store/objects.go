package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Change is one object of a set to apply.
type Change struct {
	Kind      model.Kind
	Name      string
	Labels    map[string]string
	Spec      json.RawMessage // canonical JSON of the kind's own fields
	IfVersion uint64          // refuse with E_CONFLICT unless it has this version; 0 = any
}

// Applied says what a Change did.
type Applied struct {
	Object model.Object
	Action string // "created", "changed" or "unchanged"
}

// The actions of Applied.
const (
	ActionCreated   = "created"
	ActionChanged   = "changed"
	ActionUnchanged = "unchanged"
)

// ApplyObjects creates or changes a set of objects, all or none, with an audit
// row for each that changed. An object keeps its id; its version counts up only
// when the spec changes, and every version of a flow is kept.
func (s *Store) ApplyObjects(
	ctx context.Context, scope Scope, actor string, changes []Change, now time.Time,
) ([]Applied, error) {
	var out []Applied
	err := s.write(ctx, func(t *tx) error {
		for _, c := range changes {
			a, err := applyOne(t, scope, actor, c, now)
			if err != nil {
				return fmt.Errorf("%s %s: %w", c.Kind, c.Name, err)
			}
			out = append(out, a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("apply objects: %w", err)
	}
	return out, nil
}

func applyOne(t *tx, scope Scope, actor string, c Change, now time.Time) (Applied, error) {
	old, found, err := objectBy(t, scope, `kind = ? AND name = ?`, string(c.Kind), c.Name)
	if err != nil {
		return Applied{}, err
	}
	var spec bytes.Buffer
	if err := json.Compact(&spec, c.Spec); err != nil {
		return Applied{}, fmt.Errorf("read spec: %w", err)
	}
	if c.IfVersion != 0 && (!found || old.Version != c.IfVersion) {
		return Applied{}, fault.Of("E_CONFLICT").WithSource(source).
			WithCause(fmt.Sprintf("it has version %d", old.Version))
	}
	a := Applied{Object: old, Action: ActionUnchanged}
	o := &a.Object
	sameSpec := found && bytes.Equal(old.Spec, spec.Bytes())
	if sameSpec && maps.Equal(old.Labels, c.Labels) {
		return a, nil
	}
	o.Labels, o.Spec, o.Updated = c.Labels, spec.Bytes(), timeOf(micros(now))
	a.Action = ActionChanged
	if !found {
		*o = model.Object{ID: page.NewID(), Tenant: scope.Tenant, Environment: scope.Environment,
			Kind: c.Kind,
			Name: c.Name, Labels: c.Labels, Spec: spec.Bytes(), Created: o.Updated, Updated: o.Updated}
		a.Action = ActionCreated
	}
	if !sameSpec {
		o.Version++
	}
	return a, saveObject(t, &a, actor, !sameSpec, now)
}

func saveObject(t *tx, a *Applied, actor string, newVersion bool, now time.Time) error {
	o := &a.Object
	labels, err := json.Marshal(o.Labels)
	if err != nil {
		return err
	}
	if a.Action == ActionCreated {
		_, err = t.exec(`INSERT INTO objects (id, tenant, environment, kind, name, labels, version, spec,
			created, updated)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			o.ID.String(), o.Tenant.String(), o.Environment.String(), string(o.Kind), o.Name, string(labels),
			int64(o.Version), string(o.Spec), micros(now), micros(now))
	} else {
		_, err = t.exec(`UPDATE objects SET labels = ?, version = ?, spec = ?, updated = ? WHERE id = ?`,
			string(labels), int64(o.Version), string(o.Spec), micros(now), o.ID.String())
	}
	if err != nil {
		return err
	}
	if newVersion && o.Kind == model.KindFlow {
		if _, err := t.exec(`INSERT INTO flow_versions (flow, version, tenant, environment, name, spec,
			actor, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, o.ID.String(), int64(o.Version), o.Tenant.String(),
			o.Environment.String(), o.Name, string(o.Spec), actor, micros(now)); err != nil {
			return err
		}
	}
	return appendAudit(t, model.AuditEntry{At: now, Tenant: o.Tenant, Environment: o.Environment,
		Actor:  actor,
		Action: "apply", Kind: string(o.Kind), Object: o.Name, Detail: fmt.Sprintf("%s, version %d",
			a.Action, o.Version)})
}

const objectColumns = `SELECT id, tenant, environment, kind, name, labels, version, spec, created,
	updated FROM objects`

func objectBy(q querier, scope Scope, condition string, args ...any) (model.Object, bool, error) {
	list, err := objectsBy(q, scope, condition, args...)
	if err != nil || len(list) == 0 {
		return model.Object{}, false, err
	}
	return list[0], true, nil
}

func objectsBy(q querier, scope Scope, condition string, args ...any) ([]model.Object, error) {
	w := inScope(scope)
	w.and(condition, args...)
	list := []model.Object{}
	rows, err := q.query(objectColumns+w.text()+` ORDER BY name`, w.args...)
	err = each(rows, err, func(r rowScanner) error {
		var o model.Object
		var labels, spec string
		var created, updated int64
		if err := r.Scan(idScan{&o.ID}, idScan{&o.Tenant}, idScan{&o.Environment}, &o.Kind, &o.Name,
			&labels,
			&o.Version, &spec, &created, &updated); err != nil {
			return err
		}
		o.Spec, o.Created, o.Updated = json.RawMessage(spec), timeOf(created), timeOf(updated)
		list = append(list, o)
		return json.Unmarshal([]byte(labels), &list[len(list)-1].Labels)
	})
	return list, err
}

// Object returns one object by its kind and name.
func (s *Store) Object(
	ctx context.Context, scope Scope, kind model.Kind, name string,
) (model.Object, error) {
	o, found, err := objectBy(s.read(ctx), scope, `kind = ? AND name = ?`, string(kind), name)
	if err == nil && !found {
		err = notFound(string(kind), name)
	}
	if err != nil {
		return model.Object{}, fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	return o, nil
}

// ObjectByID returns one object by its id.
func (s *Store) ObjectByID(ctx context.Context, scope Scope, id page.ID) (model.Object, error) {
	o, found, err := objectBy(s.read(ctx), scope, `id = ?`, id.String())
	if err == nil && !found {
		err = notFound("object", id.String())
	}
	if err != nil {
		return model.Object{}, fmt.Errorf("read object %s: %w", id, err)
	}
	return o, nil
}

// Objects lists the objects of a kind by name.
func (s *Store) Objects(ctx context.Context, scope Scope, kind model.Kind) ([]model.Object, error) {
	list, err := objectsBy(s.read(ctx), scope, `kind = ?`, string(kind))
	if err != nil {
		return nil, fmt.Errorf("list objects of kind %s: %w", kind, err)
	}
	return list, nil
}

// FlowVersion returns a flow as it was at a version. The flow may be deleted.
func (s *Store) FlowVersion(
	ctx context.Context, scope Scope, flow page.ID, version uint64,
) (model.Object, error) {
	o := model.Object{ID: flow, Tenant: scope.Tenant, Environment: scope.Environment,
		Kind: model.KindFlow, Version: version}
	var spec string
	var created int64
	found, err := s.read(ctx).row(`SELECT name, spec, created FROM flow_versions
		WHERE flow = ? AND version = ? AND tenant = ? AND environment = ?`,
		[]any{flow.String(), int64(version), scope.Tenant.String(), scope.Environment.String()}, &o.Name,
		&spec, &created)
	if err == nil && !found {
		err = notFound("flow version", fmt.Sprintf("%s/%d", flow, version))
	}
	if err != nil {
		return model.Object{}, fmt.Errorf("read flow %s version %d: %w", flow, version, err)
	}
	o.Spec, o.Created, o.Updated = json.RawMessage(spec), timeOf(created), timeOf(created)
	return o, nil
}
