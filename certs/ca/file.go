package ca

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ropeway/certs"
)

// readPair reads a file of writePair. It refuses one that others may read.
func readPair(path string) (pair, error) {
	info, err := os.Stat(path)
	if err != nil {
		return pair{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return pair{}, fmt.Errorf("key file %s is open to others (mode %04o, want 0600)", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return pair{}, err
	}
	key, chain, err := certs.ParseBundle(text)
	if err != nil {
		return pair{}, fmt.Errorf("read %s: %w", path, err)
	}
	if key == nil || len(chain) != 1 || !chain[0].IsCA {
		return pair{}, fmt.Errorf("read %s: %w", path, errors.New("want one private key and one authority"))
	}
	return pair{chain[0], key}, nil
}

// writePair puts key and certificate into one file, so that a crash leaves both
// or neither.
func writePair(path string, p pair) (err error) {
	text, err := certs.EncodeKey(p.key)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	_, err = file.Write(append(text, certs.EncodeChain(p.cert)...))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
