package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// CreateJob writes a job with its steps and, for an export, its chain. Unless it
// is to be queued it runs at once; the answer names the reads to publish.
func (s *Store) CreateJob(ctx context.Context, n NewJob) (Reads, error) {
	var out Reads
	err := s.write(ctx, func(t *tx) error {
		if err := insertJob(t, n); err != nil {
			return err
		}
		if !n.Queued {
			if err := runJob(t, n.ID, n.Now); err != nil {
				return err
			}
		}
		return s.readReads(t, n.Scope, n.ID, &out)
	})
	if err != nil {
		return Reads{}, fmt.Errorf("create job %s: %w", n.ID, err)
	}
	return out, nil
}

func runJob(t *tx, id page.ID, now time.Time) error {
	_, err := t.exec(`UPDATE jobs SET state = ?, started = ? WHERE id = ?`,
		string(model.JobRunning), micros(now), id.String())
	return err
}

// readReads reads a job and, if it runs, the reads to publish.
func (s *Store) readReads(t *tx, scope Scope, id page.ID, out *Reads) error {
	job, found, err := readJob(t, scope, id)
	if err == nil && !found {
		err = notFound("job", id.String())
	}
	if err != nil {
		return err
	}
	out.Job = *job
	if job.State == model.JobRunning {
		out.Next, err = s.nextReads(t, id)
	}
	return err
}

func insertJob(t *tx, n NewJob) error {
	vars := string(n.Vars)
	_, err := t.exec(`INSERT INTO jobs (id, tenant, environment, flow, flow_name, flow_version, kind,
		state,
		cause, paused_by, retry_at, vars, guarantee, created, started, ended,
		exported, delivered, filtered, parked, expired, pages, settled, bytes)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', 0, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)`,
		n.ID.String(), n.Scope.Tenant.String(), n.Scope.Environment.String(), n.Flow.String(), n.FlowName,
		int64(n.FlowVersion), string(n.Kind), string(model.JobQueued), vars, n.Guarantee, micros(n.Now))
	if err != nil {
		return err
	}
	for i, step := range n.Steps {
		if _, err := t.exec(`INSERT INTO job_steps (job, step, place, n_in, n_out, n_filtered, n_parked,
			n_merged, n_created) VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0)`, n.ID.String(), step, i); err != nil {
			return err
		}
	}
	for _, c := range n.Connections {
		if _, err := t.exec(`INSERT INTO job_connections (job, connection, open) VALUES (?, ?, 1)
			ON CONFLICT DO NOTHING`, n.ID.String(), c.String()); err != nil {
			return err
		}
	}
	if n.Export == nil {
		return nil
	}
	return insertChain(t, n.Scope, &chainRow{chain: page.Chain{Job: n.ID, Step: n.Export.Step},
		connection: n.Export.Connection, resumable: n.Export.Resumable, publishedRead: -1})
}

func insertChain(t *tx, scope Scope, c *chainRow) error {
	_, err := t.exec(`INSERT INTO chains (job, step, tenant, environment, connection, resumable, open,
		ended,
		total_pages, total_records, accepted, records, last_hash, last_cursor, epoch,
		base_seq, base_hash, base_cursor, base_records, next_read, published_read, published_at,
		continuation, out_pages, out_bytes, settled, settled_to)
		VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 0, ?, ?, 0, ?, ?, ?, 0, 0)`,
		c.chain.Job.String(), c.chain.Step, scope.Tenant.String(), scope.Environment.String(),
		idText(c.connection), flag(c.resumable), flag(c.ended), int64(c.totalPages),
		int64(c.totalRecords),
		int64(c.accepted), int64(c.records), c.lastHash[:], []byte{}, c.epoch[:], c.baseHash[:], []byte{},
		c.nextRead, c.publishedRead, []byte{}, c.outPages, c.outBytes)
	return err
}

// StartJob moves a queued job to running and names the reads to publish. A job
// that runs already gives the same answer.
func (s *Store) StartJob(
	ctx context.Context, scope Scope, id page.ID, now time.Time,
) (Reads, error) {
	return s.setRunning(ctx, "start", scope, id, func(t *tx, j *jobRow) error {
		if j.state != model.JobQueued {
			return stateConflict("the job is %s, not queued", j.state)
		}
		return runJob(t, id, now)
	})
}

// setRunning makes a job run by way of change and returns what to publish.
func (s *Store) setRunning(
	ctx context.Context, verb string, scope Scope, id page.ID, change func(*tx, *jobRow) error,
) (Reads, error) {
	var out Reads
	err := s.write(ctx, func(t *tx) error {
		j, found, err := loadJob(t, scope, id)
		if err == nil && !found {
			err = notFound("job", id.String())
		}
		if err != nil {
			return err
		}
		if j.state != model.JobRunning {
			if err := change(t, j); err != nil {
				return err
			}
		}
		return s.readReads(t, scope, id, &out)
	})
	if err != nil {
		return Reads{}, fmt.Errorf("%s job %s: %w", verb, id, err)
	}
	return out, nil
}

// Job returns one job with its counters.
func (s *Store) Job(ctx context.Context, scope Scope, id page.ID) (model.Job, error) {
	job, found, err := readJob(s.read(ctx), scope, id)
	if err == nil && !found {
		err = notFound("job", id.String())
	}
	if err != nil {
		return model.Job{}, fmt.Errorf("read job %s: %w", id, err)
	}
	return *job, nil
}

// Plan returns what the engine needs to run a step of a job.
func (s *Store) Plan(ctx context.Context, scope Scope, id page.ID) (JobPlan, error) {
	p := JobPlan{Job: id}
	var vars string
	var created int64
	found, err := s.read(ctx).row(`SELECT flow, flow_version, kind, state, vars, created FROM jobs
		WHERE id = ? AND tenant = ? AND environment = ?`,
		[]any{id.String(), scope.Tenant.String(), scope.Environment.String()},
		idScan{&p.Flow}, &p.Version, &p.Kind, &p.State, &vars, &created)
	if err == nil && !found {
		err = notFound("job", id.String())
	}
	if err != nil {
		return JobPlan{}, fmt.Errorf("read plan of job %s: %w", id, err)
	}
	if vars != "" {
		p.Vars = []byte(vars)
	}
	p.Created = timeOf(created)
	return p, nil
}

// Jobs lists jobs, newest first.
func (s *Store) Jobs(
	ctx context.Context, scope Scope, f JobFilter, limit int, cursor string,
) (JobList, error) {
	var out JobList
	var err error
	out.Items, err = byState(f.States, limit+1, func(states []model.JobState) ([]model.Job, error) {
		f.States = states
		w := f.where(scope)
		if err := w.before(cursor); err != nil {
			return nil, err
		}
		return scanJobs(s.read(ctx), w, limit+1)
	}, func(j model.Job) (time.Time, page.ID) { return j.Created, j.ID })
	if err != nil {
		return JobList{}, fmt.Errorf("list jobs: %w", err)
	}
	if len(out.Items) > limit {
		out.Items = out.Items[:limit]
		out.Next = cursorAt(out.Items[limit-1].Created, out.Items[limit-1].ID)
	}
	return out, nil
}

func scanJobs(q querier, w *where, limit int) ([]model.Job, error) {
	list := []model.Job{}
	rows, err := q.query(jobColumns+w.text()+` ORDER BY created DESC, id DESC LIMIT ?`, append(w.args,
		limit)...)
	err = each(rows, err, func(r rowScanner) error {
		job, err := scanJob(r)
		if err == nil {
			list = append(list, *job)
		}
		return err
	})
	for i := range list {
		if err == nil {
			list[i].Steps, err = loadSteps(q, list[i].ID)
		}
	}
	return list, err
}

func (f JobFilter) where(scope Scope) *where {
	w := inScope(scope)
	if !f.Flow.IsZero() {
		w.and(`flow = ?`, f.Flow.String())
	}
	if f.Kind != "" {
		w.and(`kind = ?`, string(f.Kind))
	}
	whereIn(w, `state`, f.States)
	return w
}

const jobColumns = `SELECT id, tenant, environment, flow, flow_name, flow_version, kind, state,
	cause,
	guarantee, created, started, ended, exported, delivered, filtered, parked, expired, pages, bytes
	FROM jobs`

// readJob reads a job with its steps, for people.
func readJob(q querier, scope Scope, id page.ID) (*model.Job, bool, error) {
	w := inScope(scope)
	w.and(`id = ?`, id.String())
	rows, err := q.query(jobColumns+w.text(), w.args...)
	var job *model.Job
	err = each(rows, err, func(r rowScanner) (err error) {
		job, err = scanJob(r)
		return err
	})
	if err != nil || job == nil {
		return nil, false, err
	}
	job.Steps, err = loadSteps(q, id)
	return job, err == nil, err
}

func scanJob(r rowScanner) (*model.Job, error) {
	var j model.Job
	var cause string
	var created, started, ended int64
	err := r.Scan(idScan{&j.ID}, idScan{&j.Tenant}, idScan{&j.Environment}, idScan{&j.Flow},
		&j.FlowName,
		&j.FlowVersion, &j.Kind, &j.State, &cause, &j.Guarantee, &created, &started, &ended,
		&j.Records.Exported, &j.Records.Delivered, &j.Records.Filtered, &j.Records.Parked,
		&j.Records.Expired,
		&j.Pages, &j.Bytes)
	if err != nil {
		return nil, err
	}
	j.Created, j.Started, j.Ended = timeOf(created), timePtr(started), timePtr(ended)
	n := &j.Records
	n.Waiting = n.Exported - n.Delivered - n.Filtered - n.Parked - n.Expired
	if j.Started != nil && j.Ended != nil {
		j.Duration = j.Ended.Sub(*j.Started).Seconds()
	}
	j.Cause, err = faultOf(cause)
	return &j, err
}
