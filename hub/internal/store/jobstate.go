package store

import (
	"context"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// PauseJob stops a job where it is. Pausing a paused job replaces the cause,
// except that a sum that is open stays the cause.
func (s *Store) PauseJob(
	ctx context.Context, scope Scope, id page.ID, p Pause, now time.Time,
) error {
	cause, err := faultText(p.Cause)
	if err != nil {
		return fmt.Errorf("pause job %s: %w", id, err)
	}
	_, err = s.changeJob(ctx, "pause", scope, id, func(t *tx, j *jobRow) error {
		if old, err := faultOf(j.cause); err == nil && old != nil && old.Code == "E_SUM_OPEN" &&
			j.state == model.JobPaused {
			return nil
		}
		_, err := t.exec(`UPDATE jobs SET state = ?, cause = ?, paused_by = ?, retry_at = ? WHERE id = ?
			AND ended = 0`,
			string(model.JobPaused), cause, idText(p.Connection), microsOf(p.RetryAt), id.String())
		return err
	})
	return err
}

// ResumeJob lets a paused job go on where it stopped and names the reads to
// publish. A job with nothing left to do ends instead; one that runs already
// gives the same answer, and one that has ended is returned as it is.
func (s *Store) ResumeJob(
	ctx context.Context, scope Scope, id page.ID, now time.Time,
) (Reads, error) {
	return s.setRunning(ctx, "resume", scope, id, func(t *tx, j *jobRow) error {
		if j.state.Terminal() {
			return nil
		}
		if j.state != model.JobPaused {
			return stateConflict("the job is %s, not paused", j.state)
		}
		return s.unpause(t, scope, j, now)
	})
}

// unpause clears the cause of a paused job and ends it if nothing is left to do.
func (s *Store) unpause(t *tx, scope Scope, j *jobRow, now time.Time) error {
	j.state = model.JobRunning
	if _, err := t.exec(`UPDATE jobs SET state = ?, cause = '', paused_by = '', retry_at = 0,
		started = CASE WHEN started = 0 THEN ? ELSE started END WHERE id = ? AND ended = 0`,
		string(model.JobRunning), micros(now), j.id.String()); err != nil {
		return err
	}
	return s.endIfDone(t, scope, j, &Progress{}, micros(now))
}

// afterTry lets a paused job go on in the transaction that records the success of
// its one try: a crash between the two would leave it paused with nothing left
// that could try again. A job that also waits for a connection waits for that now.
func (s *Store) afterTry(t *tx, j *jobRow, tried bool, p *Progress, now time.Time) error {
	if !tried || j.state != model.JobPaused || j.retryAt == 0 {
		return nil
	}
	waits, err := waitForOther(t, j.id, page.ID{})
	if err != nil || waits {
		return err
	}
	j.state, p.Resumed = model.JobRunning, true
	_, err = t.exec(`UPDATE jobs SET state = ?, cause = '', paused_by = '', retry_at = 0
		WHERE id = ? AND ended = 0`, string(j.state), j.id.String())
	return err
}

// stop pauses a job that has not ended, for good until someone resumes it.
func stop(t *tx, j *jobRow, cause *fault.Error) error {
	if cause == nil || j.state.Terminal() {
		return nil
	}
	text, err := faultText(cause)
	if err != nil {
		return err
	}
	j.state = model.JobPaused
	_, err = t.exec(`UPDATE jobs SET state = ?, cause = ?, paused_by = '', retry_at = 0
		WHERE id = ? AND ended = 0`, string(j.state), text, j.id.String())
	return err
}

// CancelJob ends a job by hand. What is in flight may still arrive; its receipts
// are not counted. Records that a retry had taken and not finished wait again.
func (s *Store) CancelJob(
	ctx context.Context, scope Scope, id page.ID, now time.Time,
) (model.Job, error) {
	return s.changeJob(ctx, "cancel", scope, id, func(t *tx, j *jobRow) error {
		return endJob(t, j, model.JobCancelled, "", micros(now))
	})
}

// FailJob ends a job that cannot go on.
func (s *Store) FailJob(
	ctx context.Context, scope Scope, id page.ID, cause *fault.Error, now time.Time,
) (model.Job, error) {
	text, err := faultText(cause)
	if err != nil {
		return model.Job{}, fmt.Errorf("fail job %s: %w", id, err)
	}
	return s.changeJob(ctx, "fail", scope, id, func(t *tx, j *jobRow) error {
		return endJob(t, j, model.JobFailed, text, micros(now))
	})
}

// changeJob runs change on a job that is not terminal; else it is refused with
// E_STATE_CONFLICT.
func (s *Store) changeJob(
	ctx context.Context, verb string, scope Scope, id page.ID, change func(*tx, *jobRow) error,
) (model.Job, error) {
	var out *model.Job
	err := s.write(ctx, func(t *tx) error {
		j, found, err := loadJob(t, scope, id)
		switch {
		case err != nil:
			return err
		case !found:
			return notFound("job", id.String())
		case j.state.Terminal():
			return stateConflict("the job is %s", j.state)
		}
		if err := change(t, j); err != nil {
			return err
		}
		out, _, err = readJob(t, scope, id)
		return err
	})
	if err != nil {
		return model.Job{}, fmt.Errorf("%s job %s: %w", verb, id, err)
	}
	return *out, nil
}

// TryPaused reports whether the caller may let one page of a paused job through
// to see whether its cause is gone. Of many callers at most one wins per window:
// the winner moves the next try on by it.
func (s *Store) TryPaused(
	ctx context.Context, scope Scope, id page.ID, now time.Time,
) (bool, error) {
	won := false
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE jobs SET retry_at = ? WHERE id = ? AND tenant = ? AND environment = ?
			AND state = ? AND retry_at > 0 AND retry_at <= ?`,
			micros(now.Add(s.opt.tryWindow)), id.String(), scope.Tenant.String(), scope.Environment.String(),
			string(model.JobPaused), micros(now))
		won = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("try paused job %s: %w", id, err)
	}
	return won, nil
}

// JobRef names a job of any tenant, for the engine's own sweeps.
type JobRef struct {
	Scope Scope
	Job   page.ID
	State model.JobState
}

// UsedBy lists the jobs not yet ended that use a connection.
func (s *Store) UsedBy(ctx context.Context, connection page.ID) ([]JobRef, error) {
	return s.jobRefs(ctx, `FROM job_connections c JOIN jobs j ON j.id = c.job
		WHERE c.connection = ? AND c.open = 1`, connection.String())
}

// DuePaused lists, over all tenants, the paused jobs whose next try is due. It is
// the engine's own call.
func (s *Store) DuePaused(ctx context.Context, now time.Time) ([]JobRef, error) {
	return s.jobRefs(ctx, `FROM jobs j WHERE j.state = 'paused' AND j.retry_at > 0 AND j.retry_at <=
		?`, micros(now))
}

// OpenJobs lists, over all tenants, every job that is not terminal. It is the
// engine's own call at start.
func (s *Store) OpenJobs(ctx context.Context) ([]JobRef, error) {
	return s.jobRefs(ctx, `FROM jobs j WHERE j.ended = 0`)
}

func (s *Store) jobRefs(ctx context.Context, from string, args ...any) (list []JobRef, err error) {
	rows, err := s.read(ctx).query(`SELECT j.tenant, j.environment, j.id, j.state `+from, args...)
	err = each(rows, err, func(r rowScanner) error {
		var ref JobRef
		err := r.Scan(idScan{&ref.Scope.Tenant}, idScan{&ref.Scope.Environment}, idScan{&ref.Job},
			&ref.State)
		list = append(list, ref)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return list, nil
}
