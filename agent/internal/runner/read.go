package runner

import (
	"context"
	"errors"

	"ropeway/agent/internal/uplink"
	"ropeway/connectors/request"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
)

// reading is the execution of a read request: it draws an epoch of its own, goes
// on from where the hub says the chain is, and ends when the hub has taken every
// page.
type reading struct {
	runner *Runner
	step   *step
	read   request.Read
	window *window
	spill  *spill // of a read without key; nil for one with a key
}

// beginRead asks the hub where the chain is: what it accepted wins over what the
// request says.
func (r *Runner) beginRead(ctx context.Context, s *step, c uplink.Call) (work, error) {
	epoch := r.epoch()
	at, err := c.Resume(ctx, &control.Resume{Id: c.Step.GetId(), Name: s.name,
		Claim: control.FromClaim(s.claim), Epoch: epoch[:]})
	if at.GetFault() != nil {
		err = control.ToError(at.GetFault())
	}
	if err != nil {
		if fault.CodeOf(err) == "E_NOT_RESUMABLE" {
			r.giveUpNamed(ctx, s.name)
		}
		return nil, err
	}
	prev, ok := control.ToHash(at.GetPrevHash())
	if !ok {
		return nil, badStep("the answer to resume holds no page hash")
	}
	w := &reading{runner: r, step: s, read: request.Read{
		Type: s.connector, Query: s.query, Header: s.header, Epoch: epoch,
		Seq: at.GetSeq(), Prev: prev, Cursor: at.GetCursor(), Pages: at.GetPages(), Records: at.GetRecords(),
		Limits: r.config.Limits, Clock: r.config.Clock,
	}}
	if s.query.Resumable() {
		w.window = newWindow(nil)
		return w, nil
	}
	w.spill, err = r.beginSpill(ctx, s, epoch, at.GetPages())
	if err != nil {
		return nil, err
	}
	w.window = newWindow(w.spill.taken)
	return w, nil
}

// unrepeatable reports whether what was read cannot be read again.
func (w *reading) unrepeatable() bool { return w.spill != nil }

func (w *reading) run(ctx context.Context) (*control.StepDone, error) {
	if w.spill != nil {
		return w.runSpill(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, w.step.timeout)
	defer cancel()
	end, err := w.pages(ctx, w.window.push)
	if err == nil {
		err = w.window.drain(ctx)
	}
	return w.finish(end, err)
}

// sender takes the pages of a read, in order.
type sender func(context.Context, *page.Page) error

// pages runs the connector. Every page is counted against the site's limits
// before it leaves.
func (w *reading) pages(ctx context.Context, push sender) (request.End, error) {
	conn, back, err := w.runner.connect(ctx, w.step)
	if err != nil {
		return request.End{}, err
	}
	w.read.Conn = conn
	wish := w.step.wish()
	end, err := w.read.Run(ctx, func(ctx context.Context, p *page.Page) error {
		if err := w.runner.config.Policy.Count(wish, int(p.Header.Records)); err != nil {
			return err
		}
		return push(ctx, p)
	})
	back(err)
	return end, err
}

func (w *reading) finish(end request.End, err error) (*control.StepDone, error) {
	if err != nil {
		if errors.Is(err, fault.Of("E_PAGE_CONFLICT")) {
			w.runner.config.Log.Error("a page of this name exists with other contents",
				"step", w.step.name, "error", err)
		}
		return nil, err
	}
	return &control.StepDone{End: &control.ReadEnd{Exhausted: end.Exhausted, Cursor: end.Cursor,
		Pages: end.Pages, Records: end.Records}}, nil
}

func (w *reading) serve(ctx context.Context, body tunnel.Stream, done <-chan struct{}) error {
	return w.window.serve(ctx, body, done)
}
