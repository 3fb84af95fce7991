package hub

import (
	"context"
	"strconv"
	"time"

	"ropeway/hub/internal/flow"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// audit writes down what somebody is about to do. It is written first: what was
// done is never without its row. A row whose deed was refused is followed by
// another that says so.
func (h *hub) audit(ctx context.Context, e model.AuditEntry, do func() error) error {
	if e.Actor == "" {
		e.Actor = callerOf(ctx)
	}
	e.At = time.Now()
	if err := h.store.Audit(ctx, e); err != nil {
		return err
	}
	err := do()
	if err != nil {
		e.At, e.Detail = time.Now(), "refused: "+fault.CodeOf(err)
		if failed := h.store.Audit(context.WithoutCancel(ctx), e); failed != nil {
			h.log.Error("refusal not audited", "action", e.Action, "object", e.Object, "error", failed)
		}
	}
	return err
}

func entryOf(s store.Scope, action string, kind, object string) model.AuditEntry {
	return model.AuditEntry{Tenant: s.Tenant, Environment: s.Environment, Action: action, Kind: kind, Object: object}
}

// flows are the engine's flows with an audit row for what callers do to jobs.
type flows struct {
	*flow.Engine
	hub *hub
}

// Start creates a job of a flow and sets it going.
func (f flows) Start(ctx context.Context, s store.Scope, name string) (job model.Job, err error) {
	err = f.hub.audit(ctx, entryOf(s, "flow run", string(model.KindFlow), name), func() error {
		job, err = f.Engine.Start(ctx, s, name)
		return err
	})
	return job, err
}

// Cancel ends a job.
func (f flows) Cancel(ctx context.Context, s store.Scope, id page.ID) (job model.Job, err error) {
	err = f.hub.audit(ctx, entryOf(s, "job cancel", "Job", id.String()), func() error {
		job, err = f.Engine.Cancel(ctx, s, id)
		return err
	})
	return job, err
}

// Retry puts parked records into a new job.
func (f flows) Retry(ctx context.Context, s store.Scope, ids []page.ID) (job model.Job, err error) {
	e := entryOf(s, "error retry", "ParkedRecord", "")
	e.Detail = strconv.Itoa(len(ids)) + " records"
	if len(ids) > 0 {
		e.Object = ids[0].String()
	}
	err = f.hub.audit(ctx, e, func() error {
		job, err = f.Engine.Retry(ctx, s, ids)
		return err
	})
	return job, err
}
