package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// The first tenant and its first environment.
const (
	firstTenant      = "main"
	firstEnvironment = "default"
)

// adminToken is the file of the first administrator's API token, in Data.
const adminToken = "admin.token"

// lockData takes the data folder for this process; a second hub on it is refused.
func lockData(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	path := filepath.Join(dir, "hub.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data folder %s is in use by another hub; stop it or choose another --data", dir)
	}
	return func() { f.Close() }, nil
}

// bootstrap makes the first tenant and, once, its administrator's token. It
// returns the path of the token's file when it has written one.
func bootstrap(ctx context.Context, c Config, s *store.Store, gate *access.Gate) (string, error) {
	now := time.Now()
	tenant, err := s.EnsureTenant(ctx, firstTenant, "private", now)
	if err != nil {
		return "", err
	}
	if _, err := s.EnsureEnvironment(ctx, tenant.ID, firstEnvironment, now); err != nil {
		return "", err
	}
	tokens, err := s.APITokens(ctx, tenant.ID)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.Data, adminToken)
	if len(tokens) > 0 {
		_, err := os.Lstat(path)
		if !errors.Is(err, os.ErrNotExist) || len(tokens) > 1 || tokens[0].LastUsed != nil || tokens[0].Revoked != nil {
			return "", nil
		}
		// The token of a first start that ended before its file was written: nobody has it.
		if err := s.RevokeAPIToken(ctx, tenant.ID, tokens[0].Name, "hub", now); err != nil {
			return "", err
		}
	}
	return path, issueAdmin(ctx, gate, tenant.ID, fmt.Sprintf("admin-%d", len(tokens)+1), path)
}

// issueAdmin makes an administrator's token and writes it to path, 0600.
func issueAdmin(ctx context.Context, gate *access.Gate, tenant page.ID, name, path string) error {
	text, _, err := gate.Issue(ctx, access.NewToken{Tenant: tenant, Name: name, Role: access.Admin, Actor: "hub"})
	if err != nil {
		return err
	}
	return writeFile(path, []byte(text+"\n"), 0o600)
}

// writeFile replaces a file atomically and durably.
func writeFile(path string, text []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
