package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Deletion names an object to delete. With Purge its jobs are cancelled and its
// parked records ignored; without, it is refused while anything waits.
type Deletion struct {
	Kind  model.Kind
	Name  string
	Purge bool
	Actor string
	Now   time.Time
}

// DeleteObject deletes an object. A name made again later is another object:
// nothing resumes by accident. While jobs run, records wait or agents belong to
// it, it is refused with E_IN_USE and the counts. References between manifests
// are the caller's to check.
func (s *Store) DeleteObject(ctx context.Context, scope Scope, d Deletion) error {
	err := s.write(ctx, func(t *tx) error {
		o, found, err := objectBy(t, scope, `kind = ? AND name = ?`, string(d.Kind), d.Name)
		if err == nil && !found {
			err = notFound(string(d.Kind), d.Name)
		}
		if err != nil {
			return err
		}
		if err := s.clear(t, scope, o, d); err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM objects WHERE id = ?`,
			`DELETE FROM connection_states WHERE connection = ?`,
		} {
			if _, err := t.exec(query, o.ID.String()); err != nil {
				return err
			}
		}
		return appendAudit(t, model.AuditEntry{At: d.Now, Tenant: scope.Tenant,
			Environment: scope.Environment,
			Actor:       d.Actor, Action: "delete", Kind: string(d.Kind), Object: d.Name})
	})
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", d.Kind, d.Name, err)
	}
	return nil
}

// clear refuses while something waits for the object, or purges it.
func (s *Store) clear(t *tx, scope Scope, o model.Object, d Deletion) error {
	jobs, err := jobsOf(t, scope, o)
	if err != nil {
		return err
	}
	var parked, agents int64
	if o.Kind == model.KindFlow {
		if _, err := t.row(`SELECT count(*) FROM parked WHERE tenant = ? AND environment = ? AND flow = ?
			AND state IN ('parked', 'retrying')`,
			[]any{scope.Tenant.String(), scope.Environment.String(), o.ID.String()}, &parked); err != nil {
			return err
		}
	}
	if o.Kind == model.KindAgentGroup {
		if _, err := t.row(`SELECT count(*) FROM agents WHERE tenant = ? AND environment = ? AND
			agent_group = ?
			AND revoked = 0`,
			[]any{scope.Tenant.String(), scope.Environment.String(), o.ID.String()}, &agents); err != nil {
			return err
		}
	}
	if agents > 0 || !d.Purge && (len(jobs) > 0 || parked > 0) {
		return inUse(len(jobs), parked, agents)
	}
	for _, id := range jobs {
		j, _, err := loadJob(t, scope, id)
		if err != nil {
			return err
		}
		if err := endJob(t, j, model.JobCancelled, "", micros(d.Now)); err != nil {
			return err
		}
	}
	if o.Kind == model.KindFlow {
		_, err = t.exec(`UPDATE parked SET state = 'ignored', updated = ? WHERE tenant = ? AND
			environment = ?
			AND flow = ? AND state = 'parked'`,
			micros(d.Now), scope.Tenant.String(), scope.Environment.String(), o.ID.String())
	}
	return err
}

// jobsOf lists the jobs not yet ended of a flow or over a connection.
func jobsOf(t *tx, scope Scope, o model.Object) ([]page.ID, error) {
	switch o.Kind {
	case model.KindFlow:
		return jobIDs(t, `SELECT id FROM jobs WHERE tenant = ? AND environment = ? AND flow = ? AND ended
			= 0`,
			scope.Tenant.String(), scope.Environment.String(), o.ID.String())
	case model.KindConnection:
		return jobIDs(t, `SELECT job FROM job_connections WHERE connection = ? AND open = 1`,
			o.ID.String())
	}
	return nil, nil
}

func inUse(jobs int, parked, agents int64) error {
	var waits []string
	for _, w := range []struct {
		n    int64
		what string
	}{{int64(jobs), "jobs"}, {parked, "parked records"}, {agents, "agents"}} {
		if w.n > 0 {
			waits = append(waits, fmt.Sprintf("%d %s", w.n, w.what))
		}
	}
	f := fault.Of("E_IN_USE").WithSource(source).WithCause(strings.Join(waits, ", "))
	if agents > 0 {
		return f.WithFix("revoke its agents first")
	}
	return f.WithFix("let them finish, or use --purge: it cancels jobs and ignores parked records")
}
