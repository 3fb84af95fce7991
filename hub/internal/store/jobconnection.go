package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// PauseConnection pauses, where they are, the jobs that use a connection and run
// or wait to run, if the connection is not online by the time of the write; it
// returns them. Jobs paused for another reason keep it.
func (s *Store) PauseConnection(
	ctx context.Context, scope Scope, connection page.ID, now time.Time,
) ([]page.ID, error) {
	var paused []page.ID
	err := s.write(ctx, func(t *tx) error {
		state, err := connectionState(t, scope, connection)
		if err != nil || state.State == model.Online {
			return err
		}
		text, err := faultText(OfflineFault(state))
		if err != nil {
			return err
		}
		ids, err := jobIDs(t, `SELECT j.id FROM job_connections c JOIN jobs j ON j.id = c.job
			WHERE c.connection = ? AND c.open = 1 AND j.tenant = ? AND j.environment = ?
			AND j.state IN ('queued', 'running')`,
			connection.String(), scope.Tenant.String(), scope.Environment.String())
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := pauseFor(t, id, text, connection); err != nil {
				return err
			}
		}
		paused = ids
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pause jobs of connection %s: %w", connection, err)
	}
	return paused, nil
}

func pauseFor(t *tx, job page.ID, cause string, connection page.ID) error {
	_, err := t.exec(`UPDATE jobs SET state = 'paused', cause = ?, paused_by = ?, retry_at = 0
		WHERE id = ? AND ended = 0`, cause, connection.String(), job.String())
	return err
}

// ResumeConnection lets the jobs go on that waited for a connection, if it is
// online by the time of the write, and names what to publish. A job that also uses a connection still offline waits for
// that one now, and is not in the answer.
func (s *Store) ResumeConnection(
	ctx context.Context, scope Scope, connection page.ID, now time.Time,
) ([]Reads, error) {
	var out []Reads
	err := s.write(ctx, func(t *tx) error {
		state, err := connectionState(t, scope, connection)
		if err != nil || state.State != model.Online {
			return err
		}
		ids, err := jobIDs(t, `SELECT id FROM jobs WHERE paused_by = ? AND state = 'paused'
			AND tenant = ? AND environment = ?`,
			connection.String(), scope.Tenant.String(), scope.Environment.String())
		if err != nil {
			return err
		}
		for _, id := range ids {
			waits, err := waitForOther(t, id, connection)
			if err != nil {
				return err
			}
			if waits {
				continue
			}
			var reads Reads
			if err := s.goOn(t, scope, id, now, &reads); err != nil {
				return err
			}
			out = append(out, reads)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("resume jobs of connection %s: %w", connection, err)
	}
	return out, nil
}

// goOn makes a paused job run, or ends it when nothing is left to do.
func (s *Store) goOn(t *tx, scope Scope, id page.ID, now time.Time, out *Reads) error {
	j, _, err := loadJob(t, scope, id)
	if err != nil {
		return err
	}
	if err := s.unpause(t, scope, j, now); err != nil {
		return err
	}
	return s.readReads(t, scope, id, out)
}

// waitForOther hands a job over to another of its connections that is offline.
func waitForOther(t *tx, job, connection page.ID) (bool, error) {
	var other page.ID
	var body string
	found, err := t.row(`SELECT s.connection, s.body FROM job_connections c
		JOIN connection_states s ON s.connection = c.connection
		WHERE c.job = ? AND s.state = 'offline' AND s.connection <> ? LIMIT 1`,
		[]any{job.String(), connection.String()}, idScan{&other}, &body)
	if err != nil || !found {
		return false, err
	}
	var state model.ConnectionState
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		return false, fmt.Errorf("decode state of connection %s: %w", other, err)
	}
	cause, err := faultText(OfflineFault(state))
	if err != nil {
		return false, err
	}
	return true, pauseFor(t, job, cause, other)
}

// OfflineFault is why a connection is not online, in a form that a job can show.
// A connection that a person took offline has no fault of its own.
func OfflineFault(state model.ConnectionState) *fault.Error {
	if state.Fault != nil {
		return state.Fault
	}
	return fault.New(fault.Connection, "E_OFFLINE", "the connection was taken offline by hand").
		WithSource(source).WithCause(string(state.Cause)).
		WithFix("take it online again with `ropeway connection resume`; its jobs go on by themselves")
}

func jobIDs(q querier, query string, args ...any) (ids []page.ID, err error) {
	rows, err := q.query(query, args...)
	err = each(rows, err, func(r rowScanner) error {
		var id page.ID
		err := r.Scan(idScan{&id})
		ids = append(ids, id)
		return err
	})
	return ids, err
}
