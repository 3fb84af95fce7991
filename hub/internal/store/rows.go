package store

import (
	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// jobRow is the part of a job that deliveries change.
type jobRow struct {
	id                                             page.ID
	kind                                           model.JobKind
	state                                          model.JobState
	cause                                          string
	retryAt                                        int64
	flow                                           page.ID
	flowName                                       string
	flowVersion                                    uint64
	exported, delivered, filtered, parked, expired int64
	pages, settled                                 int64
}

// loadJob reads a job within its scope.
func loadJob(q querier, scope Scope, id page.ID) (*jobRow, bool, error) {
	j := &jobRow{id: id}
	found, err := q.row(`SELECT kind, state, cause, retry_at, flow, flow_name, flow_version,
		exported, delivered, filtered, parked, expired, pages, settled
		FROM jobs WHERE id = ? AND tenant = ? AND environment = ?`,
		[]any{id.String(), scope.Tenant.String(), scope.Environment.String()},
		&j.kind, &j.state, &j.cause, &j.retryAt, idScan{&j.flow}, &j.flowName, &j.flowVersion,
		&j.exported, &j.delivered, &j.filtered, &j.parked, &j.expired, &j.pages, &j.settled)
	return j, found, err
}

// accounted is the number of source records that found their end.
func (j *jobRow) accounted() int64 { return j.delivered + j.filtered + j.parked + j.expired }

// add counts outcomes; save writes them.
func (j *jobRow) add(o Outcomes) {
	j.delivered += o.Delivered
	j.filtered += o.Filtered
	j.parked += o.Parked
	j.expired += o.Expired
}

// saveCounts writes the counters. The caller knows that the job is not terminal.
func (j *jobRow) saveCounts(t *tx, bytes uint64) error {
	_, err := t.exec(`UPDATE jobs SET exported = ?, delivered = ?, filtered = ?, parked = ?, expired =
		?,
		pages = ?, settled = ?, bytes = bytes + ? WHERE id = ? AND ended = 0`,
		j.exported, j.delivered, j.filtered, j.parked, j.expired, j.pages, j.settled,
		int64(bytes), j.id.String())
	return err
}

// chainRow is the state of one chain of pages.
type chainRow struct {
	chain                    page.Chain
	connection               page.ID
	resumable, open, ended   bool
	totalPages, totalRecords uint64
	accepted, records        uint64
	lastHash                 page.Hash
	cursor                   []byte
	epoch                    page.Epoch
	baseSeq, baseRecords     uint64
	baseHash                 page.Hash
	baseCursor               []byte
	nextRead, publishedRead  int64
	publishedAt              int64
	continuation             []byte
	outPages, outBytes       int64
	settled, settledTo       uint64
}

func loadChain(q querier, scope Scope, chain page.Chain) (*chainRow, bool, error) {
	c := &chainRow{chain: chain}
	found, err := q.row(`SELECT connection, resumable, open, ended, total_pages, total_records,
		accepted, records, last_hash, last_cursor, epoch, base_seq, base_records, base_hash, base_cursor,
		next_read, published_read, published_at, continuation, out_pages, out_bytes, settled, settled_to
		FROM chains WHERE job = ? AND step = ? AND tenant = ? AND environment = ?`,
		[]any{chain.Job.String(), chain.Step, scope.Tenant.String(), scope.Environment.String()},
		idScan{&c.connection}, &c.resumable, &c.open, &c.ended, &c.totalPages, &c.totalRecords,
		&c.accepted, &c.records, bytesScan{c.lastHash[:]}, &c.cursor, bytesScan{c.epoch[:]},
		&c.baseSeq, &c.baseRecords, bytesScan{c.baseHash[:]}, &c.baseCursor,
		&c.nextRead, &c.publishedRead, &c.publishedAt, &c.continuation,
		&c.outPages, &c.outBytes, &c.settled, &c.settledTo)
	return c, found, err
}

// saveEpoch writes what Resume changes: who reads now and where it began.
func (c *chainRow) saveEpoch(t *tx) error {
	_, err := t.exec(`UPDATE chains SET epoch = ?, base_seq = ?, base_records = ?, base_hash = ?,
		base_cursor = ? WHERE job = ? AND step = ?`,
		c.epoch[:], int64(c.baseSeq), int64(c.baseRecords), c.baseHash[:], blob(c.baseCursor),
		c.chain.Job.String(), c.chain.Step)
	return err
}

// saveAccepted writes what an acceptance changes.
func (c *chainRow) saveAccepted(t *tx) error {
	_, err := t.exec(`UPDATE chains SET ended = ?, total_pages = ?, total_records = ?, accepted = ?,
		records = ?, last_hash = ?, last_cursor = ?, out_pages = ?, out_bytes = ?, settled = ?,
		settled_to = ?
		WHERE job = ? AND step = ?`,
		flag(c.ended), int64(c.totalPages), int64(c.totalRecords), int64(c.accepted),
		int64(c.records), c.lastHash[:], blob(c.cursor), c.outPages, c.outBytes,
		int64(c.settled), int64(c.settledTo), c.chain.Job.String(), c.chain.Step)
	return err
}

// saveSettled writes what a receipt changes.
func (c *chainRow) saveSettled(t *tx) error {
	_, err := t.exec(`UPDATE chains SET out_pages = ?, out_bytes = ?, settled = ?, settled_to = ?
		WHERE job = ? AND step = ?`,
		c.outPages, c.outBytes, int64(c.settled), int64(c.settledTo), c.chain.Job.String(), c.chain.Step)
	return err
}

// saveRead writes what the end of a read changes.
func (c *chainRow) saveRead(t *tx) error {
	_, err := t.exec(`UPDATE chains SET next_read = ?, continuation = ? WHERE job = ? AND step = ?`,
		c.nextRead, blob(c.continuation), c.chain.Job.String(), c.chain.Step)
	return err
}

// readNext is the read request to publish now; nil when there is none, it is
// published already, or enough is outstanding (DELIVERY §1.2, §1.3).
func (c *chainRow) readNext(j *jobRow, opt options) *uint64 {
	switch {
	case j.state != model.JobRunning || c.ended || !c.open:
		return nil
	case c.nextRead <= c.publishedRead:
		return nil
	case c.outPages >= opt.maxPages || c.outBytes >= opt.maxBytes:
		return nil
	}
	n := uint64(c.nextRead)
	return &n
}

// rootRow is one root page. It may exist before its acceptance: receipts of what
// was made of it commute with it.
type rootRow struct {
	name              string
	parsed            page.ParsedName
	exists            bool
	accepted, settled bool
	hash              page.Hash
	outXOR            int64 // published and not receipted names
	bytes             int64 // outstanding
}

func loadRoot(q querier, scope Scope, name string) (*rootRow, error) {
	parsed, err := page.ParseName(name)
	if err != nil {
		return nil, err
	}
	if parsed.Pushed || parsed.Read || parsed.Path != "" {
		return nil, invalid("%s is not the root of a chained page", name)
	}
	r := &rootRow{name: name, parsed: parsed}
	r.exists, err = q.row(`SELECT accepted, settled, hash, out_xor, bytes FROM roots
		WHERE name = ? AND tenant = ? AND environment = ?`,
		[]any{name, scope.Tenant.String(), scope.Environment.String()},
		&r.accepted, &r.settled, bytesScan{r.hash[:]}, &r.outXOR, &r.bytes)
	return r, err
}

// fold XORs names in (DELIVERY §3.5).
func (r *rootRow) fold(names ...string) {
	for _, n := range names {
		r.outXOR ^= int64(page.NameHash64(n))
	}
}

// save writes the row that a receipt changed.
func (r *rootRow) save(t *tx, scope Scope, now int64) error {
	if !r.exists {
		return r.insert(t, scope, nil, now)
	}
	_, err := t.exec(`UPDATE roots SET settled = ?, settled_at = ?, out_xor = ?, bytes = ? WHERE name
		= ?`,
		flag(r.settled), r.settledAt(now), r.outXOR, r.bytes, r.name)
	return err
}

// saveAccepted writes the row with what its acceptance knows.
func (r *rootRow) saveAccepted(t *tx, a *Acceptance, now int64) error {
	if !r.exists {
		return r.insert(t, a.Scope, a, now)
	}
	_, err := t.exec(`UPDATE roots SET accepted = 1, settled = ?, settled_at = ?, hash = ?, prev = ?,
		out_xor = ?, records = ?, bytes = ?, last_cursor = ? WHERE name = ?`,
		flag(r.settled), r.settledAt(now), r.hash[:], a.Prev[:],
		r.outXOR, int64(a.Records), r.bytes, blob(a.Cursor), r.name)
	return err
}

func (r *rootRow) insert(t *tx, scope Scope, a *Acceptance, now int64) error {
	if a == nil {
		a = &Acceptance{}
	}
	_, err := t.exec(`INSERT INTO roots (name, tenant, environment, job, step, seq, accepted, settled,
		settled_at, hash, prev, out_xor, records, bytes, last_cursor)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.name, scope.Tenant.String(), scope.Environment.String(), r.parsed.Chain.Job.String(),
		r.parsed.Chain.Step, int64(r.parsed.Seq), flag(r.accepted), flag(r.settled), r.settledAt(now),
		r.hash[:], a.Prev[:], r.outXOR, int64(a.Records), r.bytes, blob(a.Cursor))
	r.exists = true
	return err
}

func (r *rootRow) settledAt(now int64) int64 {
	if r.settled {
		return now
	}
	return 0
}
