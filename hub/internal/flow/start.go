package flow

import (
	"context"
	"encoding/json"
	"fmt"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Start creates a job of the flow's current version and sets it going.
func (e *Engine) Start(ctx context.Context, s store.Scope, flowName string) (model.Job, error) {
	object, err := e.Store.Object(ctx, s, model.KindFlow, flowName)
	if err != nil {
		return model.Job{}, err
	}
	p, err := e.plan(ctx, s, object.ID, object.Version)
	if err != nil {
		return model.Job{}, err
	}
	if p.hops[0].Export == nil {
		return model.Job{}, fault.New(fault.Internal, "E_MANIFEST", "the flow has no export").
			WithFix("It is started by its listener; send data there")
	}
	ends, err := e.endpoints(ctx, p)
	if err != nil {
		return model.Job{}, err
	}
	job := e.newJob(p, object.Name, ends)
	job.Kind = model.JobRun
	job.Export = &store.NewChain{
		Step: p.hops[0].Head, Connection: ends[0].object.ID, Resumable: len(p.hops[0].Export.Key) > 0,
	}
	reads, err := e.Store.CreateJob(ctx, job)
	if err != nil {
		return model.Job{}, err
	}
	e.Log.Info("job started", "job", job.ID, "flow", object.Name, "version", p.version)
	// The job is there. Whoever was told that it is not would start another one;
	// what is not published now, the sweep publishes.
	if err := e.publishReads(ctx, reads); err != nil {
		e.Log.Warn("read request not published yet", "job", job.ID, "error", err)
	}
	return e.pauseIfOffline(ctx, s, reads.Job, ends), nil
}

// endpoints resolves the connections of all hops, in order.
func (e *Engine) endpoints(ctx context.Context, p *plan) ([]*endpoint, error) {
	var out []*endpoint
	for _, h := range p.hops {
		if h.Connection == "" {
			continue
		}
		ep, err := e.endpoint(ctx, p.scope, h.Connection)
		if err != nil {
			return nil, err
		}
		out = append(out, ep)
	}
	return out, nil
}

func (e *Engine) newJob(p *plan, name string, ends []*endpoint) store.NewJob {
	job := store.NewJob{
		Scope: p.scope, ID: page.NewID(), Flow: p.flow, FlowName: name, FlowVersion: p.version,
		Guarantee: e.guarantee(p, ends).Level, Steps: p.stepNames(), Now: e.Clock(),
	}
	seen := map[page.ID]bool{}
	for _, ep := range ends {
		if !seen[ep.object.ID] {
			seen[ep.object.ID] = true
			job.Connections = append(job.Connections, ep.object.ID)
		}
	}
	return job
}

// pauseIfOffline pauses a new job whose connections are offline already, so that
// whoever waits for it learns why.
func (e *Engine) pauseIfOffline(
	ctx context.Context, s store.Scope, job model.Job, ends []*endpoint,
) model.Job {
	for _, ep := range ends {
		if _, err := e.Store.PauseConnection(ctx, s, ep.object.ID, e.Clock()); err != nil {
			e.Log.Warn("job not paused", "job", job.ID, "connection", ep.object.Name, "error", err)
		}
	}
	if now, err := e.Store.Job(ctx, s, job.ID); err == nil {
		return now
	}
	return job
}

// Cancel ends a job. What waits in the queue is dropped when it is fetched.
func (e *Engine) Cancel(ctx context.Context, s store.Scope, id page.ID) (model.Job, error) {
	job, err := e.Store.CancelJob(ctx, s, id, e.Clock())
	if err != nil {
		return job, err
	}
	e.watch.changed(id)
	if p, err := e.plan(ctx, s, job.Flow, job.FlowVersion); err == nil {
		e.freeBuffers(ctx, s, p)
	}
	return job, nil
}

// Check says whether a flow can be deployed: its expressions compile and its
// delta rules hold. The API calls it for every flow it applies.
func (e *Engine) Check(spec *model.Flow) error {
	_, err := compile(store.Scope{}, page.ID{}, "", 0, spec)
	return err
}

// Retry puts parked records into a new job of kind retry (DELIVERY §3.6). They
// keep their origin and run the version of the flow they were parked in.
func (e *Engine) Retry(ctx context.Context, s store.Scope, ids []page.ID) (model.Job, error) {
	rows, err := e.Store.Parked(ctx, s, store.ParkedFilter{IDs: ids}, len(ids), "")
	if err != nil {
		return model.Job{}, err
	}
	if missing := len(distinct(ids)) - len(rows.Items); missing > 0 || len(ids) == 0 {
		return model.Job{}, fault.Of("E_NOT_FOUND").
			WithCause(fmt.Sprintf("%d of these %d parked records are not there", missing, len(ids)))
	}
	first := rows.Items[0]
	for _, r := range rows.Items {
		if r.Flow != first.Flow || r.FlowVersion != first.FlowVersion {
			return model.Job{}, fault.Of("E_CONFLICT").
				WithCause("the records belong to several flows or flow versions").
				WithFix("Retry the records of one flow version at a time")
		}
	}
	p, err := e.plan(ctx, s, first.Flow, first.FlowVersion)
	if err != nil {
		return model.Job{}, err
	}
	ends, err := e.endpoints(ctx, p)
	if err != nil {
		return model.Job{}, err
	}
	job := e.newJob(p, first.FlowName, ends)
	job.Kind = model.JobRetry
	pages, err := e.fix(ctx, p, job.ID, rows.Items)
	if err != nil {
		return model.Job{}, err
	}
	retry := store.NewRetry{Job: job}
	for _, f := range pages {
		retry.Pages = append(retry.Pages, f.RetryPage)
	}
	created, err := e.Store.CreateRetry(ctx, retry)
	if err != nil {
		return model.Job{}, err
	}
	for _, f := range pages {
		if err := e.send(ctx, p, f); err != nil {
			e.Log.Warn("retry page not published yet", "page", f.Published, "error", err)
		}
	}
	return e.pauseIfOffline(ctx, s, created, ends), nil
}

func distinct(ids []page.ID) map[page.ID]bool {
	out := make(map[page.ID]bool, len(ids))
	for _, id := range ids {
		out[id] = true
	}
	return out
}

// Open returns a parked record with its contents, for those who may see them.
func (e *Engine) Open(ctx context.Context, r store.Parked) (model.ParkedRecord, error) {
	out := model.ParkedRecord{
		ID: r.ID, Tenant: r.Scope.Tenant, Environment: r.Scope.Environment, Job: r.Job, Flow: r.Flow,
		FlowName: r.FlowName, FlowVersion: r.FlowVersion, Step: r.Step, Page: r.Page, Index: r.Index,
		Origin: r.Origin, Class: r.Class, Code: r.Code, State: r.State, Attempts: r.Attempts,
		Edited: r.Edited, Created: r.Created, Updated: r.Updated,
	}
	if !r.RetryJob.IsZero() {
		out.RetryJob = &r.RetryJob
	}
	keys := e.keys(ctx, r.Scope.Tenant)
	raw, err := page.OpenBytes(r.Record, recordAAD(r.ID), keys)
	if err != nil {
		return out, fmt.Errorf("open parked record %s: %w", r.ID, err)
	}
	out.Record = raw
	sealed, err := page.OpenBytes(r.Detail, detailAAD(r.ID), keys)
	if err != nil {
		return out, fmt.Errorf("open parked record %s: %w", r.ID, err)
	}
	var detail parkedDetail
	if err := json.Unmarshal(sealed, &detail); err != nil {
		return out, fmt.Errorf("decode parked record %s: %w", r.ID, err)
	}
	out.TraceKey, out.Fault = detail.Key, detail.Fault
	return out, nil
}

// Edit replaces the contents of a parked record.
func (e *Engine) Edit(ctx context.Context, s store.Scope, id page.ID, record []byte, actor string) error {
	parsed, err := page.ParseRecord(record)
	if err != nil {
		return fault.Of("E_PARSE").WithCause(err)
	}
	canonical, err := parsed.MarshalJSON()
	if err != nil {
		return fault.Of("E_PARSE").WithCause(err)
	}
	if err := page.NewEncoder().Record(parsed); err != nil {
		return err // no page could hold it
	}
	key, err := e.Secrets.DataKey(ctx, s.Tenant)
	if err != nil {
		return err
	}
	return e.Store.EditParked(ctx, s, id, page.SealBytes(key, canonical, recordAAD(id)), actor, e.Clock())
}
