package buffer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// loadKey reads the key that seals pages at rest, making one for a fresh
// buffer. It is apart from the agent's TLS key, so that rotating that keeps the
// buffer. A buffer without its key is not opened over: its pages would be lost.
func loadKey(path string, fresh bool) (*page.Key, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && fresh:
		return makeKey(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Internal, "E_SEALED", "the key of the agent's buffer is missing").
			WithCause(path + " does not exist, but buffer.db does").
			WithFix("restore the file, or move buffer.db away and lose what is in it")
	case err != nil:
		return nil, fmt.Errorf("read buffer key: %w", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != 32 {
		return nil, fault.New(fault.Internal, "E_SEALED", "the key of the agent's buffer cannot be read").
			WithCause(path + " does not hold 64 hexadecimal digits")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("look at buffer key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("protect buffer key: %w", err)
		}
	}
	return newKey([32]byte(raw))
}

func newKey(raw [32]byte) (*page.Key, error) {
	name := sha256.Sum256(append([]byte("buffer key id\x00"), raw[:]...))
	return page.NewKey("buffer-"+hex.EncodeToString(name[:8]), raw)
}

func makeKey(path string) (*page.Key, error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".buffer-key-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("make buffer key: %w", err)
	}
	_, err = f.WriteString(hex.EncodeToString(raw[:]) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make buffer key: %w", err), os.Remove(f.Name()))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make buffer key: %w", err)
	}
	return newKey(raw)
}

// keys finds the buffer's key by its id.
func (b *Buffer) keys(id string) (*page.Key, error) {
	if id != b.key.ID() {
		return nil, fault.New(fault.Internal, "E_SEALED", "a buffered page is sealed with another key").
			WithCause("key " + id + " is not the key of this buffer")
	}
	return b.key, nil
}
