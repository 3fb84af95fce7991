package model

import (
	"encoding/json"
	"time"

	"ropeway/protocol/page"
)

// Object is one stored manifest: an id that never changes, a name that may, and
// the kind's own fields as canonical JSON. Version counts the changes from 1;
// every version of a Flow is kept.
type Object struct {
	ID          page.ID           `json:"id"`
	Tenant      page.ID           `json:"tenant"`
	Environment page.ID           `json:"environment"`
	Kind        Kind              `json:"kind"`
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Version     uint64            `json:"version"`
	Spec        json.RawMessage   `json:"spec"`
	Created     time.Time         `json:"created"`
	Updated     time.Time         `json:"updated"`
}

// Place names the stage of one tenant that an object, a job or a request belongs to.
type Place struct {
	Tenant      page.ID `json:"tenant"`
	Environment page.ID `json:"environment"`
}

// Place returns where the object lives.
func (o Object) Place() Place { return Place{Tenant: o.Tenant, Environment: o.Environment} }
