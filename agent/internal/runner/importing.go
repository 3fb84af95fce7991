package runner

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"ropeway/agent/internal/uplink"
	"ropeway/connectors/request"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
)

// importing is the execution of an import. The page comes with the call that
// begins it; calls that join bring the same page, which nobody reads.
type importing struct {
	runner *Runner
	step   *step
	page   *page.Page
}

// beginImport reads the page from the call's body.
func (r *Runner) beginImport(ctx context.Context, s *step, c uplink.Call) (work, error) {
	body, err := c.Body(ctx)
	if err != nil {
		return nil, err
	}
	p, err := receive(ctx, body)
	if err != nil {
		return nil, err
	}
	if p.Header.Name() != s.name {
		return nil, badStep("its page has another name")
	}
	if err := s.admitBatch(r.config.Policy, p); err != nil {
		return nil, err
	}
	return &importing{runner: r, step: s, page: p}, nil
}

// receive reads one page; it gives up when ctx ends.
func receive(ctx context.Context, body tunnel.Stream) (*page.Page, error) {
	stop := context.AfterFunc(ctx, func() { _ = body.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p, err := control.NewFrameReader(body).Page()
	switch {
	case err == nil:
		return p, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, control.ErrFrame):
		return nil, badStep(err.Error())
	}
	return nil, broken(err)
}

func (w *importing) run(ctx context.Context) (*control.StepDone, error) {
	ctx, cancel := context.WithTimeout(ctx, w.step.timeout)
	defer cancel()
	conn, back, err := w.runner.connect(ctx, w.step)
	if err != nil {
		return nil, err
	}
	i := request.Import{Type: w.step.connector, Conn: conn, Spec: w.step.spec, Step: w.step.step}
	answer, err := i.Run(ctx, w.page)
	back(err)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, fault.Of("E_INTERNAL").WithSource("agent").WithCause(err)
	}
	return &control.StepDone{Answer: text}, nil
}

// serve waits for the import; the answer travels beside the body.
func (w *importing) serve(ctx context.Context, _ tunnel.Stream, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
