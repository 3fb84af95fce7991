package store

import (
	"context"
	"fmt"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Resume lets a new execution of a read request take over its chain (DELIVERY
// §2.1). It is refused with E_SUPERSEDED when the request has a receipt, a
// higher claim is stored, the job is over, or the epoch was current before; and
// with E_NOT_RESUMABLE when the export cannot continue after its first page.
// Asking again with the current epoch gives the same answer.
func (s *Store) Resume(ctx context.Context, r ResumeRequest) (Resumed, error) {
	var out Resumed
	err := s.write(ctx, func(t *tx) error {
		c, err := s.resumable(t, r)
		if err != nil {
			return err
		}
		if c.epoch != r.Epoch {
			if err := takeOver(t, c, r); err != nil {
				return err
			}
		}
		out = Resumed{Seq: c.baseSeq, Prev: c.baseHash, Cursor: nilIfEmpty(c.baseCursor),
			Pages: c.baseSeq, Records: c.baseRecords}
		return nil
	})
	if err != nil {
		return Resumed{}, fmt.Errorf("resume %s: %w", page.ReadName(r.Chain, r.Request), err)
	}
	return out, nil
}

// resumable checks every reason to refuse, and stores the claim.
func (s *Store) resumable(t *tx, r ResumeRequest) (*chainRow, error) {
	if r.Epoch.IsZero() {
		return nil, invalid("a read request needs an epoch")
	}
	j, found, err := loadJob(t, r.Scope, r.Chain.Job)
	if err != nil {
		return nil, err
	}
	c, foundChain, err := loadChain(t, r.Scope, r.Chain)
	if err != nil {
		return nil, err
	}
	switch {
	case !found || !foundChain:
		return nil, notFound("chain", r.Chain.String())
	case j.state.Terminal():
		return nil, superseded("the job is " + string(j.state))
	case c.ended || int64(r.Request) < c.nextRead:
		return nil, superseded("the request has a receipt")
	case int64(r.Request) > c.nextRead:
		return nil, superseded("the request is not the chain's next one")
	}
	if err := s.storeClaim(t, page.ReadName(r.Chain, r.Request), r.Chain.Job, r.Claim,
		micros(r.Now)); err != nil {
		return nil, err
	}
	if !c.resumable && c.accepted > 0 && c.epoch != r.Epoch {
		return nil, fault.Of("E_NOT_RESUMABLE").WithSource(source)
	}
	return c, nil
}

// takeOver makes the request's epoch the current one. Pages of older epochs that
// are not accepted yet never will be.
func takeOver(t *tx, c *chainRow, r ResumeRequest) error {
	used, err := t.row(`SELECT 1 FROM epochs WHERE job = ? AND step = ? AND epoch = ?`,
		[]any{c.chain.Job.String(), c.chain.Step, r.Epoch[:]}, new(int))
	if err != nil {
		return err
	}
	if used {
		return superseded("a newer execution has taken over the chain")
	}
	if _, err := t.exec(`INSERT INTO epochs (job, step, epoch, request, at) VALUES (?, ?, ?, ?, ?)`,
		c.chain.Job.String(), c.chain.Step, r.Epoch[:], int64(r.Request), micros(r.Now)); err != nil {
		return err
	}
	c.epoch, c.baseSeq, c.baseRecords, c.baseHash = r.Epoch, c.accepted, c.records, c.lastHash
	c.baseCursor = c.cursor
	if len(c.baseCursor) == 0 {
		c.baseCursor = c.continuation
	}
	return c.saveEpoch(t)
}
