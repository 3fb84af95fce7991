package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// CreateRetry creates a running retry job with its fixed pages and takes the
// records from parked to retrying, in one transaction (DELIVERY §3.6). If one of
// them is not waiting any more — a second click — all is refused with
// E_CONFLICT and nothing changes. The pages count as accepted; publish
// them, then MarkRetryPublished.
func (s *Store) CreateRetry(ctx context.Context, n NewRetry) (model.Job, error) {
	var out *model.Job
	err := s.write(ctx, func(t *tx) error {
		if n.Job.Kind != model.JobRetry || n.Job.Export != nil || len(n.Pages) == 0 {
			return invalid("a retry has fixed pages and no export")
		}
		if err := insertJob(t, n.Job); err != nil {
			return err
		}
		if err := s.fixPages(t, n); err != nil {
			return err
		}
		if err := auditRetry(t, n); err != nil {
			return err
		}
		var err error
		out, _, err = readJob(t, n.Job.Scope, n.Job.ID)
		return err
	})
	if err != nil {
		return model.Job{}, fmt.Errorf("create retry %s: %w", n.Job.ID, err)
	}
	return *out, nil
}

func auditRetry(t *tx, n NewRetry) error {
	if n.Actor == "" {
		return nil
	}
	return appendAudit(t, model.AuditEntry{At: n.Job.Now, Tenant: n.Job.Scope.Tenant,
		Environment: n.Job.Scope.Environment, Actor: n.Actor, Action: "error retry", Kind: "Job",
		Object: n.Job.ID.String()})
}

// fixPages writes the chains, root pages and records of a retry.
func (s *Store) fixPages(t *tx, n NewRetry) error {
	scope, now := n.Job.Scope, micros(n.Job.Now)
	j, _, err := loadJob(t, scope, n.Job.ID)
	if err != nil {
		return err
	}
	var chains []*chainRow
	for _, p := range n.Pages {
		r, err := loadRoot(t, scope, p.Root)
		if err != nil {
			return err
		}
		c := chainOf(&chains, r)
		if r.parsed.Chain.Job != n.Job.ID || r.parsed.Epoch != c.epoch || r.parsed.Seq != c.accepted {
			return invalid("page %s is not the next one of the retry", p.Root)
		}
		if err := s.fixPage(t, n, p, r, c, j); err != nil {
			return err
		}
	}
	for _, c := range chains {
		if err := insertFixedChain(t, scope, c); err != nil {
			return err
		}
	}
	j.state = model.JobRunning
	return inOrder(
		func() error { return j.saveCounts(t, 0) },
		func() error {
			_, err := t.exec(`UPDATE jobs SET state = ?, started = ? WHERE id = ?`,
				string(j.state), now, n.Job.ID.String())
			return err
		},
		func() error { return s.endIfDone(t, scope, j, &Progress{}, now) },
	)
}

// chainOf finds or begins the chain of a root page; a retry has one per step.
func chainOf(chains *[]*chainRow, r *rootRow) *chainRow {
	for _, c := range *chains {
		if c.chain == r.parsed.Chain {
			return c
		}
	}
	c := &chainRow{chain: r.parsed.Chain, epoch: r.parsed.Epoch, ended: true}
	*chains = append(*chains, c)
	return c
}

func (s *Store) fixPage(t *tx, n NewRetry, p RetryPage, r *rootRow, c *chainRow, j *jobRow) error {
	now := micros(n.Job.Now)
	a := &Acceptance{Scope: n.Job.Scope, Root: p.Root, PageHash: p.Hash, Prev: c.lastHash,
		Records: uint64(len(p.Records)), Steps: p.Steps, Outcomes: p.Outcomes, Now: n.Job.Now}
	if p.Published != "" {
		a.Published = []string{p.Published}
	}
	if err := validNames(p.Root, p.Root, a.Published); err != nil {
		return err
	}
	r.accepted, r.hash, r.bytes = true, p.Hash, int64(p.Bytes)
	r.fold(a.Published...)
	r.settled = r.outXOR == 0
	c.accept(a, r)
	j.pages++
	j.exported += int64(a.Records)
	j.add(p.Outcomes)
	if r.settled {
		j.settled++
	}
	return inOrder(
		func() error { return r.saveAccepted(t, a, now) },
		func() error { return insertReceipt(t, acceptanceReceipt(a, r), p.Root, int64(a.Records)) },
		func() error { return insertFixed(t, n, p) },
		func() error { return takeParked(t, n, p, r.parsed.Seq) },
		func() error { return addSteps(t, j.id, p.Steps) },
		func() error { return s.insertParked(t, n.Job.Scope, j, p.Root, p.Parked, now) },
		func() error {
			if !r.settled {
				return nil
			}
			return resolveRetried(t, j, p.Root, now)
		},
	)
}

// accept counts one fixed page in its chain.
func (c *chainRow) accept(a *Acceptance, r *rootRow) {
	c.accepted++
	c.records += a.Records
	c.lastHash = a.PageHash
	if r.settled {
		c.settled++
		return
	}
	c.outPages++
	c.outBytes += r.bytes
}

func insertFixedChain(t *tx, scope Scope, c *chainRow) error {
	c.totalPages, c.totalRecords = c.accepted, c.records
	if err := insertChain(t, scope, c); err != nil {
		return err
	}
	mark, err := firstUnsettled(t, c)
	if err != nil {
		return err
	}
	c.settledTo = mark
	return c.saveSettled(t)
}

func insertFixed(t *tx, n NewRetry, p RetryPage) error {
	if p.Published == "" {
		return nil
	}
	_, err := t.exec(`INSERT INTO fixed_pages (root, tenant, environment, job, name, published)
		VALUES (?, ?, ?, ?, ?, 0)`, p.Root, n.Job.Scope.Tenant.String(), n.Job.Scope.Environment.String(),
		n.Job.ID.String(), p.Published)
	return err
}

// takeParked moves the records of one page to retrying; each must be waiting.
// Their time of change stays, so that the page can be made again, equal.
func takeParked(t *tx, n NewRetry, p RetryPage, seq uint64) error {
	if p.Seen != nil && len(p.Seen) != len(p.Records) {
		return invalid("page %s does not say when each of its records was changed", p.Root)
	}
	for i, id := range p.Records {
		seen := int64(0)
		if p.Seen != nil {
			seen = micros(p.Seen[i])
		}
		changed, err := t.exec(`UPDATE parked SET state = 'retrying', retry_job = ?, retry_root = ?,
			retry_seq = ?, retry_index = ?
			WHERE id = ? AND tenant = ? AND environment = ? AND state = 'parked' AND (? = 0 OR updated = ?)`,
			n.Job.ID.String(), p.Root, int64(seq), i, id.String(),
			n.Job.Scope.Tenant.String(), n.Job.Scope.Environment.String(), seen, seen)
		if err != nil {
			return err
		}
		if changed == 0 {
			return fault.Of("E_CONFLICT").WithSource(source).
				WithSentence("record " + id.String() + " is not waiting as it was; it may be in another retry or edited")
		}
	}
	return nil
}

// RetryRecords returns the records of one fixed page in order, from which the
// page is made again if its publish is in doubt.
func (s *Store) RetryRecords(ctx context.Context, scope Scope, root string) ([]Parked, error) {
	w := inScope(scope)
	w.and(`retry_root = ? AND retry_root <> ''`, root) // as the index has it
	list, err := scanParkedAll(s.read(ctx), parkedColumns+w.text()+` ORDER BY retry_index`, w.args...)
	if err != nil {
		return nil, fmt.Errorf("read records of retry page %s: %w", root, err)
	}
	return list, nil
}

// PendingRetries lists, over all tenants, the fixed pages of retries that are
// not known to be in the queue. It is the engine's own call, for its sweep.
func (s *Store) PendingRetries(ctx context.Context, now time.Time) (list []FixedPage, err error) {
	rows, err := s.read(ctx).query(`SELECT f.tenant, f.environment, f.job, j.flow, j.flow_version,
		f.root, f.name
		FROM fixed_pages f JOIN jobs j ON j.id = f.job WHERE f.published = 0 ORDER BY f.job, f.root`)
	err = each(rows, err, func(r rowScanner) error {
		var p FixedPage
		err := r.Scan(idScan{&p.Scope.Tenant}, idScan{&p.Scope.Environment}, idScan{&p.Job},
			idScan{&p.Flow},
			&p.Version, &p.Root, &p.Published)
		list = append(list, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list unpublished retry pages: %w", err)
	}
	return list, nil
}

// MarkRetryPublished notes that the fixed page of a retry is in the queue.
func (s *Store) MarkRetryPublished(
	ctx context.Context, scope Scope, root string, now time.Time,
) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE fixed_pages SET published = 1 WHERE root = ? AND tenant = ? AND
			environment = ?`,
			root, scope.Tenant.String(), scope.Environment.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("mark retry page %s: %w", root, err)
	}
	return nil
}
