package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// tenantKeys are the opened data keys of one tenant.
type tenantKeys struct {
	current *page.Key
	keys    map[string]*page.Key
}

// DataKey implements Engine.
func (e *Embedded) DataKey(ctx context.Context, tenant page.ID) (*page.Key, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current(tenant)
}

// KeyByID implements Engine.
func (e *Embedded) KeyByID(ctx context.Context, tenant page.ID, id string) (*page.Key, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byID(tenant, id)
}

func (e *Embedded) byID(tenant page.ID, id string) (*page.Key, error) {
	k, err := e.keysOf(tenant)
	if err != nil {
		return nil, err
	}
	if key := k.keys[id]; key != nil {
		return key, nil
	}
	return nil, fault.Of("E_SEALED").WithSource("hub").
		WithCause("the tenant has no key of the id it was sealed with")
}

// current returns the tenant's key for sealing and makes its first one.
func (e *Embedded) current(tenant page.ID) (*page.Key, error) {
	k, err := e.keysOf(tenant)
	if err != nil || k.current != nil {
		return k.currentOrNil(), err
	}
	id, raw := page.NewID(), random32()
	key, err := page.NewKey(id.String(), raw)
	if err != nil {
		return nil, fmt.Errorf("make data key: %w", err)
	}
	sealed := e.root.seal(raw[:], dataKeyAAD(tenant, id))
	if err := writeDurably(filepath.Join(e.keyDir(tenant), id.String()+keySuffix),
		sealed); err != nil {
		return nil, fmt.Errorf("keep data key: %w", err)
	}
	k.current, k.keys[id.String()] = key, key
	return key, nil
}

func (k *tenantKeys) currentOrNil() *page.Key {
	if k == nil {
		return nil
	}
	return k.current
}

const keySuffix = ".key"

func (e *Embedded) keyDir(tenant page.ID) string {
	return filepath.Join(e.cfg.Dir, tenant.String(), "keys")
}

func dataKeyAAD(tenant, id page.ID) []byte {
	return []byte("ropeway data key 1 " + tenant.String() + " " + id.String())
}

// keysOf opens the data keys of a tenant once; the newest is the current one.
func (e *Embedded) keysOf(tenant page.ID) (*tenantKeys, error) {
	if k := e.tenants[tenant]; k != nil {
		return k, nil
	}
	entries, err := os.ReadDir(e.keyDir(tenant))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read data keys: %w", err)
	}
	k := &tenantKeys{keys: map[string]*page.Key{}}
	var newest page.ID
	for _, entry := range entries {
		name, isKey := strings.CutSuffix(entry.Name(), keySuffix)
		id, err := page.ParseID(name)
		if !isKey || err != nil {
			continue // a temporary file that a crash left
		}
		key, err := e.openDataKey(tenant, id)
		if err != nil {
			return nil, err
		}
		k.keys[key.ID()] = key
		if bytes.Compare(id[:], newest[:]) > 0 {
			newest, k.current = id, key
		}
	}
	e.tenants[tenant] = k
	return k, nil
}

func (e *Embedded) openDataKey(tenant, id page.ID) (*page.Key, error) {
	sealed, err := readBounded(filepath.Join(e.keyDir(tenant), id.String()+keySuffix))
	if err != nil {
		return nil, fmt.Errorf("read data key %s: %w", id, err)
	}
	raw, err := e.root.open(sealed, dataKeyAAD(tenant, id))
	if err == nil && len(raw) != 32 {
		err = errors.New("it does not hold 32 bytes")
	}
	if err != nil {
		return nil, fmt.Errorf("open data key %s: %w", id, sealedFault(err))
	}
	return page.NewKey(id.String(), [32]byte(raw))
}
