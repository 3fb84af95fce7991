package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/protocol/page"
)

// StoreAnswer keeps the sealed answer of an executed page until its receipt, so
// that a redelivery goes on from it and does not execute again (DELIVERY §3.2),
// and returns the answer that stands: the first one stored. Two executions may
// answer differently, and what follows is published under one name.
// It is refused with E_SUPERSEDED when a higher claim is stored or the job is over.
func (s *Store) StoreAnswer(
	ctx context.Context, scope Scope, name string, c page.Claim, sealed []byte, now time.Time,
) (stands []byte, err error) {
	parsed, err := page.ParseName(name)
	if err == nil {
		err = s.write(ctx, func(t *tx) error {
			j, found, err := loadJob(t, scope, parsed.Chain.Job)
			if err != nil {
				return err
			}
			if !found || j.state.Terminal() {
				return superseded("the job is over")
			}
			if err := s.storeClaim(t, name, j.id, c, micros(now)); err != nil {
				return err
			}
			if _, stands, _, err = loadClaim(t, name); err != nil || stands != nil {
				return err
			}
			stands = sealed
			_, err = t.exec(`UPDATE claims SET answer = ? WHERE name = ?`, blob(sealed), name)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("store answer of %s: %w", name, err)
	}
	return stands, nil
}

// storeClaim records who works on name, unless someone with a higher claim does.
func (s *Store) storeClaim(t *tx, name string, job page.ID, c page.Claim, now int64) error {
	if err := s.checkClaim(t, name, c); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO claims (name, job, created, delivery, answer, at) VALUES (?, ?, ?,
		?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET created = excluded.created, delivery = excluded.delivery, at =
		excluded.at`,
		name, job.String(), c.Created, int64(c.Delivery), []byte{}, now)
	return err
}

// checkClaim refuses a stale owner (DELIVERY §5.2).
func (s *Store) checkClaim(q querier, name string, c page.Claim) error {
	stored, _, found, err := loadClaim(q, name)
	if err != nil || !found || s.opt.noClaims {
		return err
	}
	if c.Less(stored) {
		return superseded("a newer delivery has claimed " + name)
	}
	return nil
}

func loadClaim(q querier, name string) (c page.Claim, answer []byte, found bool, err error) {
	found, err = q.row(`SELECT created, delivery, answer FROM claims WHERE name = ?`,
		[]any{name}, &c.Created, &c.Delivery, &answer)
	return c, nilIfEmpty(answer), found, err
}

// dropClaim forgets claim and answer once the receipt stands in for them.
func dropClaim(t *tx, name string) error {
	_, err := t.exec(`DELETE FROM claims WHERE name = ?`, name)
	return err
}
