package secret

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Config says where the embedded engine keeps its files. The key file must not
// lie inside Dir: whoever copies the data shall not have the key with it.
type Config struct {
	Dir     string // secrets and wrapped data keys, e.g. DATA/secrets
	KeyFile string // the key that wraps them, e.g. DATA/keys/secrets.key; made at first start
}

// Embedded is the engine of a hub without Vault: one sealed file per secret and
// data key. One process at a time may use its folder.
type Embedded struct {
	cfg  Config
	root *keyFile

	mu      sync.Mutex
	tenants map[page.ID]*tenantKeys
	macs    map[page.ID][32]byte
}

// Open opens or prepares the engine. It never makes a new key file where sealed
// data exists already: that data could not be opened any more.
func Open(cfg Config) (*Embedded, error) {
	inside, err := within(cfg.Dir, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("open secrets %s: %w", cfg.Dir, err)
	}
	if inside {
		return nil, fault.Of("E_CONFIG").WithSource("hub").
			WithCause("the key file lies inside the folder of the secrets").
			WithFix("keep the key file apart from the data it opens")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open secrets %s: %w", cfg.Dir, err)
	}
	used, err := notEmpty(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open secrets %s: %w", cfg.Dir, err)
	}
	root, err := openKeyFile(cfg.KeyFile, !used)
	if err != nil {
		return nil, err
	}
	return &Embedded{cfg: cfg, root: root, tenants: map[page.ID]*tenantKeys{}, macs: map[page.ID][32]byte{}}, nil
}

// stored is the sealed content of a secret's file.
type stored struct {
	Version uint64            `json:"version"`
	Deleted bool              `json:"deleted,omitempty"` // keeps the version counting
	Fields  map[string]string `json:"fields,omitempty"`
}

// Put implements Engine.
func (e *Embedded) Put(
	ctx context.Context, tenant, env, id page.ID, fields map[string]string,
) error {
	if err := checkFields(fields); err != nil {
		return err
	}
	return e.change(tenant, env, id, func(s *stored) bool {
		s.Deleted, s.Fields = false, maps.Clone(fields)
		return true
	})
}

// Fields implements Engine.
func (e *Embedded) Fields(
	ctx context.Context, tenant, env, id page.ID,
) (map[string]string, uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, found, err := e.load(tenant, env, id)
	if err != nil {
		return nil, 0, err
	}
	if !found || s.Deleted {
		return nil, 0, fault.Of("E_NO_CREDENTIAL").WithSource("hub").
			WithFix("set its value with `ropeway secret set`")
	}
	return s.Fields, s.Version, nil
}

// Delete implements Engine.
func (e *Embedded) Delete(ctx context.Context, tenant, env, id page.ID) error {
	return e.change(tenant, env, id, func(s *stored) bool {
		if s.Version == 0 || s.Deleted {
			return false
		}
		s.Deleted, s.Fields = true, nil
		return true
	})
}

// change reads a secret, lets edit alter it and writes it with a higher version.
func (e *Embedded) change(tenant, env, id page.ID, edit func(*stored) bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, _, err := e.load(tenant, env, id)
	if err != nil {
		return err
	}
	if !edit(&s) {
		return nil
	}
	s.Version++
	key, err := e.current(tenant)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode secret %s: %w", id, err)
	}
	sealed := page.SealBytes(key, plain, secretAAD(tenant, env, id))
	if err := writeDurably(e.path(tenant, env, id), sealed); err != nil {
		return fmt.Errorf("write secret %s: %w", id, err)
	}
	return nil
}

func (e *Embedded) load(tenant, env, id page.ID) (s stored, found bool, err error) {
	sealed, err := readBounded(e.path(tenant, env, id))
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read secret %s: %w", id, err)
	}
	plain, err := page.OpenBytes(sealed, secretAAD(tenant, env, id), func(key string) (*page.Key,
		error) {
		return e.byID(tenant, key)
	})
	if err != nil {
		return s, false, fmt.Errorf("open secret %s: %w", id, sealedFault(err))
	}
	if err := json.Unmarshal(plain, &s); err != nil {
		return s, false, fmt.Errorf("decode secret %s: %w", id, fault.Of("E_CHECKSUM").WithSource("hub"))
	}
	return s, true, nil
}

// Health implements Engine: it seals, writes, reads and opens a probe.
func (e *Embedded) Health(ctx context.Context) error {
	probe := []byte(time.Now().UTC().Format(time.RFC3339Nano))
	path := filepath.Join(e.cfg.Dir, "health")
	if err := writeDurably(path, e.root.seal(probe, []byte("health"))); err != nil {
		return fmt.Errorf("check secrets: %w", err)
	}
	sealed, err := readBounded(path)
	if err != nil {
		return fmt.Errorf("check secrets: %w", err)
	}
	if _, err := e.root.open(sealed, []byte("health")); err != nil {
		return fmt.Errorf("check secrets: %w", sealedFault(err))
	}
	return nil
}

func (e *Embedded) path(tenant, env, id page.ID) string {
	return filepath.Join(e.cfg.Dir, tenant.String(), env.String(), id.String()+".secret")
}

// secretAAD binds a sealed file to its place: moved elsewhere it does not open.
func secretAAD(tenant, env, id page.ID) []byte {
	return []byte("ropeway secret 1 " + tenant.String() + " " + env.String() + " " + id.String())
}

func checkFields(fields map[string]string) error {
	total := 0
	for name, value := range fields {
		total += len(name) + len(value)
		if name == "" || len(name) > MaxFieldName {
			return fault.Of("E_REQUEST").WithSource("hub").
				WithCause(fmt.Sprintf("a field of a secret needs a name of 1 to %d bytes", MaxFieldName))
		}
	}
	if len(fields) == 0 || len(fields) > MaxFields || total > MaxFieldBytes {
		return fault.Of("E_REQUEST").WithSource("hub").
			WithCause(fmt.Sprintf("a secret has 1 to %d fields of at most %d bytes together", MaxFields,
				MaxFieldBytes))
	}
	return nil
}

// sealedFault says that the keys at hand do not open something.
func sealedFault(err error) error {
	if fault.CodeOf(err) == "E_SEALED" {
		return err
	}
	return fault.Of("E_SEALED").WithSource("hub").Wrap(err)
}

func within(dir, file string) (bool, error) {
	d, err := filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	f, err := filepath.Abs(file)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(d, f)
	return err == nil && filepath.IsLocal(rel), nil
}

func notEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	return len(entries) > 0, err
}

func random32() (b [32]byte) {
	rand.Read(b[:]) // never fails
	return b
}
