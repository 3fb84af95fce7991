package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/protocol/page"
)

// Tenant is one customer of the hub.
type Tenant struct {
	ID      page.ID   `json:"id"`
	Name    string    `json:"name"`
	Egress  string    `json:"egress,omitempty"` // "private" lets hub-side steps dial private ranges
	Created time.Time `json:"created"`
}

// Environment is a stage of a tenant.
type Environment struct {
	ID      page.ID   `json:"id"`
	Tenant  page.ID   `json:"tenant"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// EnsureTenant returns the tenant of that name and makes it first if it is not
// there; egress is used only then. It is an operator's call.
func (s *Store) EnsureTenant(
	ctx context.Context, name, egress string, now time.Time,
) (Tenant, error) {
	var out Tenant
	err := s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO tenants (id, name, egress, created) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO NOTHING`, page.NewID().String(), name, egress, micros(now)); err != nil {
			return err
		}
		var err error
		out, _, err = tenantBy(t, `name`, name)
		return err
	})
	if err != nil {
		return Tenant{}, fmt.Errorf("ensure tenant %s: %w", name, err)
	}
	return out, nil
}

func tenantBy(q querier, column, value string) (Tenant, bool, error) {
	var t Tenant
	var created int64
	found, err := q.row(`SELECT id, name, egress, created FROM tenants WHERE `+column+` = ?`,
		[]any{value}, idScan{&t.ID}, &t.Name, &t.Egress, &created)
	t.Created = timeOf(created)
	return t, found, err
}

// Tenant returns one tenant by its id.
func (s *Store) Tenant(ctx context.Context, id page.ID) (Tenant, error) {
	return s.tenant(ctx, `id`, id.String())
}

// TenantByName returns one tenant by its name.
func (s *Store) TenantByName(ctx context.Context, name string) (Tenant, error) {
	return s.tenant(ctx, `name`, name)
}

func (s *Store) tenant(ctx context.Context, column, value string) (Tenant, error) {
	t, found, err := tenantBy(s.read(ctx), column, value)
	if err == nil && !found {
		err = notFound("tenant", value)
	}
	if err != nil {
		return Tenant{}, fmt.Errorf("read tenant: %w", err)
	}
	return t, nil
}

// Tenants lists all tenants by name. It is an operator's call.
func (s *Store) Tenants(ctx context.Context) ([]Tenant, error) {
	list := []Tenant{}
	rows, err := s.read(ctx).query(`SELECT id, name, egress, created FROM tenants ORDER BY name`)
	err = each(rows, err, func(r rowScanner) error {
		var t Tenant
		var created int64
		err := r.Scan(idScan{&t.ID}, &t.Name, &t.Egress, &created)
		t.Created = timeOf(created)
		list = append(list, t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	return list, nil
}

// EnsureEnvironment returns the environment of that name and makes it first if
// it is not there.
func (s *Store) EnsureEnvironment(
	ctx context.Context, tenant page.ID, name string, now time.Time,
) (Environment, error) {
	var out Environment
	err := s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO environments (id, tenant, name, created) VALUES (?, ?, ?, ?)
			ON CONFLICT (tenant, name) DO NOTHING`, page.NewID().String(), tenant.String(), name,
			micros(now)); err != nil {
			return err
		}
		list, err := environmentsOf(t, tenant)
		for _, e := range list {
			if e.Name == name {
				out = e
			}
		}
		return err
	})
	if err != nil {
		return Environment{}, fmt.Errorf("ensure environment %s: %w", name, err)
	}
	return out, nil
}

// Environments lists the environments of a tenant by name.
func (s *Store) Environments(ctx context.Context, tenant page.ID) ([]Environment, error) {
	list, err := environmentsOf(s.read(ctx), tenant)
	if err != nil {
		return nil, fmt.Errorf("list environments: %w", err)
	}
	return list, nil
}

// EnvironmentByName returns one environment of a tenant.
func (s *Store) EnvironmentByName(
	ctx context.Context, tenant page.ID, name string,
) (Environment, error) {
	list, err := s.Environments(ctx, tenant)
	if err != nil {
		return Environment{}, err
	}
	for _, e := range list {
		if e.Name == name {
			return e, nil
		}
	}
	return Environment{}, notFound("environment", name)
}

func environmentsOf(q querier, tenant page.ID) ([]Environment, error) {
	list := []Environment{}
	rows, err := q.query(`SELECT id, tenant, name, created FROM environments WHERE tenant = ? ORDER BY
		name`,
		tenant.String())
	err = each(rows, err, func(r rowScanner) error {
		var e Environment
		var created int64
		err := r.Scan(idScan{&e.ID}, idScan{&e.Tenant}, &e.Name, &created)
		e.Created = timeOf(created)
		list = append(list, e)
		return err
	})
	return list, err
}

// Places lists every environment of every tenant. It is the engine's own call.
func (s *Store) Places(ctx context.Context) ([]Scope, error) {
	var list []Scope
	rows, err := s.read(ctx).query(`SELECT tenant, id FROM environments ORDER BY tenant, name`)
	err = each(rows, err, func(r rowScanner) error {
		var p Scope
		err := r.Scan(idScan{&p.Tenant}, idScan{&p.Environment})
		list = append(list, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list places: %w", err)
	}
	return list, nil
}

// Meta returns a setting that the hub keeps about itself; empty if not set.
func (s *Store) Meta(ctx context.Context, name string) (string, error) {
	var value string
	if _, err := s.read(ctx).row(`SELECT value FROM meta WHERE name = ?`, []any{name},
		&value); err != nil {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return value, nil
}

// SetMeta keeps a setting of the hub about itself.
func (s *Store) SetMeta(ctx context.Context, name, value string) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO meta (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep setting %s: %w", name, err)
	}
	return nil
}
