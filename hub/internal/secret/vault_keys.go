package secret

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// keyring are the wrapped keys of a tenant, one document in KV at
// ropeway/TENANT/keys. Check-and-set makes it once, whoever comes first.
type keyring struct {
	Format  string            `json:"format"`
	Current string            `json:"current"`
	Keys    map[string]string `json:"keys"` // data keys by id
	MAC     string            `json:"mac"`  // the key of keyed hashes
}

const keysFormat = "ropeway vault keys 1"

// DataKey implements Engine.
func (v *Vault) DataKey(ctx context.Context, tenant page.ID) (*page.Key, error) {
	return v.key(ctx, tenant, "")
}

// KeyByID implements Engine.
func (v *Vault) KeyByID(ctx context.Context, tenant page.ID, id string) (*page.Key, error) {
	if id == "" {
		return nil, noSuchKey()
	}
	return v.key(ctx, tenant, id)
}

// key returns a key of a tenant, the current one where no id is given.
func (v *Vault) key(ctx context.Context, tenant page.ID, id string) (*page.Key, error) {
	name := tenant.String() + "/" + id
	if key, found := v.keys.get(name); found {
		return key, nil
	}
	mark := v.keys.mark()
	return once(ctx, &v.flight, "key "+name, func(ctx context.Context) (*page.Key, error) {
		ring, err := v.keyring(ctx, tenant, id == "")
		if err != nil {
			return nil, fmt.Errorf("open data key: %w", err)
		}
		wanted := id
		if wanted == "" {
			wanted = ring.Current
		}
		key, err := v.openKey(ctx, tenant, wanted, ring)
		if err != nil {
			return nil, fmt.Errorf("open data key: %w", err)
		}
		v.keys.put(name, key, mark)
		return key, nil
	})
}

func (v *Vault) openKey(ctx context.Context, tenant page.ID, id string, ring keyring) (*page.Key, error) {
	wrapped, found := ring.Keys[id]
	parsed, err := page.ParseID(id)
	if !found || err != nil {
		return nil, noSuchKey()
	}
	raw, err := v.unwrap(ctx, tenant.String(), wrapped, dataKeyAAD(tenant, parsed))
	if err != nil {
		return nil, err
	}
	return page.NewKey(id, raw)
}

// MAC implements Engine.
func (v *Vault) MAC(ctx context.Context, tenant page.ID, purpose string, data []byte) (page.Hash, error) {
	key, err := v.macKey(ctx, tenant)
	if err != nil {
		return page.Hash{}, fmt.Errorf("make keyed hash: %w", err)
	}
	return keyedHash(key, purpose, data), nil
}

func (v *Vault) macKey(ctx context.Context, tenant page.ID) ([32]byte, error) {
	name := tenant.String()
	if key, found := v.macs.get(name); found {
		return key, nil
	}
	mark := v.macs.mark()
	return once(ctx, &v.flight, "mac "+name, func(ctx context.Context) ([32]byte, error) {
		ring, err := v.keyring(ctx, tenant, true)
		if err != nil {
			return [32]byte{}, err
		}
		key, err := v.unwrap(ctx, name, ring.MAC, macAAD(tenant))
		if err == nil {
			v.macs.put(name, key, mark)
		}
		return key, err
	})
}

func keyringPath(tenant page.ID) string { return tenant.String() + "/keys" }

// keyring reads the tenant's keys and makes them where there are none, if create
// allows. It never makes new ones in the place of deleted ones: what they have
// sealed could not be opened any more.
func (v *Vault) keyring(ctx context.Context, tenant page.ID, create bool) (keyring, error) {
	answer, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return read(ctx, c, v.data(keyringPath(tenant)))
	})
	if err != nil {
		return keyring{}, v.vaultError(ctx, err)
	}
	data, version := kvData(answer)
	switch {
	case data != nil:
		return parseKeyring(data)
	case version > 0:
		return keyring{}, fault.Of("E_SEALED").WithSource("vault").
			WithCause("the keys of the tenant were deleted in Vault").
			WithFix("undelete " + v.data(keyringPath(tenant)) + " or restore it from a backup")
	case !create:
		return keyring{}, noSuchKey()
	}
	return v.makeKeyring(ctx, tenant)
}

func (v *Vault) makeKeyring(ctx context.Context, tenant page.ID) (keyring, error) {
	id := page.NewID()
	key, mac := random32(), random32()
	wrappedKey, err := v.wrap(ctx, tenant.String(), key[:], dataKeyAAD(tenant, id))
	if err != nil {
		return keyring{}, err
	}
	wrappedMAC, err := v.wrap(ctx, tenant.String(), mac[:], macAAD(tenant))
	if err != nil {
		return keyring{}, err
	}
	ring := keyring{Format: keysFormat, Current: id.String(), Keys: map[string]string{id.String(): wrappedKey},
		MAC: wrappedMAC}
	_, err = v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return write(ctx, c, v.data(keyringPath(tenant)), map[string]any{
			"data": ring, "options": map[string]any{"cas": 0},
		})
	})
	if answer := answerOf(err); answer != nil && says(answer, "check-and-set") {
		return v.keyring(ctx, tenant, false) // another was first
	}
	return ring, v.vaultError(ctx, err)
}

func parseKeyring(data map[string]any) (ring keyring, err error) {
	raw, err := json.Marshal(data)
	if err == nil {
		err = json.Unmarshal(raw, &ring)
	}
	if err != nil || ring.Format != keysFormat {
		return keyring{}, fault.Of("E_SEALED").WithSource("vault").
			WithCause("the keys of the tenant in Vault are not of a known form").
			WithFix("restore them from a backup")
	}
	return ring, nil
}

func noSuchKey() error {
	return fault.Of("E_SEALED").WithSource("vault").
		WithCause("the tenant has no key of the id it was sealed with")
}

// wrap has transit encrypt a key for a tenant, whose key there is made at the
// first use.
func (v *Vault) wrap(ctx context.Context, tenant string, raw, aad []byte) (string, error) {
	answer, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return write(ctx, c, v.cfg.Transit+"/encrypt/ropeway-"+tenant, map[string]any{
			"plaintext":       base64.StdEncoding.EncodeToString(raw),
			"associated_data": base64.StdEncoding.EncodeToString(aad),
		})
	})
	if err != nil {
		return "", v.vaultError(ctx, err)
	}
	text, ok := field(answer, "ciphertext")
	switch {
	case !ok:
		return "", vaultUnreachable("transit gave no ciphertext")
	case strings.Contains(strings.Join(answer.Warnings, " "), "associated_data"):
		// It would not bind the key to its tenant, and a newer Vault could not open it.
		return "", vaultUnreachable("this Vault is older than 1.13")
	}
	return text, nil
}

// unwrap has transit decrypt a key. A ciphertext that it does not open is
// E_SEALED, for people to look at.
func (v *Vault) unwrap(ctx context.Context, tenant, wrapped string, aad []byte) (key [32]byte, err error) {
	answer, err := v.ask(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return write(ctx, c, v.cfg.Transit+"/decrypt/ropeway-"+tenant, map[string]any{
			"ciphertext": wrapped, "associated_data": base64.StdEncoding.EncodeToString(aad),
		})
	})
	if refusal := answerOf(err); badRequest(err) {
		return key, fault.Of("E_SEALED").WithSource("vault").
			WithCause("transit does not open a key: " + clean(answerCause(refusal), v.keeper.secrets())).
			WithFix("restore the transit key ropeway-" + tenant + " and allow the version that the key was wrapped with")
	}
	if err != nil {
		return key, v.vaultError(ctx, err)
	}
	text, _ := field(answer, "plaintext")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != len(key) {
		return key, fault.Of("E_SEALED").WithSource("vault").WithCause("a key from transit does not hold 32 bytes")
	}
	return [32]byte(raw), nil
}

func field(answer *api.Secret, name string) (string, bool) {
	if answer == nil {
		return "", false
	}
	text, ok := answer.Data[name].(string)
	return text, ok && text != ""
}
