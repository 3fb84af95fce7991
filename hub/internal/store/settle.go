package store

import (
	"context"
	"encoding/json"
	"fmt"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// Settle writes the receipt of a page: what it counts, published and parked, the
// settled XOR of its root and, when nothing is left to do, the end of the job —
// all in one transaction (DELIVERY §3.4, §3.5, §7). Writing it again changes
// nothing. A stale owner is refused with E_SUPERSEDED.
func (s *Store) Settle(ctx context.Context, r Receipt) (Settled, error) {
	root := page.Root(r.Name)
	if err := validNames(root, r.Name, r.Published); err != nil {
		return Settled{}, fmt.Errorf("settle page %s: %w", r.Name, err)
	}
	if root == r.Name {
		return Settled{}, fmt.Errorf("settle page %s: %w", r.Name,
			invalid("a root page is accepted, not settled"))
	}
	var out Settled
	err := s.settleWrites(ctx, func(t *tx) (bool, error) {
		return s.admitReceipt(t, root, &r, &out)
	}, func(t *tx) error {
		return insertReceipt(t, &r, root, 0)
	}, func(t *tx) error {
		return s.settle(t, root, &r, &out)
	})
	if err != nil {
		return Settled{}, fmt.Errorf("settle page %s: %w", r.Name, err)
	}
	return out, nil
}

// settleWrites keeps receipt and counters in one transaction. Only a mutation
// run takes them apart.
func (s *Store) settleWrites(
	ctx context.Context, admit func(*tx) (bool, error), receipt, counters func(*tx) error,
) error {
	again := false
	if s.opt.receiptApart {
		err := s.write(ctx, func(t *tx) error {
			ok, err := admit(t)
			if err != nil || !ok {
				again = true
				return err
			}
			return receipt(t)
		})
		if err != nil || again {
			return err
		}
		return s.write(ctx, counters)
	}
	return s.write(ctx, func(t *tx) error {
		ok, err := admit(t)
		if err != nil || !ok {
			return err
		}
		return inOrder(
			func() error { return receipt(t) },
			func() error { return counters(t) },
		)
	})
}

// admitReceipt says whether the receipt is to be written; out tells why not.
func (s *Store) admitReceipt(t *tx, root string, r *Receipt, out *Settled) (bool, error) {
	st, err := loadPageState(t, r.Scope, root)
	if err != nil {
		return false, err
	}
	if !st.known || st.job.id != r.Job {
		return false, notFound("job", r.Job.String())
	}
	out.SettledTo = st.chain.settledTo
	if out.Already, err = receiptExists(t, r.Name); err != nil || out.Already {
		out.ReadNext = st.chain.readNext(st.job, s.opt)
		return false, err
	}
	if st.job.state.Terminal() {
		out.Over = true
		return false, resolveLate(t, st.job, root, r)
	}
	if err := s.checkClaim(t, r.Name, r.Claim); err != nil {
		return false, err
	}
	if !st.root.accepted && st.root.parsed.Epoch != st.chain.epoch {
		return false, superseded("its root page was never accepted, and another execution reads now")
	}
	return true, nil
}

func (s *Store) settle(t *tx, root string, r *Receipt, out *Settled) error {
	st, err := loadPageState(t, r.Scope, root)
	if err != nil {
		return err
	}
	j, now := st.job, micros(r.Now)
	st.root.fold(r.Name)
	st.root.fold(r.Published...)
	st.grow(int64(r.PublishedBytes) - int64(r.ConsumedBytes))
	j.add(r.Outcomes)
	settled := st.root.accepted && !st.root.settled && st.root.outXOR == 0
	if settled {
		st.root.settled = true
	}
	out.Settled = settled
	err = inOrder(
		func() error { return dropClaim(t, r.Name) },
		func() error { return addSteps(t, j.id, r.Counts) },
		func() error { return s.insertParked(t, r.Scope, j, root, r.Parked, now) },
		func() error { return st.root.save(t, r.Scope, now) },
		func() error { return s.moved(t, st, settled, &out.Progress, r.Scope, now) },
		func() error { return st.chain.saveSettled(t) },
		func() error { return j.saveCounts(t, 0) },
		func() error { return s.endIfDone(t, r.Scope, j, &out.Progress, now) },
		func() error { return s.afterTry(t, j, r.Tried, &out.Progress, r.Now) },
		func() error { return stop(t, j, r.Stop) },
	)
	out.ReadNext = st.chain.readNext(j, s.opt)
	return err
}

// grow changes the outstanding bytes of the root and, once it is accepted and so
// counted there, of its chain. Neither goes below zero.
func (st *pageState) grow(by int64) {
	by = max(by, -st.root.bytes)
	st.root.bytes += by
	if st.root.accepted {
		st.chain.outBytes = max(0, st.chain.outBytes+by)
	}
}

func receiptExists(q querier, name string) (bool, error) {
	return q.row(`SELECT 1 FROM receipts WHERE name = ?`, []any{name}, new(int))
}

// insertReceipt writes one row of the ledger. exported is the number of source
// records that it brought into the job.
func insertReceipt(t *tx, r *Receipt, root string, exported int64) error {
	counts, err := json.Marshal(r.Counts)
	if err != nil {
		return err
	}
	published, err := json.Marshal(r.Published)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO receipts (name, tenant, environment, job, step, root, exported,
		delivered,
		filtered, parked, expired, counts, published, result, claim_created, claim_delivery, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.Name, r.Scope.Tenant.String(), r.Scope.Environment.String(), r.Job.String(), r.Step, root,
		exported, r.Outcomes.Delivered, r.Outcomes.Filtered, r.Outcomes.Parked, r.Outcomes.Expired,
		string(counts), string(published), r.ResultHash[:], r.Claim.Created, int64(r.Claim.Delivery),
		micros(r.Now))
	return err
}

// addSteps adds to the counters of a job's steps; a step that the job was not
// created with is refused.
func addSteps(t *tx, job page.ID, counts []model.StepCount) error {
	for _, c := range counts {
		n, err := t.exec(`UPDATE job_steps SET n_in = n_in + ?, n_out = n_out + ?, n_filtered =
			n_filtered + ?,
			n_parked = n_parked + ?, n_merged = n_merged + ?, n_created = n_created + ?
			WHERE job = ? AND step = ?`,
			c.In, c.Out, c.Filtered, c.Parked, c.Merged, c.Created, job.String(), c.Step)
		if err != nil {
			return err
		}
		if n == 0 {
			return invalid("the job has no step %q", c.Step)
		}
	}
	return nil
}
