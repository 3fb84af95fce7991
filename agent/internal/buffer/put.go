package buffer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// keyLife is how long an idempotency key is kept (DELIVERY §9).
const keyLife = 24 * time.Hour

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers a page's name and its sealed bytes.
func checksum(name string, sealed []byte) int64 {
	return int64(crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, sealed))
}

// row is a page made ready for the writer.
type row struct {
	name    string
	seq     uint64
	hash    page.Hash
	records uint32
	sealed  []byte
	sum     int64
}

func (b *Buffer) seal(p *page.Page) row {
	name := p.Header.Name()
	sealed := page.SealPage(b.key, p, 0)
	return row{name, p.Header.Seq, p.Header.Hash(), p.Header.Records, sealed, checksum(name, sealed)}
}

// Put stores p and returns once it is on disk. Putting the same page again does
// nothing, so a caller may retry after any error; another page of the same name
// is E_PAGE_CONFLICT, and a buffer without room is E_BUFFER_FULL.
func (b *Buffer) Put(ctx context.Context, p *page.Page) error {
	r := b.seal(p)
	return b.commit(ctx, len(r.sealed), func(t *tx) error { return t.put(r) })
}

// PutEvent stores a listener's event and reserves its idempotency key in one
// transaction. already says that this key has come before with this payload and
// nothing was stored; with another payload it is E_CONFLICT. An empty key
// reserves nothing.
func (b *Buffer) PutEvent(ctx context.Context, listener page.ID, key string, p *page.Page) (
	already bool, err error) {
	r := b.seal(p)
	hash := sha256.Sum256([]byte(key))
	err = b.commit(ctx, len(r.sealed), func(t *tx) error {
		if key == "" {
			return t.put(r)
		}
		var err error
		already, err = t.reserve(listener, hash, p.Header.PayloadHash, r)
		return err
	})
	return already, err
}

func (t *tx) reserve(listener page.ID, key [32]byte, payload page.Hash, r row) (bool, error) {
	now := t.b.config.Clock()
	var before []byte
	err := t.d.stmts.eventOf.QueryRow(listener[:], key[:], now.Add(-keyLife).UnixMicro()).Scan(&before)
	switch {
	case err == nil && string(before) == string(payload[:]):
		return true, nil
	case err == nil:
		return false, refusal{fault.New(fault.Duplicate, "E_CONFLICT",
			"this idempotency key was used for another payload").WithSource("agent").
			WithFix("send a new key for new data")}
	case !errors.Is(err, sql.ErrNoRows):
		return false, fmt.Errorf("look for key: %w", err)
	}
	if err := t.put(r); err != nil {
		return false, err
	}
	if _, err := t.d.stmts.pruneEvent.Exec(now.Add(-keyLife).UnixMicro()); err != nil {
		return false, fmt.Errorf("forget old keys: %w", err)
	}
	if _, err := t.d.stmts.insertEvent.Exec(listener[:], key[:], payload[:], now.UnixMicro()); err != nil {
		return false, fmt.Errorf("reserve key: %w", err)
	}
	return false, nil
}

func (t *tx) put(r row) error {
	if t.count.bytes+int64(len(r.sealed)) > t.b.config.Quota {
		known, err := t.known(r)
		if known || err != nil {
			return err
		}
		if err := t.makeRoom(int64(len(r.sealed))); err != nil {
			return err
		}
	}
	res, err := t.d.stmts.insertPage.Exec(r.name, int64(r.seq), r.hash[:], len(r.sealed), r.records,
		t.b.config.Clock().UnixMicro(), r.sum)
	if err != nil {
		return fmt.Errorf("insert page: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("insert page: %w", err)
	}
	if n == 0 {
		_, err := t.known(r)
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return fmt.Errorf("insert page: %w", err)
	}
	if _, err := t.d.stmts.insertBody.Exec(id, r.sealed); err != nil {
		return fmt.Errorf("insert body: %w", err)
	}
	t.count.add(Unacked, 1, int64(len(r.sealed)))
	return nil
}

// known reports whether the page is here already, and refuses another one of
// its name.
func (t *tx) known(r row) (bool, error) {
	var hash []byte
	var state State
	err := t.d.stmts.hashOf.QueryRow(r.name).Scan(&hash, &state)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for page: %w", err)
	case string(hash) != string(r.hash[:]):
		return false, refusal{fault.Of("E_PAGE_CONFLICT").WithSource("agent").
			WithCause("page " + r.name + " is buffered already")}
	case state == Damaged:
		return false, refusal{fault.Of("E_CHECKSUM").WithSource("agent").
			WithCause("page " + r.name + " was buffered, is damaged and set aside")}
	}
	return true, nil
}

// makeRoom gives up acked pages, oldest first: the hub's queue has them. Unacked
// pages are only here and never go.
func (t *tx) makeRoom(need int64) error {
	if t.count.unackedBytes+need > t.b.config.Quota {
		return refusal{t.full()}
	}
	for t.count.bytes+need > t.b.config.Quota {
		victims, err := t.victims()
		if err != nil {
			return fmt.Errorf("look for acked pages: %w", err)
		}
		if len(victims) == 0 {
			return fmt.Errorf("%d bytes are counted and no acked page is found", t.count.bytes)
		}
		for _, v := range victims {
			if err := t.delete(v.id, Acked, v.bytes); err != nil {
				return err
			}
			t.count.evicted++
			if t.count.bytes+need <= t.b.config.Quota {
				break
			}
		}
	}
	return nil
}

func (t *tx) full() error {
	return fault.Of("E_BUFFER_FULL").WithSource("agent").
		WithCause(fmt.Sprintf("%d pages, %d of %d bytes", t.count.pages, t.count.bytes, t.b.config.Quota))
}

type victim struct{ id, bytes int64 }

func (t *tx) victims() ([]victim, error) {
	rows, err := t.d.stmts.oldestAcked.Query()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []victim
	for rows.Next() {
		var v victim
		if err := rows.Scan(&v.id, &v.bytes); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

func (t *tx) delete(id int64, s State, bytes int64) error {
	if _, err := t.d.stmts.remove.Exec(id); err != nil {
		return fmt.Errorf("delete page: %w", err)
	}
	if _, err := t.d.stmts.removeBody.Exec(id); err != nil {
		return fmt.Errorf("delete body: %w", err)
	}
	t.count.add(s, -1, -bytes)
	return nil
}
