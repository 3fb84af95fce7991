package api

import (
	"context"
	"log/slog"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// Config is what the API stands on. All fields are required unless they say
// otherwise.
type Config struct {
	Version     string
	Access      Access
	Places      Places
	Objects     Objects
	Jobs        Jobs
	Parked      Parked
	Flows       Flows
	Connections Connections
	Secrets     Secrets
	Agents      Agents
	Audit       Audit
	Connectors  Connectors
	// Changed, which may be nil, is told of every object after it was created,
	// changed, given a secret or deleted, so that what runs can follow.
	Changed func(ctx context.Context, o model.Object)
	Clock   func() time.Time
	Log     *slog.Logger
}

// Access knows the callers.
type Access interface {
	// Authenticate returns who holds a bearer token, or E_UNAUTHENTICATED.
	Authenticate(ctx context.Context, token string) (Caller, error)
}

// Caller is who makes a request. The tenant is never taken from anywhere else.
type Caller struct {
	Name         string    // for the audit log
	Tenant       page.ID   // of the token
	Role         string    // viewer, operator, builder or admin
	Environments []page.ID // empty = all of the tenant
}

// Places finds environments by name.
type Places interface {
	EnvironmentByName(ctx context.Context, tenant page.ID, name string) (store.Environment, error)
	Environments(ctx context.Context, tenant page.ID) ([]store.Environment, error)
}

// Objects keeps the objects of all kinds.
type Objects interface {
	Object(ctx context.Context, scope store.Scope, kind model.Kind, name string) (model.Object, error)
	Objects(ctx context.Context, scope store.Scope, kind model.Kind) ([]model.Object, error)
	ApplyObjects(ctx context.Context, scope store.Scope, actor string, changes []store.Change, now time.Time) ([]store.Applied, error)
	DeleteObject(ctx context.Context, scope store.Scope, d store.Deletion) error
}

// Jobs reads jobs.
type Jobs interface {
	Job(ctx context.Context, scope store.Scope, id page.ID) (model.Job, error)
	Jobs(ctx context.Context, scope store.Scope, f store.JobFilter, limit int, cursor string) (store.JobList, error)
	Prove(ctx context.Context, scope store.Scope, id page.ID, now time.Time) (model.Proof, error)
}

// Parked finds parked records, sealed.
type Parked interface {
	Parked(ctx context.Context, scope store.Scope, f store.ParkedFilter, limit int, cursor string) (store.ParkedList, error)
	ParkedByID(ctx context.Context, scope store.Scope, id page.ID) (store.Parked, error)
}

// Flows runs flows and what belongs to their jobs.
type Flows interface {
	Start(ctx context.Context, scope store.Scope, flow string) (model.Job, error)
	Cancel(ctx context.Context, scope store.Scope, job page.ID) (model.Job, error)
	// Check says whether a flow can be deployed.
	Check(f *model.Flow) error
	Parkings
	// Watch returns a channel that receives after a job changed, and its end.
	Watch(job page.ID) (<-chan struct{}, func())
}

// Parkings opens, edits and retries parked records.
type Parkings interface {
	Open(ctx context.Context, r store.Parked) (model.ParkedRecord, error)
	Edit(ctx context.Context, scope store.Scope, id page.ID, record []byte, actor string) error
	Retry(ctx context.Context, scope store.Scope, ids []page.ID) (model.Job, error)
}

// Connections looks at and steers connections, by name.
type Connections interface {
	QueueOf(ctx context.Context, scope store.Scope, name string) (model.ConnectionQueue, error)
	// Ping does the least that proves that the connection works.
	Ping(ctx context.Context, scope store.Scope, name string) error
	Pause(ctx context.Context, scope store.Scope, name, actor string) error
	Resume(ctx context.Context, scope store.Scope, name, actor string) error
}

// Secrets keeps the values of credentials. They go in and never come out here.
type Secrets interface {
	// Set stores the fields of a credential and returns their new version.
	Set(ctx context.Context, credential model.Object, fields map[string]string, actor string) (uint64, error)
	// Version returns the version of a credential's value; 0 = it has none.
	Version(ctx context.Context, credential model.Object) (uint64, error)
}

// Agents knows the enrolled agents and whether they are connected.
type Agents interface {
	Agents(ctx context.Context, scope store.Scope) ([]model.Agent, error)
	Revoke(ctx context.Context, scope store.Scope, name, actor string) (model.Agent, error)
	// Token makes a one-time enrollment token for a group.
	Token(ctx context.Context, group model.Object, r TokenRequest, actor string) (model.Token, error)
}

// TokenRequest says what an enrollment token may be used for.
type TokenRequest struct {
	Name string        // the only name it may be used with; empty = any
	TTL  time.Duration // 0 = the default, one hour
	Uses int           // 0 = one
}

// Audit reads the audit log.
type Audit interface {
	AuditEntries(ctx context.Context, tenant page.ID, limit int, before uint64) (store.AuditList, error)
	VerifyAudit(ctx context.Context, tenant page.ID) (uint64, error)
}

// Connectors knows the connectors of this build.
type Connectors interface {
	Names() []string
	// CheckSettings refuses settings that the connector's schema does not allow.
	CheckSettings(connector string, settings map[string]any) error
	// SettingsSchema returns the JSON Schema of a connector's settings.
	SettingsSchema(connector string) model.Schema
}
