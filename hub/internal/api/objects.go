package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
)

// kindPath is the path segment of each kind: /api/v1/agent-groups, …
func kindPath(k model.Kind) string {
	if k == model.KindAgentGroup {
		return "agent-groups"
	}
	return strings.ToLower(string(k)) + "s"
}

// Named is an object of an environment, by name.
type Named struct {
	Where
	Name string `path:"name" maxLength:"63" doc:"The name."`
}

type listInput struct {
	Where
	Paging
	Label string `query:"label" maxLength:"320" doc:"Only objects with this label, as key or key=value."`
}

type objectList struct{ Body list[model.Object] }

type objectOutput struct {
	ETag string `header:"ETag"`
	Body model.Object
}

type deleteInput struct {
	Named
	Purge   bool   `query:"purge" doc:"Also drop queued pages and parked records."`
	IfMatch string `header:"If-Match" maxLength:"64" doc:"Refuse unless the object has this ETag."`
}

func (s *server) objectRoutes() {
	s.applyRoute()
	for _, kind := range model.Kinds() {
		s.kindRoutes(kind, "/api/v1/"+kindPath(kind))
	}
}

func (s *server) kindRoutes(kind model.Kind, path string) {
	word := strings.TrimSuffix(kindPath(kind), "s")
	route(s, op{id: "list-" + word + "s", method: http.MethodGet, path: path, right: access.View,
		summary: "List the objects of kind " + string(kind)},
		func(ctx context.Context, in *listInput) (*objectList, error) {
			scope, err := s.scope(ctx, in.Where)
			if err != nil {
				return nil, err
			}
			objects, err := s.Objects.Objects(ctx, scope, kind)
			if err != nil {
				return nil, err
			}
			return &objectList{Body: cut(labelled(objects, in.Label), in.Paging)}, nil
		})
	route(s, op{id: "get-" + word, method: http.MethodGet, path: path + "/{name}", right: access.View,
		summary: "Show one object of kind " + string(kind)},
		func(ctx context.Context, in *Named) (*objectOutput, error) {
			o, _, err := s.object(ctx, in.Where, kind, in.Name)
			return &objectOutput{ETag: etag(o), Body: o}, err
		})
	route(s, op{id: "delete-" + word, method: http.MethodDelete, path: path + "/{name}", right: access.Build,
		status: http.StatusNoContent, summary: "Delete one object of kind " + string(kind)},
		func(ctx context.Context, in *deleteInput) (*struct{}, error) {
			return nil, s.remove(ctx, kind, in)
		})
}

// object finds one object; a name that cannot be one is not there.
func (s *server) object(ctx context.Context, w Where, kind model.Kind, name string) (model.Object, store.Scope, error) {
	scope, err := s.scope(ctx, w)
	if err != nil {
		return model.Object{}, scope, err
	}
	if !model.ValidName(name) {
		return model.Object{}, scope, fault.Of("E_NOT_FOUND").WithCause("there is no " + string(kind) + " of this name")
	}
	o, err := s.Objects.Object(ctx, scope, kind, name)
	return o, scope, err
}

func (s *server) remove(ctx context.Context, kind model.Kind, in *deleteInput) error {
	o, scope, err := s.object(ctx, in.Where, kind, in.Name)
	if err != nil {
		return err
	}
	if in.IfMatch != "" && in.IfMatch != "*" && in.IfMatch != etag(o) {
		return stale(o)
	}
	existing, err := s.shelf(ctx, scope)
	if err != nil {
		return err
	}
	if users := model.UsedBy(kind, in.Name, existing); len(users) > 0 {
		return fault.Of("E_IN_USE").WithCause(string(kind) + " " + in.Name + " is used by " + strings.Join(users, ", "))
	}
	err = s.Objects.DeleteObject(ctx, scope, store.Deletion{Kind: kind, Name: in.Name, Purge: in.Purge,
		Actor: callerOf(ctx).Name, Now: s.Clock()})
	if err == nil {
		s.changed(ctx, o)
	}
	return err
}

func labelled(objects []model.Object, label string) []model.Object {
	if label == "" {
		return objects
	}
	key, value, exact := strings.Cut(label, "=")
	return slices.DeleteFunc(objects, func(o model.Object) bool {
		v, ok := o.Labels[key]
		return !ok || exact && v != value
	})
}

// cut returns the piece of a list after the cursor, which is a name.
func cut(objects []model.Object, p Paging) list[model.Object] {
	slices.SortFunc(objects, func(a, b model.Object) int { return cmp.Compare(a.Name, b.Name) })
	from, found := slices.BinarySearchFunc(objects, p.Cursor, func(o model.Object, name string) int {
		return cmp.Compare(o.Name, name)
	})
	if found {
		from++
	}
	objects = objects[from:]
	if len(objects) <= p.Limit {
		return listOf(objects, "")
	}
	return listOf(objects[:p.Limit], objects[p.Limit-1].Name)
}

// ensure returns an object and makes an empty one first if it is not there:
// `apply`, `secret set` and `agent token` may come in any order.
func (s *server) ensure(ctx context.Context, w Where, kind model.Kind, name string, spec any) (model.Object, error) {
	o, scope, err := s.object(ctx, w, kind, name)
	if err == nil || fault.From(err).Code != "E_NOT_FOUND" || !model.ValidName(name) || scope == (store.Scope{}) {
		return o, err
	}
	raw, err := model.EncodeSpec(spec)
	if err != nil {
		return o, err
	}
	applied, err := s.Objects.ApplyObjects(ctx, scope, callerOf(ctx).Name, []store.Change{{Kind: kind, Name: name, Spec: raw}}, s.Clock())
	if err != nil {
		return o, err
	}
	s.changed(ctx, applied[0].Object)
	return applied[0].Object, nil
}
