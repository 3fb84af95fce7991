// Package secret keeps credentials and the keys that seal customer data. It owns
// the seam behind which an engine stands — embedded files here, Vault elsewhere
// — and the type that never prints a secret. It knows no connection and no flow:
// what a secret is for is the caller's business.
package secret

import (
	"context"

	"ropeway/protocol/page"
)

// Engine keeps secrets and data keys of tenants. A missing secret is
// E_NO_CREDENTIAL; one that cannot be opened with the keys at hand is E_SEALED.
// All methods are safe for concurrent use. Fields of a secret are for memory
// only: callers never log, store or return them.
type Engine interface {
	// Put replaces a secret. It is durable when Put returns.
	Put(ctx context.Context, tenant, env, id page.ID, fields map[string]string) error
	// Fields returns a secret and its version, which is higher after each Put,
	// also over a Delete in between.
	Fields(ctx context.Context, tenant, env, id page.ID) (fields map[string]string, version uint64,
		err error)
	// Delete forgets a secret; deleting one that is not there does nothing.
	Delete(ctx context.Context, tenant, env, id page.ID) error
	// DataKey returns the tenant's current key for sealing, made at first use.
	DataKey(ctx context.Context, tenant page.ID) (*page.Key, error)
	// KeyByID returns a present or past key of the tenant, for opening.
	KeyByID(ctx context.Context, tenant page.ID, id string) (*page.Key, error)
	// MAC is a keyed hash of data for a purpose. Equal data of one tenant gives
	// the same hash for ever; without the engine nobody can make or guess one.
	MAC(ctx context.Context, tenant page.ID, purpose string, data []byte) (page.Hash, error)
	// Health reports whether the engine can open and keep secrets now.
	Health(ctx context.Context) error
}

// Bounds of a secret.
const (
	MaxFields     = 64
	MaxFieldName  = 128
	MaxFieldBytes = 64 << 10 // names and values together
)
