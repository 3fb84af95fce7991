package store

import (
	"context"
	"fmt"

	"ropeway/protocol/page"
)

// Admit says whether a fetched page or read request may be executed (DELIVERY
// §3.2, §5.2). Without NeedClaim it only reads.
func (s *Store) Admit(ctx context.Context, a Admission) (Admitted, error) {
	name, err := page.ParseName(a.Name)
	if err != nil {
		return Admitted{}, fmt.Errorf("admit %s: %w", a.Name, err)
	}
	var out Admitted
	if !a.NeedClaim {
		out, err = s.admit(s.read(ctx), &a, name)
	} else {
		err = s.write(ctx, func(t *tx) error {
			if out, err = s.admit(t, &a, name); err != nil || out.Entry != EntryGo {
				return err
			}
			return s.storeClaim(t, a.Name, a.Job, a.Claim, micros(a.Now))
		})
	}
	if err != nil {
		return Admitted{}, fmt.Errorf("admit %s: %w", a.Name, err)
	}
	return out, nil
}

func (s *Store) admit(q querier, a *Admission, name page.ParsedName) (Admitted, error) {
	var out Admitted
	j, found, err := loadJob(q, a.Scope, a.Job)
	if err != nil {
		return out, err
	}
	if !found || (!name.Pushed && name.Chain.Job != a.Job) {
		out.Entry = EntryOrphan
		return out, nil
	}
	out.JobState, out.RetryAt = j.state, timeOf(j.retryAt)
	if out.Cause, err = faultOf(j.cause); err != nil {
		return out, err
	}
	done, err := receiptExists(q, a.Name)
	switch {
	case err != nil:
		return out, err
	case done:
		out.Entry = EntryDone
		return out, nil
	case j.state.Terminal():
		out.Entry = EntryOrphan
		return out, nil
	}
	if out.Entry, err = s.admitPlace(q, a, name); err != nil || out.Entry != EntryGo {
		return out, err
	}
	return s.admitClaim(q, a, out)
}

// admitPlace asks the chain: a read must be the next one, a page must descend
// from an accepted root.
func (s *Store) admitPlace(q querier, a *Admission, name page.ParsedName) (Entry, error) {
	if name.Pushed {
		return "", invalid("pushed pages have no chain yet")
	}
	c, found, err := loadChain(q, a.Scope, name.Chain)
	if err != nil || !found {
		return EntryOrphan, err
	}
	if name.Read {
		if c.ended || int64(name.ReadN) != c.nextRead {
			return EntryOrphan, nil
		}
		return EntryGo, nil
	}
	root, err := loadRoot(q, a.Scope, page.Root(a.Name))
	switch {
	case err != nil:
		return "", err
	case root.accepted:
		return EntryGo, nil
	case root.parsed.Epoch == c.epoch:
		return EntryPending, nil
	}
	return EntryOrphan, nil
}

func (s *Store) admitClaim(q querier, a *Admission, out Admitted) (Admitted, error) {
	stored, answer, found, err := loadClaim(q, a.Name)
	if err != nil || !found {
		return out, err
	}
	if a.Claim.Less(stored) && !s.opt.noClaims {
		out.Entry = EntrySuperseded
		return out, nil
	}
	out.Answer = answer
	return out, nil
}
