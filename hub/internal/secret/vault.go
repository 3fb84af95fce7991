package secret

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
	"golang.org/x/sync/singleflight"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// What the engine keeps in memory. An operator who seals Vault can count on the
// data keys being gone keysAge later; a secret changed behind the hub is seen
// after fieldsAge. The keys of hashes open nothing and stay.
const (
	keysKept   = 4096
	keysAge    = time.Hour
	fieldsKept = 1024
	fieldsAge  = 5 * time.Second
)

// Vault is the engine over HashiCorp Vault. Secrets are in KV v2 below
// ropeway/TENANT/ENVIRONMENT/ID; data keys are made here, wrapped by the tenant's
// key of transit and kept in KV too. Any number of processes may share a Vault.
type Vault struct {
	cfg    VaultConfig
	client *api.Client
	keeper *keeper

	dialled *dialled
	keys    *cache[*page.Key]
	macs    *cache[[32]byte]
	fields  *cache[versioned]
	flight  singleflight.Group
	proven  atomic.Bool // Health has written once
}

type versioned struct {
	fields  map[string]string
	version uint64
}

// OpenVault prepares the engine; only settings that cannot work make it fail. It
// signs in by itself, now or when Vault can be reached. Close ends it.
func OpenVault(cfg VaultConfig, log *slog.Logger) (*Vault, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fault.Of("E_CONFIG").WithSource("hub").WithCause("secrets.vault." + err.Error())
	}
	roots, err := readRoots(cfg.CA)
	if err != nil {
		return nil, fault.Of("E_CONFIG").WithSource("hub").WithCause("secrets.vault: " + err.Error())
	}
	known := &dialled{addrs: map[netip.AddrPort]struct{}{}}
	client, err := newVaultClient(cfg, roots, known)
	if err != nil {
		return nil, fault.Of("E_CONFIG").WithSource("hub").WithCause(err)
	}
	v := &Vault{
		cfg: cfg, client: client, keeper: newKeeper(cfg, client, log), dialled: known,
		keys: newCache[*page.Key](keysKept, keysAge), macs: newCache[[32]byte](keysKept, 0),
		fields: newCache[versioned](fieldsKept, fieldsAge),
	}
	go v.keeper.run()
	return v, nil
}

// Close ends the engine and gives its session back to Vault.
func (v *Vault) Close() error {
	v.keeper.close()
	v.client.CloneConfig().HttpClient.CloseIdleConnections()
	return nil
}

// Addresses are the addresses of Vault as far as the hub has met them.
func (v *Vault) Addresses() []netip.AddrPort { return v.dialled.list() }

// request is one request to Vault with a valid token.
type request func(ctx context.Context, c *api.Client) (*api.Secret, error)

// ask makes a request. When Vault does not know the token any more, the hub signs
// in and asks once again.
func (v *Vault) ask(ctx context.Context, r request) (*api.Secret, error) {
	answer, err := v.try(ctx, r)
	if ctx.Err() == nil {
		v.keeper.note(lasting(err))
	}
	return answer, err
}

func (v *Vault) try(ctx context.Context, r request) (*api.Secret, error) {
	for first := true; ; first = false {
		token, err := v.keeper.token(ctx)
		if err != nil {
			return nil, vaultFault(ctx, err)
		}
		answer, err := r(ctx, as(v.client, token))
		if first && forbidden(err) && v.keeper.dead(ctx, token) {
			continue
		}
		return answer, v.readable(ctx, err)
	}
}

// readable leaves what a caller looks into as it is: a request that was wrong.
func (v *Vault) readable(ctx context.Context, err error) error {
	if badRequest(err) {
		return err
	}
	return vaultFault(ctx, err, v.keeper.secrets()...)
}

// lasting is err when it keeps the hub from its secrets as a whole.
func lasting(err error) error {
	if fault.ClassOf(err) != fault.Intermittent {
		return nil
	}
	return err
}

func (v *Vault) data(path string) string { return v.cfg.Mount + "/data/ropeway/" + path }

func secretPath(tenant, env, id page.ID) string {
	return tenant.String() + "/" + env.String() + "/" + id.String()
}

// Put implements Engine.
func (v *Vault) Put(ctx context.Context, tenant, env, id page.ID, fields map[string]string) error {
	if err := checkFields(fields); err != nil {
		return err
	}
	path := secretPath(tenant, env, id)
	_, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return write(ctx, c, v.data(path), map[string]any{"data": fields})
	})
	v.fields.drop(path) // also after an error: it may have been written
	if err != nil {
		return fmt.Errorf("write secret %s: %w", id, v.vaultError(ctx, err))
	}
	return nil
}

// Fields implements Engine.
func (v *Vault) Fields(
	ctx context.Context, tenant, env, id page.ID,
) (map[string]string, uint64, error) {
	path := secretPath(tenant, env, id)
	known, found := v.fields.get(path)
	if !found {
		var err error
		if known, err = v.load(ctx, path); err != nil {
			return nil, 0, fmt.Errorf("read secret %s: %w", id, err)
		}
	}
	fields := make(map[string]string, len(known.fields))
	for name, value := range known.fields {
		fields[name] = value
	}
	return fields, known.version, nil
}

// load reads a secret; those who ask for the same one at a time share the answer.
func (v *Vault) load(ctx context.Context, path string) (versioned, error) {
	mark := v.fields.mark()
	return once(ctx, &v.flight, fmt.Sprintf("fields %s %d", path, mark), func(ctx context.Context) (versioned, error) {
		answer, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
			return read(ctx, c, v.data(path))
		})
		if err != nil {
			return versioned{}, v.vaultError(ctx, err)
		}
		data, version := kvData(answer)
		if data == nil {
			return versioned{}, fault.Of("E_NO_CREDENTIAL").WithSource("vault").
				WithFix("set its value with `ropeway secret set`")
		}
		out := versioned{fields: map[string]string{}, version: version}
		for name, value := range data {
			text, isText := fieldText(value)
			if !isText {
				return versioned{}, fault.Of("E_NO_CREDENTIAL").WithSource("vault").
					WithCause("a field in Vault is not a text").WithFix("set its value with `ropeway secret set`")
			}
			out.fields[name] = text
		}
		v.fields.put(path, out, mark)
		return out, nil
	})
}

// Delete implements Engine. It destroys all versions; what stays in Vault is how
// many there were.
func (v *Vault) Delete(ctx context.Context, tenant, env, id page.ID) error {
	path := secretPath(tenant, env, id)
	answer, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return read(ctx, c, v.cfg.Mount+"/metadata/ropeway/"+path)
	})
	if versions := standing(answer); err == nil && len(versions) > 0 {
		_, err = v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
			return write(ctx, c, v.cfg.Mount+"/destroy/ropeway/"+path, map[string]any{"versions": versions})
		})
	}
	v.fields.drop(path)
	if err != nil {
		return fmt.Errorf("delete secret %s: %w", id, v.vaultError(ctx, err))
	}
	return nil
}

// Health implements Engine: it reads from KV, wraps and unwraps by transit, and
// once in the life of the process also writes.
func (v *Vault) Health(ctx context.Context) error {
	err := v.prove(ctx)
	if err != nil {
		return fmt.Errorf("check secrets: %w", v.vaultError(ctx, err))
	}
	return nil
}

func (v *Vault) prove(ctx context.Context) error {
	const path = "health"
	if !v.proven.Load() {
		_, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
			return write(ctx, c, v.data(path), map[string]any{"data": map[string]any{"format": keysFormat}})
		})
		if err != nil {
			return err
		}
		v.proven.Store(true)
	}
	_, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return read(ctx, c, v.data(path))
	})
	if err != nil {
		return err
	}
	probe := random32()
	wrapped, err := v.wrap(ctx, path, probe[:], []byte(path))
	if err != nil {
		return err
	}
	back, err := v.unwrap(ctx, path, wrapped, []byte(path))
	if err == nil && back != probe {
		err = fault.Of("E_CHECKSUM").WithSource("vault")
	}
	return err
}

// vaultError makes a request that was wrong readable too.
func (v *Vault) vaultError(ctx context.Context, err error) error {
	return vaultFault(ctx, err, v.keeper.secrets()...)
}

// kvData is the content and the version of a KV answer; nil when there is none or
// it was deleted.
func kvData(answer *api.Secret) (data map[string]any, version uint64) {
	if answer == nil {
		return nil, 0
	}
	if meta, ok := answer.Data["metadata"].(map[string]any); ok {
		if n, ok := meta["version"].(json.Number); ok {
			version, _ = strconv.ParseUint(n.String(), 10, 64)
		}
	}
	data, _ = answer.Data["data"].(map[string]any)
	return data, version
}

// standing are the versions that the metadata of a secret say are still there.
func standing(answer *api.Secret) (versions []json.Number) {
	if answer == nil {
		return nil
	}
	all, _ := answer.Data["versions"].(map[string]any)
	for number, about := range all {
		if m, ok := about.(map[string]any); ok && m["destroyed"] != true {
			versions = append(versions, json.Number(number))
		}
	}
	return versions
}

// fieldText is a field as text; what people write into Vault by hand may be a
// number.
func fieldText(value any) (string, bool) {
	switch x := value.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// once shares one call among all who ask for the same key at the same time. The
// call goes on when the first of them has lost interest.
func once[T any](
	ctx context.Context, flight *singleflight.Group, key string, call func(context.Context) (T, error),
) (T, error) {
	done := flight.DoChan(key, func() (any, error) {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*vaultTimeout)
		defer cancel()
		return call(limited)
	})
	select {
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("ask Vault: %w", ctx.Err())
	case r := <-done:
		return r.Val.(T), r.Err
	}
}
