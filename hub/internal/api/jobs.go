package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2/sse"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
)

type jobInput struct {
	Where
	ID string `path:"id" maxLength:"64" doc:"The job's id."`
}

type jobOutput struct{ Body model.Job }

type proofOutput struct{ Body model.Proof }

type jobsInput struct {
	Where
	Paging
	Flow  string `query:"flow" maxLength:"63" doc:"Only jobs of this flow."`
	State string `query:"state" maxLength:"120" doc:"Only jobs in these states, with commas."`
}

type jobList struct{ Body list[model.Job] }

func (s *server) flowRoutes() {
	route(s, op{id: "run-flow", method: http.MethodPost, path: "/api/v1/flows/{name}/run", right: access.Operate,
		status: http.StatusCreated, summary: "Start a job of a flow"},
		func(ctx context.Context, in *Named) (*jobOutput, error) {
			_, scope, err := s.object(ctx, in.Where, model.KindFlow, in.Name)
			if err != nil {
				return nil, err
			}
			job, err := s.Flows.Start(ctx, scope, in.Name)
			return &jobOutput{Body: job}, err
		})
}

func (s *server) jobRoutes() {
	route(s, op{id: "list-jobs", method: http.MethodGet, path: "/api/v1/jobs", right: access.View,
		summary: "List jobs, newest first"}, s.listJobs)
	route(s, op{id: "get-job", method: http.MethodGet, path: "/api/v1/jobs/{id}", right: access.View, summary: "Show one job"},
		func(ctx context.Context, in *jobInput) (*jobOutput, error) {
			job, _, err := s.job(ctx, in)
			return &jobOutput{Body: job}, err
		})
	route(s, op{id: "cancel-job", method: http.MethodPost, path: "/api/v1/jobs/{id}/cancel", right: access.Operate,
		summary: "End a job; what it delivered stays"},
		func(ctx context.Context, in *jobInput) (*jobOutput, error) {
			job, scope, err := s.job(ctx, in)
			if err != nil {
				return nil, err
			}
			job, err = s.Flows.Cancel(ctx, scope, job.ID)
			return &jobOutput{Body: job}, err
		})
	route(s, op{id: "prove-job", method: http.MethodGet, path: "/api/v1/jobs/{id}/proof", right: access.View,
		summary: "Show whether the sums of a job close"},
		func(ctx context.Context, in *jobInput) (*proofOutput, error) {
			job, scope, err := s.job(ctx, in)
			if err != nil {
				return nil, err
			}
			proof, err := s.Jobs.Prove(ctx, scope, job.ID, s.Clock())
			return &proofOutput{Body: proof}, err
		})
	events := op{id: "watch-job", method: http.MethodGet, path: "/api/v1/jobs/{id}/events", right: access.View,
		summary: "Follow a job: a snapshot now, after every change and every 15 s, until it ends"}
	sse.Register(s.api, events.operation(), map[string]any{"job": model.Job{}, "problem": model.Problem{}}, s.watchJob)
}

func (s *server) job(ctx context.Context, in *jobInput) (model.Job, store.Scope, error) {
	scope, err := s.scope(ctx, in.Where)
	if err != nil {
		return model.Job{}, scope, err
	}
	id, err := idOf("job", in.ID)
	if err != nil {
		return model.Job{}, scope, err
	}
	job, err := s.Jobs.Job(ctx, scope, id)
	if job.Steps == nil {
		job.Steps = []model.StepCount{}
	}
	return job, scope, err
}

func (s *server) listJobs(ctx context.Context, in *jobsInput) (*jobList, error) {
	scope, err := s.scope(ctx, in.Where)
	if err != nil {
		return nil, err
	}
	filter, err := s.jobFilter(ctx, in)
	if err != nil {
		return nil, err
	}
	jobs, err := s.Jobs.Jobs(ctx, scope, filter, in.Limit, in.Cursor)
	return &jobList{Body: listOf(jobs.Items, jobs.Next)}, err
}

func (s *server) jobFilter(ctx context.Context, in *jobsInput) (store.JobFilter, error) {
	var f store.JobFilter
	if in.Flow != "" {
		o, _, err := s.object(ctx, in.Where, model.KindFlow, in.Flow)
		if err != nil {
			return f, err
		}
		f.Flow = o.ID
	}
	for _, word := range strings.FieldsFunc(in.State, func(r rune) bool { return r == ',' }) {
		state := model.JobState(word)
		switch state {
		case model.JobQueued, model.JobRunning, model.JobPaused:
		default:
			if !state.Terminal() {
				return f, badRequest("state", "there is no state %q", word)
			}
		}
		f.States = append(f.States, state)
	}
	return f, nil
}

// Pace of the events of a job.
const (
	eventPause = 200 * time.Millisecond // between two snapshots at least
	eventBeat  = 15 * time.Second       // between two snapshots at most
)

// watchJob sends snapshots of a job until it ends or the client goes.
func (s *server) watchJob(ctx context.Context, in *jobInput, send sse.Sender) {
	job, scope, err := s.job(ctx, in)
	if err != nil {
		s.sendProblem(ctx, send, err)
		return
	}
	wake, stop := s.Flows.Watch(job.ID)
	defer stop()
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	for {
		if job, err = s.Jobs.Job(ctx, scope, job.ID); err != nil {
			s.sendProblem(ctx, send, err)
			return
		}
		if err := send.Data(job); err != nil || job.State.Terminal() {
			return
		}
		select {
		case <-wake:
		case <-beat.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(eventPause):
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) sendProblem(ctx context.Context, send sse.Sender, err error) {
	if sent := send.Data(*s.refuse(ctx, "watch-job", err)); sent != nil {
		s.Log.Debug("watcher gone", "error", sent)
	}
}
