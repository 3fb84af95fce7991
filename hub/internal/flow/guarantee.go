package flow

import (
	"context"
	"encoding/json"

	"ropeway/connectors"
	"ropeway/hub/internal/gateway"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// weakness orders guarantees; a flow promises what its weakest import promises.
var weakness = map[string]int{
	connectors.ExactlyOnce: 0, connectors.EffectivelyOnce: 1, connectors.AtLeastOnce: 2,
}

// guarantee computes the badge of a flow version.
func (e *Engine) guarantee(p *plan, ends []*endpoint) connectors.Guarantee {
	out := connectors.Guarantee{Level: connectors.ExactlyOnce, Reason: "every import writes its inbox row with the data"}
	at := 0
	for _, h := range p.hops {
		if h.Connection == "" {
			continue
		}
		ep := ends[at]
		at++
		if h.Import == nil || ep.typ.ImportsOnce == nil {
			continue
		}
		spec, err := importSpec(h.Import).Normal()
		if err != nil {
			continue
		}
		if g := ep.typ.ImportsOnce(spec); weakness[g.Level] > weakness[out.Level] {
			out = g
		}
	}
	return out
}

// Probe does the least that proves that a connection works, past its queue: the
// one path of recovery and of `connection ping`.
func (e *Engine) Probe(ctx context.Context, s store.Scope, id page.ID) error {
	object, err := e.Store.ObjectByID(ctx, s, id)
	if err != nil {
		return err
	}
	ep, err := e.resolve(ctx, object)
	if err != nil {
		return err
	}
	if ep.group.IsZero() {
		conn, release, err := e.open.take(ctx, e, ep)
		if err != nil {
			return err
		}
		err = ep.typ.Ping(ctx, conn)
		release(err)
		return err
	}
	step, err := e.runStep(ctx, s, ep, control.KindPing)
	if err != nil {
		return err
	}
	step.Name = "ping/" + page.NewID().String()
	done, err := e.Gateway.Run(ctx, ep.group, step, gateway.Exchange{})
	if err != nil {
		return err
	}
	if f := control.ToError(done.Fault); f != nil {
		return f
	}
	return nil
}

// QueueOf is what waits for a connection and what it is doing.
func (e *Engine) QueueOf(ctx context.Context, s store.Scope, name string) (model.ConnectionQueue, error) {
	ep, err := e.endpoint(ctx, s, name)
	if err != nil {
		return model.ConnectionQueue{}, err
	}
	_, lane, _, err := e.lane(ctx, s, ep.object.ID)
	if err != nil {
		return model.ConnectionQueue{}, err
	}
	state, err := e.Connections.State(ctx, s, ep.object.ID)
	if err != nil {
		return model.ConnectionQueue{}, err
	}
	stats, err := e.Queue.Stats(ctx, lane)
	if err != nil {
		return model.ConnectionQueue{}, err
	}
	out := model.ConnectionQueue{
		Name: name, State: state.State, Cause: state.Cause, Fault: state.Fault,
		NextProbe: state.NextProbe, Concurrency: ep.spec.Concurrency, BorrowFrom: ep.spec.BorrowFrom,
		Queued: stats.Queued, InFlight: stats.InFlight, Borrowers: []string{},
	}
	if !state.Since.IsZero() {
		out.Since = &state.Since
	}
	if !stats.Oldest.IsZero() {
		out.Oldest = &stats.Oldest
	}
	borrowers, err := e.borrowers(ctx, s, name)
	for _, b := range borrowers {
		out.Borrowers = append(out.Borrowers, b.Name)
	}
	return out, err
}

// GuaranteeOf is the badge of a flow's current version, with its reason.
func (e *Engine) GuaranteeOf(ctx context.Context, object model.Object) (connectors.Guarantee, error) {
	var spec model.Flow
	if err := json.Unmarshal(object.Spec, &spec); err != nil {
		return connectors.Guarantee{}, fault.From(err)
	}
	p, err := compile(object.Place(), object.ID, object.Name, object.Version, &spec)
	if err != nil {
		return connectors.Guarantee{}, err
	}
	ends, err := e.endpoints(ctx, p)
	if err != nil {
		return connectors.Guarantee{}, err
	}
	return e.guarantee(p, ends), nil
}
