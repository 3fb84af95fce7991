package flow

import (
	"context"
	"errors"
	"fmt"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/store"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// reading is one delivery of a read request.
type reading struct {
	*work
	engine  *Engine
	chain   page.Chain
	request uint64
	end     *endpoint

	loggedIn func(error) // to be told as soon as it is known
}

// read executes a read request: in the hub, or at an agent of the connection's
// group. Its pages are accepted one by one as they come.
func (e *Engine) read(ctx context.Context, w *work) error {
	name, err := page.ParseName(w.Name)
	if err != nil {
		return err
	}
	head := w.plan.hops[0]
	if head.Export == nil || head.Head != name.Chain.Step {
		return fmt.Errorf("read request %s does not belong to flow %s", w.Name, w.plan.flow)
	}
	r := &reading{work: w, engine: e, chain: name.Chain, request: name.ReadN}
	if r.end, err = e.endpoint(ctx, w.scope, head.Connection); err != nil {
		return err
	}
	if r.loggedIn, err = e.logIn(ctx, w, r.end); err != nil {
		return err
	}
	var end request.End
	if r.end.group.IsZero() {
		end, err = r.here(ctx)
	} else {
		end, err = r.there(ctx)
	}
	r.loggedIn(err)
	if err != nil {
		return err
	}
	if err := e.at("read done", w); err != nil {
		return err
	}
	ended, err := e.Store.EndRead(ctx, store.ReadEnd{
		Scope: w.scope, Chain: r.chain, Request: r.request, Claim: w.Claim,
		Cursor: r.seal(end.Cursor), Exhausted: end.Exhausted, Tried: w.tried, Now: e.Clock(),
	})
	if err != nil {
		return err
	}
	if err := e.at("read ended", w); err != nil {
		return err
	}
	e.moved(ctx, w, r.chain, ended.Progress)
	return nil
}

func (r *reading) query() connectors.Query { return query(r.plan.hops[0].Export) }

func (r *reading) seal(cursor []byte) []byte {
	if len(cursor) == 0 {
		return nil
	}
	return page.SealBytes(r.key, cursor, cursorAAD(r.chain))
}

// resume is the first call of an execution: it fences older ones and says where
// to go on. The accepted cursor wins over all others.
func (r *reading) resume(ctx context.Context, epoch page.Epoch) (store.Resumed, error) {
	got, err := r.engine.Store.Resume(ctx, store.ResumeRequest{
		Scope: r.scope, Chain: r.chain, Request: r.request, Claim: r.Claim, Epoch: epoch,
		Now: r.engine.Clock(),
	})
	if err != nil || len(got.Cursor) == 0 {
		return got, err
	}
	got.Cursor, err = page.OpenBytes(got.Cursor, cursorAAD(r.chain), r.engine.keys(ctx, r.scope.Tenant))
	return got, err
}

// here runs the request in this process.
func (r *reading) here(ctx context.Context) (request.End, error) {
	epoch := page.NewEpoch()
	from, err := r.resume(ctx, epoch)
	if err != nil {
		return request.End{}, err
	}
	if !r.plan.unkeyed() { // one without a key runs until its source is exhausted
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	conn, release, err := r.engine.open.take(ctx, r.engine, r.end)
	if err != nil {
		return request.End{}, err
	}
	job := request.Read{
		Type: r.end.typ, Conn: conn, Query: r.query(), Header: r.header(), Epoch: epoch,
		Seq: from.Seq, Prev: from.Prev, Cursor: from.Cursor, Pages: from.Pages, Records: from.Records,
		Clock: r.engine.Clock,
	}
	end, err := job.Run(ctx, func(ctx context.Context, p *page.Page) error {
		status, f := r.accept(ctx, p)
		if f != nil {
			return f
		}
		if status == control.Superseded {
			return fault.Of("E_SUPERSEDED")
		}
		return nil
	})
	release(err)
	return end, err
}

// there runs the request at an agent.
func (r *reading) there(ctx context.Context) (request.End, error) {
	step, err := r.engine.runStep(ctx, r.scope, r.end, control.KindRead)
	if err != nil {
		return request.End{}, err
	}
	r.address(step)
	step.Step, step.Request = r.chain.Step, r.request
	if err := encodeSpec(step, r.query()); err != nil {
		return request.End{}, err
	}
	var refused error
	done, err := r.engine.Gateway.Run(ctx, r.end.group, step, gateway.Exchange{
		Accept: r.accept,
		Resume: func(ctx context.Context, q *control.Resume) (*control.Resumed, error) {
			var epoch page.Epoch
			if copy(epoch[:], q.Epoch) != len(epoch) {
				return nil, fault.New(fault.Internal, "E_INTERNAL", "the agent sent a malformed epoch")
			}
			got, err := r.resume(ctx, epoch)
			if err != nil {
				refused = err
				return nil, err
			}
			return &control.Resumed{
				Seq: got.Seq, PrevHash: got.Prev[:], Cursor: got.Cursor, Pages: got.Pages, Records: got.Records,
			}, nil
		},
	})
	if err != nil {
		return request.End{}, errors.Join(refused, err)
	}
	if f := control.ToError(done.Fault); f != nil {
		return request.End{}, f
	}
	if done.End == nil {
		return request.End{}, fault.New(fault.Internal, "E_INTERNAL", "the agent ended a read without its end")
	}
	return request.End{
		Exhausted: done.End.Exhausted, Cursor: done.End.Cursor,
		Pages: done.End.Pages, Records: done.End.Records,
	}, nil
}

// header is the template of the pages of this chain.
func (r *reading) header() page.Header {
	return page.Header{
		Tenant: r.scope.Tenant, Environment: r.scope.Environment,
		Flow: r.plan.flow, FlowVersion: r.plan.version, Chain: r.chain,
	}
}
