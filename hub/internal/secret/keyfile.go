package secret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// keyFile holds the keys that wrap data keys. It may hold several, so that the
// current one can be replaced while older wraps are still there.
type keyFile struct {
	current *page.Key
	keys    map[string]*page.Key
}

// keyFileJSON is the file's content; keys are base64 of 32 bytes.
type keyFileJSON struct {
	Format  string            `json:"format"`
	Current string            `json:"current"`
	Keys    map[string]string `json:"keys"`
}

const keyFileFormat = "ropeway key file 1"

// openKeyFile reads the key file; where none is, it is made if create allows.
func openKeyFile(path string, create bool) (*keyFile, error) {
	raw, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil, fault.Of("E_SEALED").WithSource("hub").
				WithCause("the key file " + path + " is missing, but sealed data exists").
				WithFix("restore the key file from its backup")
		}
		raw, err = newKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open key file %s: %w", path, err)
	}
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	k, err := parseKeyFile(raw)
	if err != nil {
		return nil, fmt.Errorf("open key file %s: %w", path, err)
	}
	return k, nil
}

func newKeyFile(path string) ([]byte, error) {
	id, key := page.NewID().String(), random32()
	raw, err := json.MarshalIndent(keyFileJSON{Format: keyFileFormat, Current: id,
		Keys: map[string]string{id: base64.StdEncoding.EncodeToString(key[:])}}, "", "  ")
	if err != nil {
		return nil, err
	}
	return raw, writeDurably(path, raw)
}

// parseKeyFile reads the content. Its errors never quote it.
func parseKeyFile(raw []byte) (*keyFile, error) {
	bad := fault.Of("E_SEALED").WithSource("hub").WithCause("the key file is not of a known form").
		WithFix("restore the key file from its backup")
	var file keyFileJSON
	if json.Unmarshal(raw, &file) != nil || file.Format != keyFileFormat {
		return nil, bad
	}
	k := &keyFile{keys: map[string]*page.Key{}}
	for id, text := range file.Keys {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(b) != 32 {
			return nil, bad
		}
		key, err := page.NewKey(id, [32]byte(b))
		if err != nil {
			return nil, bad
		}
		k.keys[id] = key
	}
	if k.current = k.keys[file.Current]; k.current == nil {
		return nil, bad
	}
	return k, nil
}

// checkPrivate refuses a key file that others may read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open key file %s: %w", path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fault.Of("E_SEALED").WithSource("hub").
			WithCause(fmt.Sprintf("others may read the key file %s (mode %04o)", path, info.Mode().Perm())).
			WithFix("chmod 600 it, and replace the key if others had access")
	}
	return nil
}

func (k *keyFile) seal(plain, aad []byte) []byte { return page.SealBytes(k.current, plain, aad) }

func (k *keyFile) open(sealed, aad []byte) ([]byte, error) {
	return page.OpenBytes(sealed, aad, func(id string) (*page.Key, error) {
		if key := k.keys[id]; key != nil {
			return key, nil
		}
		return nil, fault.Of("E_SEALED").WithSource("hub").
			WithCause("the key file does not hold the key " + id)
	})
}

// maxFile bounds what is read of any file of the engine.
const maxFile = 1 << 20

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of this engine", path)
	}
	return os.ReadFile(path)
}

// writeDurably replaces a file as a whole: after a crash it holds the old content
// or the new one. The file is readable by its owner only.
func writeDurably(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := makeDirs(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDirs makes missing folders and syncs the parents that gained one.
func makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
