package flow

import (
	"context"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/page"
)

// marksTimeout bounds the look-ups for agents that came back.
const marksTimeout = 10 * time.Second

// unkeyed reports whether the flow's export goes through an agent's buffer, if an
// agent reads it (DELIVERY §3.1).
func (p *plan) unkeyed() bool {
	return p.hops[0].Export != nil && len(p.hops[0].Export.Key) == 0
}

// settledTo tells agents that every page of an execution below seq is settled, so
// that they delete them from their buffers (DELIVERY §3.5).
func (e *Engine) settledTo(ctx context.Context, w *work, h *page.Header, seq uint64) {
	if !w.plan.unkeyed() || seq == 0 {
		return
	}
	ep, err := e.endpoint(ctx, w.scope, w.plan.hops[0].Connection)
	if err != nil {
		e.Log.Warn("settled mark not sent", "chain", h.Chain.String(), "error", err)
		return
	}
	if !ep.group.IsZero() {
		e.Gateway.Settled(ep.group, h.Chain, h.Epoch, seq)
	}
}

// freeBuffers sends the marks of a flow's export again, after one of its jobs has
// ended before its pages were settled.
func (e *Engine) freeBuffers(ctx context.Context, s store.Scope, p *plan) {
	if p == nil || !p.unkeyed() {
		return
	}
	ep, err := e.endpoint(ctx, s, p.hops[0].Connection)
	if err == nil && !ep.group.IsZero() {
		err = e.sendMarks(ctx, s, ep)
	}
	if err != nil {
		e.Log.Warn("settled marks not sent", "flow", p.name, "error", err)
	}
}

// sendMarks tells the agents of a connection how far its exports without a key
// are settled. Saying it twice is harmless.
func (e *Engine) sendMarks(ctx context.Context, s store.Scope, ep *endpoint) error {
	marks, err := e.Store.UnkeyedMarks(ctx, s, ep.object.ID)
	for _, m := range marks {
		e.Gateway.Settled(ep.group, m.Chain, m.Epoch, m.SettledTo)
	}
	return err
}

// marksFor sends all marks of a group whose agent came back: what it missed while
// it was away would stay in its buffer.
func (e *Engine) marksFor(ctx context.Context, group page.ID) {
	ctx, cancel := context.WithTimeout(ctx, marksTimeout)
	defer cancel()
	places, err := e.Store.Places(ctx)
	for _, s := range places {
		var connections []model.Object
		if connections, err = e.Store.Objects(ctx, s, model.KindConnection); err != nil {
			break
		}
		for _, c := range connections {
			ep, err := e.resolve(ctx, c)
			if err != nil || ep.group != group {
				continue
			}
			if err := e.sendMarks(ctx, s, ep); err != nil {
				e.Log.Warn("settled marks not sent", "connection", c.Name, "error", err)
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		e.Log.Warn("settled marks not sent", "group", group, "error", err)
	}
}
