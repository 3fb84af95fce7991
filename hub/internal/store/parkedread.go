package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

const parkedColumns = `SELECT id, tenant, environment, job, flow, flow_name, flow_version, step,
	page,
	page_index, origin_root, origin_index, class, code, fingerprint, trace_hash, record, detail, state,
	retry_job, retry_seq, retry_index, attempts, edited, created, updated FROM parked`

// Parked lists parked records, newest first.
func (s *Store) Parked(
	ctx context.Context, scope Scope, f ParkedFilter, limit int, cursor string,
) (ParkedList, error) {
	var out ParkedList
	var err error
	out.Items, err = byState(f.States, limit+1, func(states []model.ParkedState) ([]Parked, error) {
		f.States = states
		w := f.where(scope)
		if err := w.before(cursor); err != nil {
			return nil, err
		}
		return scanParkedAll(s.read(ctx),
			parkedColumns+w.text()+` ORDER BY created DESC, id DESC LIMIT ?`, append(w.args, limit+1)...)
	}, func(p Parked) (time.Time, page.ID) { return p.Created, p.ID })
	if err != nil {
		return ParkedList{}, fmt.Errorf("list parked records: %w", err)
	}
	if len(out.Items) > limit {
		out.Items = out.Items[:limit]
		out.Next = cursorAt(out.Items[limit-1].Created, out.Items[limit-1].ID)
	}
	return out, nil
}

func (f ParkedFilter) where(scope Scope) *where {
	w := inScope(scope)
	if len(f.IDs) > 0 {
		ids := make([]string, len(f.IDs))
		for i, id := range f.IDs {
			ids[i] = id.String()
		}
		whereIn(w, `id`, ids)
	}
	if !f.Flow.IsZero() {
		w.and(`flow = ?`, f.Flow.String())
	}
	if !f.Job.IsZero() {
		w.and(`job = ?`, f.Job.String())
	}
	whereIn(w, `state`, f.States)
	for _, c := range [][2]string{{`class = ?`, string(f.Class)}, {`code = ?`, f.Code}, {`fingerprint
		= ?`, f.Fingerprint}} {
		if c[1] != "" {
			w.and(c[0], c[1])
		}
	}
	if !f.TraceHash.IsZero() {
		w.and(`trace_hash = ?`, f.TraceHash[:])
	}
	return w
}

// ParkedByID returns one parked record.
func (s *Store) ParkedByID(ctx context.Context, scope Scope, id page.ID) (Parked, error) {
	p, err := parkedByID(s.read(ctx), scope, id)
	if err != nil {
		return Parked{}, fmt.Errorf("read parked record %s: %w", id, err)
	}
	return p, nil
}

func parkedByID(q querier, scope Scope, id page.ID) (Parked, error) {
	w := inScope(scope)
	w.and(`id = ?`, id.String())
	list, err := scanParkedAll(q, parkedColumns+w.text(), w.args...)
	if err != nil {
		return Parked{}, err
	}
	if len(list) == 0 {
		return Parked{}, notFound("parked record", id.String())
	}
	return list[0], nil
}

func scanParkedAll(q querier, query string, args ...any) ([]Parked, error) {
	list := []Parked{}
	rows, err := q.query(query, args...)
	err = each(rows, err, func(r rowScanner) error {
		var p Parked
		var created, updated int64
		err := r.Scan(idScan{&p.ID}, idScan{&p.Scope.Tenant}, idScan{&p.Scope.Environment},
			idScan{&p.Job},
			idScan{&p.Flow}, &p.FlowName, &p.FlowVersion, &p.Step, &p.Page, &p.Index, &p.Origin.Root,
			&p.Origin.Index, &p.Class, &p.Code, &p.Fingerprint, bytesScan{p.TraceHash[:]}, &p.Record,
			&p.Detail,
			&p.State, idScan{&p.RetryJob}, &p.RetrySeq, &p.RetryIndex, &p.Attempts, &p.Edited, &created,
			&updated)
		p.Created, p.Updated = timeOf(created), timeOf(updated)
		list = append(list, p)
		return err
	})
	return list, err
}

// EditParked replaces the sealed record of a waiting entry, with an audit row.
func (s *Store) EditParked(
	ctx context.Context, scope Scope, id page.ID, sealed []byte, actor string, now time.Time,
) error {
	return s.changeParked(ctx, "edit", scope, id, actor, now, func(t *tx) (int64, error) {
		return t.exec(`UPDATE parked SET record = ?, edited = 1, updated = ? WHERE id = ? AND state =
			'parked'`,
			blob(sealed), micros(now), id.String())
	})
}

// ResolveParked closes a waiting entry by hand: state is resolved or ignored.
func (s *Store) ResolveParked(
	ctx context.Context, scope Scope, id page.ID, state model.ParkedState, actor string, now time.Time,
) error {
	if state != model.ParkedResolved && state != model.ParkedIgnored {
		return fmt.Errorf("resolve parked record %s: %w", id, invalid("state %q", state))
	}
	verb := map[model.ParkedState]string{model.ParkedResolved: "resolve",
		model.ParkedIgnored: "ignore"}[state]
	return s.changeParked(ctx, verb, scope, id, actor, now, func(t *tx) (int64, error) {
		return t.exec(`UPDATE parked SET state = ?, updated = ? WHERE id = ? AND state = 'parked'`,
			string(state), micros(now), id.String())
	})
}

func (s *Store) changeParked(ctx context.Context, verb string, scope Scope, id page.ID,
	actor string, now time.Time, change func(*tx) (int64, error)) error {
	err := s.write(ctx, func(t *tx) error {
		p, err := parkedByID(t, scope, id)
		if err != nil {
			return err
		}
		n, err := change(t)
		if err == nil && n == 0 {
			err = stateConflict("the record is %s", p.State)
		}
		if err != nil {
			return err
		}
		return appendAudit(t, model.AuditEntry{At: now, Tenant: scope.Tenant,
			Environment: scope.Environment,
			Actor:       actor, Action: "error " + verb, Kind: "ParkedRecord", Object: id.String()})
	})
	if err != nil {
		return fmt.Errorf("%s parked record %s: %w", verb, id, err)
	}
	return nil
}

// ResolveByTrace resolves waiting entries of earlier jobs of a flow whose record
// has now been delivered; it returns how many.
func (s *Store) ResolveByTrace(
	ctx context.Context, scope Scope, flow, job page.ID, traces []page.Hash, now time.Time,
) (int, error) {
	total := 0
	err := s.write(ctx, func(t *tx) error {
		for _, h := range traces {
			if h.IsZero() {
				continue
			}
			n, err := t.exec(`UPDATE parked SET state = 'resolved', updated = ? WHERE tenant = ? AND
				environment = ?
				AND flow = ? AND trace_hash = ? AND state = 'parked' AND job <> ?`,
				micros(now), scope.Tenant.String(), scope.Environment.String(), flow.String(), h[:],
				job.String())
			if err != nil {
				return err
			}
			total += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("resolve parked records by trace key: %w", err)
	}
	return total, nil
}

// HasParked reports whether a flow has entries waiting, so that ResolveByTrace
// need not be asked for every page of a healthy flow.
func (s *Store) HasParked(ctx context.Context, scope Scope, flow page.ID) (bool, error) {
	found, err := s.read(ctx).row(`SELECT 1 FROM parked WHERE tenant = ? AND environment = ? AND flow
		= ?
		AND state = 'parked' LIMIT 1`,
		[]any{scope.Tenant.String(), scope.Environment.String(), flow.String()}, new(int))
	if err != nil {
		return false, fmt.Errorf("look for parked records of flow %s: %w", flow, err)
	}
	return found, nil
}

// ParkedCounts counts the entries of a scope by state.
func (s *Store) ParkedCounts(
	ctx context.Context, scope Scope, flow page.ID,
) (map[model.ParkedState]int64, error) {
	w := inScope(scope)
	if !flow.IsZero() {
		w.and(`flow = ?`, flow.String())
	}
	out := map[model.ParkedState]int64{}
	rows, err := s.read(ctx).query(`SELECT state, count(*) FROM parked`+w.text()+` GROUP BY state`,
		w.args...)
	err = each(rows, err, func(r rowScanner) error {
		var state model.ParkedState
		var n int64
		err := r.Scan(&state, &n)
		out[state] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count parked records: %w", err)
	}
	return out, nil
}
