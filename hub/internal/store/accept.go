package store

import (
	"context"
	"fmt"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// CheckPage says what the chain makes of a root page, before any work is spent
// on it and anything of it is published (DELIVERY §2.3). Accept checks again. The
// fault says why a page that is neither new nor there already is not taken.
func (s *Store) CheckPage(ctx context.Context, p PageCheck) (PageStatus, *fault.Error, error) {
	st, err := loadPageState(s.read(ctx), p.Scope, p.Root)
	if err != nil {
		return "", nil, fmt.Errorf("check page %s: %w", p.Root, err)
	}
	status, why := st.judge(&p)
	return status, why, nil
}

// pageState is what a root page is judged by.
type pageState struct {
	job   *jobRow
	chain *chainRow
	root  *rootRow
	known bool // job and chain exist in the scope
}

func loadPageState(q querier, scope Scope, name string) (*pageState, error) {
	root, err := loadRoot(q, scope, name)
	if err != nil {
		return nil, err
	}
	st := &pageState{root: root}
	foundJob, foundChain := false, false
	if st.job, foundJob, err = loadJob(q, scope, root.parsed.Chain.Job); err != nil {
		return nil, err
	}
	if st.chain, foundChain, err = loadChain(q, scope, root.parsed.Chain); err != nil {
		return nil, err
	}
	st.known = foundJob && foundChain
	return st, nil
}

// judge applies the rules of acceptance in their order: a page that is there
// already is acknowledged again whatever happened to its epoch since.
func (st *pageState) judge(p *PageCheck) (PageStatus, *fault.Error) {
	c, r := st.chain, st.root
	switch {
	case !st.known:
		return PageSuperseded, notFound("chain", r.parsed.Chain.String())
	case r.accepted && r.hash == p.Hash:
		return PageAlready, nil
	case r.accepted:
		return PageConflict, conflict("page %s was accepted with another hash", r.name)
	case st.job.state.Terminal():
		return PageSuperseded, superseded("the job is " + string(st.job.state))
	case r.parsed.Epoch != c.epoch:
		return PageSuperseded, superseded("another execution reads the chain now")
	case c.ended:
		return PageConflict, conflict("the chain ended after %d pages", c.accepted)
	case r.parsed.Seq > c.accepted:
		return PageGap, conflict("page %d came before page %d", r.parsed.Seq, c.accepted)
	case r.parsed.Seq < c.accepted:
		return PageConflict, conflict("page %d was accepted from another execution", r.parsed.Seq)
	case p.Prev != c.lastHash:
		return PageConflict, conflict("page %d does not follow the accepted page before it", r.parsed.Seq)
	}
	if p.Last {
		return st.checkTotals(p)
	}
	return PageNew, nil
}

// Accept records a root page with everything its first hop made of it: chain,
// receipt, counters and parked records in one transaction. Accepting the same
// page again changes nothing. A page that is not accepted has Status and Fault,
// and no error.
func (s *Store) Accept(ctx context.Context, a Acceptance) (Accepted, error) {
	if err := validNames(a.Root, a.Root, a.Published); err != nil {
		return Accepted{}, fmt.Errorf("accept page %s: %w", a.Root, err)
	}
	var out Accepted
	err := s.write(ctx, func(t *tx) error {
		st, err := loadPageState(t, a.Scope, a.Root)
		if err != nil {
			return err
		}
		out.Status, out.Fault = st.judge(a.check())
		if out.Status != PageNew {
			return s.answerAgain(&out, st)
		}
		out.Status = PageAccepted
		return s.accept(t, st, &a, &out)
	})
	if err != nil {
		return Accepted{}, fmt.Errorf("accept page %s: %w", a.Root, err)
	}
	return out, nil
}

// answerAgain fills the progress of a page that changed nothing.
func (s *Store) answerAgain(out *Accepted, st *pageState) error {
	if st.known {
		out.SettledTo = st.chain.settledTo
		out.Settled = st.root.settled
		out.ReadNext = st.chain.readNext(st.job, s.opt)
	}
	return nil
}

func (a *Acceptance) check() *PageCheck {
	return &PageCheck{Scope: a.Scope, Root: a.Root, Hash: a.PageHash, Prev: a.Prev, Records: a.Records,
		Last: a.Last, TotalPages: a.TotalPages, TotalRecords: a.TotalRecords}
}

// checkTotals compares the end marker with what was accepted (DELIVERY §2.4).
func (st *pageState) checkTotals(p *PageCheck) (PageStatus, *fault.Error) {
	pages, records := st.chain.accepted+1, st.chain.records+p.Records
	if p.TotalPages == pages && p.TotalRecords == records {
		return PageNew, nil
	}
	return PageRefused, totalsWrong(
		"the end marker counts %d pages with %d records, accepted were %d with %d",
		p.TotalPages, p.TotalRecords, pages, records)
}

func (s *Store) accept(t *tx, st *pageState, a *Acceptance, out *Accepted) error {
	c, r, j, now := st.chain, st.root, st.job, micros(a.Now)
	r.accepted, r.hash = true, a.PageHash
	r.fold(a.Published...)
	r.bytes += int64(a.PublishedBytes)
	c.accepted++
	c.records += a.Records
	c.lastHash, c.cursor = a.PageHash, a.Cursor
	c.outPages++
	c.outBytes += r.bytes
	if a.Last {
		c.ended, c.totalPages, c.totalRecords = true, a.TotalPages, a.TotalRecords
	}
	j.pages++
	j.exported += int64(a.Records)
	j.add(a.Outcomes)
	settled := r.outXOR == 0
	if settled {
		r.settled = true
	}
	err := inOrder(
		func() error { return r.saveAccepted(t, a, now) },
		func() error { return insertReceipt(t, acceptanceReceipt(a, r), r.name, int64(a.Records)) },
		func() error { return addSteps(t, j.id, a.Steps) },
		func() error { return s.insertParked(t, a.Scope, j, r.name, a.Parked, now) },
		func() error { return s.moved(t, st, settled, &out.Progress, a.Scope, now) },
		func() error { return c.saveAccepted(t) },
		func() error { return j.saveCounts(t, a.Bytes) },
		func() error { return s.endIfDone(t, a.Scope, j, &out.Progress, now) },
	)
	out.Settled = settled
	out.ReadNext = c.readNext(j, s.opt)
	return err
}

// acceptanceReceipt is the root page's own row in the ledger.
func acceptanceReceipt(a *Acceptance, r *rootRow) *Receipt {
	return &Receipt{Scope: a.Scope, Name: a.Root, Job: r.parsed.Chain.Job, Step: r.parsed.Chain.Step,
		Counts: a.Steps, Outcomes: a.Outcomes, Published: a.Published, ResultHash: a.PageHash, Now: a.Now}
}

// moved does what follows when a root page is settled or not by this write: the
// outstanding counts, the contiguous mark and the fate of retried records.
func (s *Store) moved(
	t *tx, st *pageState, settled bool, p *Progress, scope Scope, now int64,
) error {
	c, j := st.chain, st.job
	if settled {
		c.outPages--
		c.outBytes = max(0, c.outBytes-st.root.bytes)
		c.settled++
		j.settled++
		if err := resolveRetried(t, j, st.root.name, now); err != nil {
			return err
		}
		if st.root.parsed.Seq == c.settledTo {
			mark, err := firstUnsettled(t, c)
			if err != nil {
				return err
			}
			c.settledTo = mark
		}
	}
	p.SettledTo = c.settledTo
	return nil
}

// firstUnsettled finds the lowest accepted page that is not settled; without one
// it is the number of accepted pages. The page settled now is in the row state
// of this transaction already.
func firstUnsettled(t *tx, c *chainRow) (uint64, error) {
	var seq int64
	found, err := t.row(`SELECT seq FROM roots WHERE job = ? AND step = ? AND settled = 0 AND accepted
		= 1
		ORDER BY seq LIMIT 1`, []any{c.chain.Job.String(), c.chain.Step}, &seq)
	if err != nil || found {
		return uint64(seq), err
	}
	return c.accepted, nil
}

// inOrder runs the parts of one transaction until one fails.
func inOrder(parts ...func() error) error {
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// validNames checks that what a page published descends from its root, is named
// once, and is not the page itself; else the settled XOR would lie.
func validNames(root, self string, published []string) error {
	seen := make(map[string]bool, len(published))
	for _, n := range published {
		if n == self || n == root || seen[n] || page.Root(n) != root {
			return invalid("published name %q is not a new page made of %s", n, self)
		}
		seen[n] = true
	}
	return nil
}
