package store

import (
	"fmt"
	"strings"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// endIfDone ends a job whose chains ended, whose pages are all settled and whose
// sum closes (DELIVERY §7). If everything is settled and the sum is open, the
// job is paused with E_SUM_OPEN instead: a state that should never be.
func (s *Store) endIfDone(t *tx, scope Scope, j *jobRow, p *Progress, now int64) error {
	if j.state.Terminal() || j.pages != j.settled {
		return nil
	}
	var chains, running int64
	if _, err := t.row(`SELECT count(*), coalesce(sum(1 - ended), 0) FROM chains WHERE job = ?`,
		[]any{j.id.String()}, &chains, &running); err != nil {
		return err
	}
	if chains == 0 || running > 0 {
		return nil
	}
	open, err := openSums(t, j)
	if err != nil {
		return err
	}
	if open != "" {
		return s.pauseOpen(t, scope, j, p, open)
	}
	state := model.JobCompleted
	if j.parked > 0 || j.expired > 0 {
		state = model.JobCompletedWithErrors
	}
	if err := endJob(t, j, state, "", now); err != nil {
		return err
	}
	job, _, err := readJob(t, scope, j.id)
	p.JobEnded = job
	return err
}

// openSums describes what does not close; empty when everything does.
func openSums(q querier, j *jobRow) (string, error) {
	var open []string
	if d := j.exported - j.accounted(); d != 0 {
		open = append(open, fmt.Sprintf("%d of %d exported records are not accounted for", d, j.exported))
	}
	steps, err := loadSteps(q, j.id)
	if err != nil {
		return "", err
	}
	for _, c := range steps {
		if d := c.Open(); d != 0 {
			open = append(open, fmt.Sprintf("step %s is open by %d", c.Step, d))
		}
	}
	return strings.Join(open, "; "), nil
}

func (s *Store) pauseOpen(t *tx, scope Scope, j *jobRow, p *Progress, open string) error {
	cause, err := faultText(sumOpen(open))
	if err != nil {
		return err
	}
	s.opt.log.Error("sum open", "job", j.id, "open", open)
	j.state = model.JobPaused
	if _, err := t.exec(`UPDATE jobs SET state = ?, cause = ?, paused_by = '', retry_at = 0
		WHERE id = ? AND ended = 0`, string(model.JobPaused), cause, j.id.String()); err != nil {
		return err
	}
	p.SumOpen, _, err = readJob(t, scope, j.id)
	return err
}

// endJob writes a terminal state, once, and closes what belongs to the job.
func endJob(t *tx, j *jobRow, state model.JobState, cause string, now int64) error {
	n, err := t.exec(`UPDATE jobs SET state = ?, cause = ?, paused_by = '', retry_at = 0, ended = ?
		WHERE id = ? AND ended = 0`, string(state), cause, now, j.id.String())
	if err != nil {
		return err
	}
	if n == 0 {
		return stateConflict("the job has ended already")
	}
	j.state = state
	id := j.id.String()
	for _, query := range []string{
		`UPDATE chains SET open = 0 WHERE job = ?`,
		`UPDATE job_connections SET open = 0 WHERE job = ?`,
		`DELETE FROM claims WHERE job = ?`,
		`UPDATE fixed_pages SET published = 1 WHERE job = ? AND published = 0`,
	} {
		if _, err := t.exec(query, id); err != nil {
			return err
		}
	}
	return giveBackRetried(t, j, now)
}

// loadSteps reads the counters of a job's steps in the order of the flow.
func loadSteps(q querier, job page.ID) ([]model.StepCount, error) {
	steps := []model.StepCount{}
	rows, err := q.query(`SELECT step, n_in, n_out, n_filtered, n_parked, n_merged, n_created
		FROM job_steps WHERE job = ? ORDER BY place`, job.String())
	err = each(rows, err, func(r rowScanner) error {
		var c model.StepCount
		err := r.Scan(&c.Step, &c.In, &c.Out, &c.Filtered, &c.Parked, &c.Merged, &c.Created)
		steps = append(steps, c)
		return err
	})
	return steps, err
}
