package store

import (
	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// insertParked writes the records that a page parked. In a retry job they count
// on from the record that was retried; elsewhere a waiting record of another job
// with the same trace key is superseded (SEMANTICS §5.5).
func (s *Store) insertParked(
	t *tx, scope Scope, j *jobRow, root string, records []NewParked, now int64,
) error {
	for i := range records {
		attempts := int64(1)
		if j.kind == model.JobRetry {
			before, err := attemptsOf(t, root, records[i].Origin)
			if err != nil {
				return err
			}
			attempts += before
		} else if err := supersedeByTrace(t, scope, j, records[i].TraceHash, now); err != nil {
			return err
		}
		if err := insertOneParked(t, scope, j, &records[i], attempts, now); err != nil {
			return err
		}
	}
	return nil
}

func insertOneParked(t *tx, scope Scope, j *jobRow, p *NewParked, attempts, now int64) error {
	trace := []byte{}
	if !p.TraceHash.IsZero() {
		trace = p.TraceHash[:]
	}
	_, err := t.exec(`INSERT INTO parked (id, tenant, environment, job, flow, flow_name, flow_version,
		step,
		page, page_index, origin_root, origin_index, class, code, fingerprint, trace_hash, record, detail,
		state, retry_job, retry_root, retry_seq, retry_index, attempts, edited, created, updated)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', 0, 0, ?, 0, ?, ?)`,
		p.ID.String(), scope.Tenant.String(), scope.Environment.String(), j.id.String(), j.flow.String(),
		j.flowName, int64(j.flowVersion), p.Step, p.Page, int64(p.Index), p.Origin.Root,
		int64(p.Origin.Index), string(p.Class), p.Code, p.Fingerprint, trace, blob(p.Record),
		blob(p.Detail), string(model.ParkedWaiting), attempts, now, now)
	return err
}

func attemptsOf(t *tx, root string, o page.Origin) (int64, error) {
	var n int64
	_, err := t.row(`SELECT attempts FROM parked WHERE retry_root = ? AND retry_root <> ''
		AND origin_root = ? AND origin_index = ?`,
		[]any{root, o.Root, int64(o.Index)}, &n)
	return n, err
}

func supersedeByTrace(t *tx, scope Scope, j *jobRow, trace page.Hash, now int64) error {
	if trace.IsZero() {
		return nil
	}
	_, err := t.exec(`UPDATE parked SET state = 'superseded', updated = ? WHERE tenant = ? AND
		environment = ?
		AND flow = ? AND trace_hash = ? AND state = 'parked' AND job <> ?`,
		now, scope.Tenant.String(), scope.Environment.String(), j.flow.String(), trace[:], j.id.String())
	return err
}

// resolveRetried decides the fate of the records of a retry page once it is
// settled: parked again = superseded by the newer entry, anything else = resolved.
func resolveRetried(t *tx, j *jobRow, root string, now int64) error {
	if j.kind != model.JobRetry {
		return nil
	}
	if _, err := t.exec(`UPDATE parked SET state = 'superseded', updated = ?
		WHERE retry_root = ? AND retry_root <> '' AND state = 'retrying' AND EXISTS (SELECT 1 FROM parked
		n
			WHERE n.job = ? AND n.origin_root = parked.origin_root AND n.origin_index =
			parked.origin_index)`,
		now, root, j.id.String()); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE parked SET state = 'resolved', updated = ?
		WHERE retry_root = ? AND retry_root <> '' AND state = 'retrying'`,
		now, root)
	return err
}

// giveBackRetried lets the records of a retry that ended early wait again. They
// keep the name of the page they were in: its import may be under way still.
func giveBackRetried(t *tx, j *jobRow, now int64) error {
	if j.kind != model.JobRetry {
		return nil
	}
	_, err := t.exec(`UPDATE parked SET state = 'parked', retry_job = '', updated = ?
		WHERE state = 'retrying' AND retry_root <> '' AND retry_root IN (SELECT root FROM fixed_pages
		WHERE job = ?)`,
		now, j.id.String())
	return err
}

// resolveLate resolves the records of a retry that was ended while its last step
// ran, and which then succeeded: a second retry would deliver them twice. Records
// that another retry has taken meanwhile stay there.
func resolveLate(t *tx, j *jobRow, root string, r *Receipt) error {
	if j.kind != model.JobRetry || len(r.Published) > 0 {
		return nil
	}
	again := make(map[page.Origin]bool, len(r.Parked))
	for _, p := range r.Parked {
		again[p.Origin] = true
	}
	var done []string
	rows, err := t.query(`SELECT id, origin_root, origin_index FROM parked
		WHERE retry_root = ? AND retry_root <> '' AND state = 'parked'`, root)
	err = each(rows, err, func(r rowScanner) error {
		var id string
		var o page.Origin
		err := r.Scan(&id, &o.Root, &o.Index)
		if !again[o] {
			done = append(done, id)
		}
		return err
	})
	for _, id := range done {
		if err == nil {
			_, err = t.exec(`UPDATE parked SET state = 'resolved', updated = ? WHERE id = ?`, micros(r.Now), id)
		}
	}
	return err
}
