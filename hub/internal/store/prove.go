package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// Prove sums a job up again from its receipts, not from its counters, and
// compares, as of one moment: steps, source records, the settled XOR, the order of the chain and
// the parked rows. Each thing that does not close is one finding.
func (s *Store) Prove(
	ctx context.Context, scope Scope, id page.ID, now time.Time,
) (model.Proof, error) {
	p := &prover{now: now, steps: map[string]model.StepCount{}, xor: map[string]uint64{}}
	err := s.readSnapshot(ctx, func(q querier) error {
		job, found, err := readJob(q, scope, id)
		if err == nil && !found {
			err = notFound("job", id.String())
		}
		if err == nil {
			err = ledgerKept(q, job)
		}
		if err != nil {
			return err
		}
		p.q, p.job = q, job
		return inOrder(p.sumReceipts, p.proveChains, p.proveParked)
	})
	if err != nil {
		return model.Proof{}, fmt.Errorf("prove job %s: %w", id, err)
	}
	p.proveSteps()
	p.proveRecords()
	return p.proof(), nil
}

// prover collects what receipts say and what does not agree with it.
type prover struct {
	q        querier
	now      time.Time
	job      *model.Job
	steps    map[string]model.StepCount
	sum      model.RecordCounts
	xor      map[string]uint64 // per root, made of the ledger alone
	chains   []model.ChainProof
	stepList []model.StepProof
	findings []string
}

func (p *prover) find(format string, args ...any) {
	p.findings = append(p.findings, fmt.Sprintf(format, args...))
}

func (p *prover) sumReceipts() error {
	rows, err := p.q.query(`SELECT name, root, exported, delivered, filtered, parked, expired, counts,
		published
		FROM receipts WHERE job = ?`, p.job.ID.String())
	return each(rows, err, func(r rowScanner) error {
		var name, root, counts, published string
		var n model.RecordCounts
		if err := r.Scan(&name, &root, &n.Exported, &n.Delivered, &n.Filtered, &n.Parked, &n.Expired,
			&counts, &published); err != nil {
			return err
		}
		p.sum.Exported += n.Exported
		p.sum.Delivered += n.Delivered
		p.sum.Filtered += n.Filtered
		p.sum.Parked += n.Parked
		p.sum.Expired += n.Expired
		return p.addReceipt(name, root, counts, published)
	})
}

func (p *prover) addReceipt(name, root, counts, published string) error {
	var steps []model.StepCount
	var names []string
	if err := json.Unmarshal([]byte(counts), &steps); err != nil {
		return fmt.Errorf("decode counts of receipt %s: %w", name, err)
	}
	if err := json.Unmarshal([]byte(published), &names); err != nil {
		return fmt.Errorf("decode receipt %s: %w", name, err)
	}
	for _, c := range steps {
		p.steps[c.Step] = p.steps[c.Step].Add(c)
	}
	if parsed, err := page.ParseName(name); err != nil || parsed.Read {
		return err
	}
	for _, n := range names {
		p.xor[root] ^= page.NameHash64(n)
	}
	if name != root {
		p.xor[root] ^= page.NameHash64(name)
	}
	return nil
}

// proveSteps compares the counters of each step with the ledger and closes it.
func (p *prover) proveSteps() {
	for _, c := range p.job.Steps {
		ledger := p.steps[c.Step]
		ledger.Step = c.Step
		delete(p.steps, c.Step)
		if ledger != c {
			p.find("step %s counts %d in and %d out, its receipts say %d and %d", c.Step, c.In, c.Out,
				ledger.In, ledger.Out)
		}
		if d := ledger.Open(); d != 0 {
			p.find("step %s is open by %d records", c.Step, d)
		}
		p.stepList = append(p.stepList, model.StepProof{StepCount: ledger, Difference: ledger.Open()})
	}
	for step := range p.steps {
		p.find("receipts count a step %s that the job does not have", step)
	}
}

func (p *prover) proveRecords() {
	counted := p.job.Records
	p.sum.Waiting = p.sum.Exported - p.sum.Delivered - p.sum.Filtered - p.sum.Parked - p.sum.Expired
	if counted != p.sum {
		p.find("the job counts %d exported and %d delivered, its receipts say %d and %d",
			counted.Exported, counted.Delivered, p.sum.Exported, p.sum.Delivered)
	}
	if p.sum.Waiting < 0 {
		p.find("%d records are accounted for more than once", -p.sum.Waiting)
	}
	switch p.job.State {
	case model.JobCompleted, model.JobCompletedWithErrors:
		if p.sum.Waiting > 0 {
			p.find("%d records are not accounted for", p.sum.Waiting)
		}
	case model.JobFailed, model.JobCancelled:
		if p.sum.Waiting > 0 {
			p.find("the job %s before %d exported records were processed", p.job.State, p.sum.Waiting)
		}
	default:
		p.find("the job has not ended: %d records wait", max(p.sum.Waiting, 0))
	}
}

func (p *prover) proveChains() error {
	rows, err := p.q.query(`SELECT step, ended, total_pages, total_records, accepted, records,
		last_hash, settled
		FROM chains WHERE job = ? ORDER BY step`, p.job.ID.String())
	err = each(rows, err, func(r rowScanner) error {
		var step string
		var last page.Hash
		var c model.ChainProof
		err := r.Scan(&step, &c.Ended, &c.TotalPages, &c.TotalRecords, &c.Pages, &c.Records,
			bytesScan{last[:]}, &c.Settled)
		c.Chain = page.Chain{Job: p.job.ID, Step: step}.String()
		c.LastHash = last.String()
		p.chains = append(p.chains, c)
		return err
	})
	for i := range p.chains {
		if err == nil {
			err = p.proveChain(&p.chains[i])
		}
	}
	return err
}

// proveChain walks the accepted pages in order.
func (p *prover) proveChain(c *model.ChainProof) error {
	chain, err := page.ParseChain(c.Chain)
	if err != nil {
		return err
	}
	walk := chainWalk{p: p, c: c}
	rows, err := p.q.query(`SELECT name, seq, accepted, settled, hash, prev, out_xor, records FROM
		roots
		WHERE job = ? AND step = ? ORDER BY seq, name`, chain.Job.String(), chain.Step)
	if err := each(rows, err, walk.step); err != nil {
		return err
	}
	walk.end()
	return nil
}

// chainWalk is the state of a walk along a chain.
type chainWalk struct {
	p                       *prover
	c                       *model.ChainProof
	last                    page.Hash
	pages, settled, records int64
	xor                     uint64
}

func (w *chainWalk) step(r rowScanner) error {
	var name string
	var seq, outXOR, records int64
	var accepted, settled bool
	var hash, prev page.Hash
	if err := r.Scan(&name, &seq, &accepted, &settled, bytesScan{hash[:]}, bytesScan{prev[:]}, &outXOR,
		&records); err != nil {
		return err
	}
	w.xor ^= uint64(outXOR)
	if w.p.xor[name] != uint64(outXOR) {
		w.p.find("page %s: its receipts and its settled mark do not agree", name)
	}
	if !accepted {
		w.p.find("page %s has receipts but was never accepted", name)
		return nil
	}
	if seq != w.pages || prev != w.last {
		w.p.find("page %s does not follow the page before it", name)
	}
	if settled != (outXOR == 0) {
		w.p.find("page %s is marked settled and is not, or the other way round", name)
	}
	w.pages++
	w.records += records
	w.last = hash
	if settled {
		w.settled++
	}
	return nil
}

func (w *chainWalk) end() {
	c, p := w.c, w.p
	c.OutstandingXOR = fmt.Sprintf("%016x", w.xor)
	if c.Pages != w.pages || c.Records != w.records || c.Settled != w.settled ||
		c.LastHash != w.last.String() {
		p.find("chain %s counts %d pages, %d records, %d settled; its pages say %d, %d, %d",
			c.Chain, c.Pages, c.Records, c.Settled, w.pages, w.records, w.settled)
	}
	if c.Ended && (c.TotalPages != w.pages || c.TotalRecords != w.records) {
		p.find("the end marker of chain %s counts %d pages with %d records, accepted were %d with %d",
			c.Chain, c.TotalPages, c.TotalRecords, w.pages, w.records)
	}
	completed := p.job.State == model.JobCompleted || p.job.State == model.JobCompletedWithErrors
	if completed && (!c.Ended || w.settled != w.pages) {
		p.find("the job is completed, but chain %s has not ended or has %d pages not settled", c.Chain,
			w.pages-w.settled)
	}
}

// proveParked looks for the rows of the records that were counted as parked.
func (p *prover) proveParked() error {
	var rows int64
	if _, err := p.q.row(`SELECT count(*) FROM parked WHERE job = ?`, []any{p.job.ID.String()},
		&rows); err != nil {
		return err
	}
	if rows < p.job.Records.Parked {
		p.find("%d records count as parked, but only %d are there", p.job.Records.Parked, rows)
	}
	return nil
}

func (p *prover) proof() model.Proof {
	out := model.Proof{Job: p.job.ID, State: p.job.State, Closed: len(p.findings) == 0, Records: p.sum,
		Steps: p.stepList, Chains: p.chains, Guarantee: p.job.Guarantee, Findings: p.findings,
		CheckedAt: p.now}
	completed := p.job.State == model.JobCompleted || p.job.State == model.JobCompletedWithErrors
	settled := true
	for _, c := range p.chains {
		settled = settled && c.Ended && c.Settled == c.Pages
	}
	if completed || settled {
		out.Lost = max(0, p.sum.Waiting)
	}
	out.Doubled = max(0, -p.sum.Waiting)
	if out.Findings == nil {
		out.Findings = []string{}
	}
	return out
}
