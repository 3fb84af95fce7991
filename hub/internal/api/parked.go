package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// maxRetry bounds the parked records of one retry.
const maxRetry = 5000

// ParkedInput names a parked record.
type ParkedInput struct {
	Where
	ID string `path:"id" maxLength:"64" doc:"The parked record's id."`
}

type parkedOutput struct{ Body model.ParkedRecord }

type parkedListInput struct {
	Where
	Paging
	Flow  string `query:"flow" maxLength:"63" doc:"Only records of this flow."`
	Job   string `query:"job" maxLength:"64" doc:"Only records of this job."`
	State string `query:"state" enum:"parked,retrying,resolved,ignored,superseded,all" default:"parked" doc:"Only records in this state."`
}

type parkedList struct{ Body list[model.ParkedRecord] }

type editInput struct {
	ParkedInput
	RawBody []byte `contentType:"application/json" doc:"The whole record."`
}

type retryInput struct {
	Where
	Body model.Retry
}

type retryOutput struct{ Body model.RetryResult }

func (s *server) parkedRoutes() {
	route(s, op{id: "list-parked", method: http.MethodGet, path: "/api/v1/parked", right: access.ViewRecords,
		summary: "List parked records, without their contents"}, s.listParked)
	route(s, op{id: "get-parked", method: http.MethodGet, path: "/api/v1/parked/{id}", right: access.ViewRecords,
		summary: "Show one parked record with its contents"},
		func(ctx context.Context, in *ParkedInput) (*parkedOutput, error) {
			row, _, err := s.parked(ctx, in)
			if err != nil {
				return nil, err
			}
			record, err := s.Flows.Open(ctx, row)
			return &parkedOutput{Body: record}, err
		})
	route(s, op{id: "edit-parked", method: http.MethodPut, path: "/api/v1/parked/{id}/record", right: access.EditRecords,
		summary: "Replace the contents of a parked record", maxBody: 8 << 20, raw: true}, s.editParked)
	route(s, op{id: "retry-parked", method: http.MethodPost, path: "/api/v1/parked/retry", right: access.EditRecords,
		status: http.StatusCreated, summary: "Retry parked records in a new job"}, s.retryParked)
}

func (s *server) parked(ctx context.Context, in *ParkedInput) (store.Parked, store.Scope, error) {
	scope, err := s.scope(ctx, in.Where)
	if err != nil {
		return store.Parked{}, scope, err
	}
	id, err := idOf("parked record", in.ID)
	if err != nil {
		return store.Parked{}, scope, err
	}
	row, err := s.Parked.ParkedByID(ctx, scope, id)
	return row, scope, err
}

func (s *server) listParked(ctx context.Context, in *parkedListInput) (*parkedList, error) {
	scope, err := s.scope(ctx, in.Where)
	if err != nil {
		return nil, err
	}
	var f store.ParkedFilter
	if in.State != "all" {
		f.States = []model.ParkedState{model.ParkedState(in.State)}
	}
	if in.Flow != "" {
		o, _, err := s.object(ctx, in.Where, model.KindFlow, in.Flow)
		if err != nil {
			return nil, err
		}
		f.Flow = o.ID
	}
	if in.Job != "" {
		if f.Job, err = idOf("job", in.Job); err != nil {
			return nil, err
		}
	}
	rows, err := s.Parked.Parked(ctx, scope, f, in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	var out []model.ParkedRecord
	for _, row := range rows.Items {
		record, err := s.Flows.Open(ctx, row)
		if err != nil {
			return nil, err
		}
		record.Record = nil
		out = append(out, record)
	}
	return &parkedList{Body: listOf(out, rows.Next)}, nil
}

func (s *server) editParked(ctx context.Context, in *editInput) (*parkedOutput, error) {
	row, scope, err := s.parked(ctx, &in.ParkedInput)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(in.RawBody); err != nil {
		return nil, badRequest("", "%v", err)
	}
	if err := s.Flows.Edit(ctx, scope, row.ID, in.RawBody, callerOf(ctx).Name); err != nil {
		return nil, err
	}
	if row, err = s.Parked.ParkedByID(ctx, scope, row.ID); err != nil {
		return nil, err
	}
	record, err := s.Flows.Open(ctx, row)
	return &parkedOutput{Body: record}, err
}

func (s *server) retryParked(ctx context.Context, in *retryInput) (*retryOutput, error) {
	scope, err := s.scope(ctx, in.Where)
	if err != nil {
		return nil, err
	}
	f := store.ParkedFilter{States: []model.ParkedState{model.ParkedWaiting}}
	if (in.Body.Flow == "") == (len(in.Body.IDs) == 0) {
		return nil, badRequest("", "give ids or a flow")
	}
	for _, text := range in.Body.IDs {
		id, err := idOf("parked record", text)
		if err != nil {
			return nil, err
		}
		f.IDs = append(f.IDs, id)
	}
	if in.Body.Flow != "" {
		o, _, err := s.object(ctx, in.Where, model.KindFlow, in.Body.Flow)
		if err != nil {
			return nil, err
		}
		f.Flow = o.ID
	}
	return s.retry(ctx, scope, f)
}

// retry starts one job for each flow version among the records.
func (s *server) retry(ctx context.Context, scope store.Scope, f store.ParkedFilter) (*retryOutput, error) {
	rows, more, err := s.waiting(ctx, scope, f)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || len(f.IDs) > 0 && len(rows) < len(f.IDs) {
		return nil, fault.Of("E_STATE_CONFLICT").WithSentence("not all of these records wait to be retried").
			WithCause("they do not exist, are being retried, or are done")
	}
	slices.SortStableFunc(rows, func(a, b store.Parked) int {
		return cmp.Or(cmp.Compare(a.Flow.String(), b.Flow.String()), cmp.Compare(a.FlowVersion, b.FlowVersion))
	})
	out := model.RetryResult{Jobs: []string{}, More: more}
	for len(rows) > 0 {
		n := 0
		var ids []page.ID
		for ; n < len(rows) && rows[n].Flow == rows[0].Flow && rows[n].FlowVersion == rows[0].FlowVersion; n++ {
			ids = append(ids, rows[n].ID)
		}
		job, err := s.Flows.Retry(ctx, scope, ids)
		if err != nil {
			return nil, err
		}
		out.Jobs = append(out.Jobs, job.ID.String())
		out.Records += n
		rows = rows[n:]
	}
	out.Job = out.Jobs[0]
	return &retryOutput{Body: out}, nil
}

// waiting collects the records of a filter, up to what one retry takes.
func (s *server) waiting(ctx context.Context, scope store.Scope, f store.ParkedFilter) (rows []store.Parked, more bool, err error) {
	for cursor := ""; ; {
		got, err := s.Parked.Parked(ctx, scope, f, 500, cursor)
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, got.Items...)
		if got.Next == "" || len(rows) >= maxRetry {
			return rows[:min(len(rows), maxRetry)], got.Next != "", nil
		}
		cursor = got.Next
	}
}
