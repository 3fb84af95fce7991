package hub

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"sync"

	"ropeway/protocol/page"
)

// macs makes keyed hashes; the secret engine does.
type macs interface {
	MAC(ctx context.Context, tenant page.ID, purpose string, data []byte) (page.Hash, error)
}

// signer signs the heads of audit logs with a key that the store has not. It asks
// the engine once for each tenant and keeps a key derived for this purpose: a
// sealed engine must not hold up the one writer of the store.
type signer struct {
	engine macs

	mu   sync.Mutex
	keys map[page.ID]page.Hash
}

func newSigner(engine macs) *signer { return &signer{engine: engine, keys: map[page.ID]page.Hash{}} }

// sign is a store.AuditSigner.
func (s *signer) sign(tenant page.ID, data []byte) (page.Hash, error) {
	key, err := s.key(tenant)
	if err != nil {
		return page.Hash{}, err
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(data)
	return page.Hash(mac.Sum(nil)), nil
}

func (s *signer) key(tenant page.ID) (page.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key, known := s.keys[tenant]; known {
		return key, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookUp)
	defer cancel()
	key, err := s.engine.MAC(ctx, tenant, "audit head", nil)
	if err == nil {
		s.keys[tenant] = key
	}
	return key, err
}
