package secret

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"ropeway/protocol/page"
)

// macFile holds the wrapped key of a tenant's keyed hashes, beside its data
// keys. It is never replaced: hashes must be found again after years.
const macFile = "mac.sealed"

// MAC implements Engine.
func (e *Embedded) MAC(_ context.Context, tenant page.ID, purpose string, data []byte) (page.Hash, error) {
	key, err := e.macKey(tenant)
	if err != nil {
		return page.Hash{}, fmt.Errorf("make keyed hash: %w", err)
	}
	return keyedHash(key, purpose, data), nil
}

// keyedHash is the HMAC of a purpose and data, with a border between them.
func keyedHash(key [32]byte, purpose string, data []byte) page.Hash {
	mac := hmac.New(sha256.New, key[:])
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(purpose))))
	mac.Write([]byte(purpose))
	mac.Write(data)
	return page.Hash(mac.Sum(nil))
}

// macKey opens the tenant's key, made at first use.
func (e *Embedded) macKey(tenant page.ID) ([32]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if key, ok := e.macs[tenant]; ok {
		return key, nil
	}
	path := filepath.Join(e.keyDir(tenant), macFile)
	sealed, err := readBounded(path)
	var key [32]byte
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key = random32()
		err = writeDurably(path, e.root.seal(key[:], macAAD(tenant)))
	case err == nil:
		key, err = e.openMAC(sealed, tenant)
	}
	if err != nil {
		return [32]byte{}, err
	}
	e.macs[tenant] = key
	return key, nil
}

func (e *Embedded) openMAC(sealed []byte, tenant page.ID) ([32]byte, error) {
	raw, err := e.root.open(sealed, macAAD(tenant))
	if err == nil && len(raw) != 32 {
		err = errors.New("it does not hold 32 bytes")
	}
	if err != nil {
		return [32]byte{}, sealedFault(err)
	}
	return [32]byte(raw), nil
}

func macAAD(tenant page.ID) []byte { return []byte("ropeway mac key 1 " + tenant.String()) }
