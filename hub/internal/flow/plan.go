package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/hub/internal/transform"
	"ropeway/protocol/page"
)

// maxPlans bounds the compiled flow versions kept in memory.
const maxPlans = 512

// plan is one compiled flow version. It never changes.
type plan struct {
	scope   store.Scope
	flow    page.ID
	name    string
	version uint64
	spec    *model.Flow
	hops    []hop

	traceKey []string // fields that trace a record of the export
}

// hop is a head and the pure steps behind it. programs[i] starts at Pure[i]; a
// retry may enter in the middle, everything else starts at 0.
type hop struct {
	model.Hop
	programs []*transform.Program
}

// compile makes the plan of a flow version, or says which expression is wrong.
func compile(s store.Scope, flow page.ID, name string, version uint64, spec *model.Flow) (*plan, error) {
	p := &plan{scope: s, flow: flow, name: name, version: version, spec: spec}
	for _, h := range spec.Plan() {
		compiled := hop{Hop: h}
		for i := range h.Pure {
			program, err := transform.Compile(h.Pure[i:], nil)
			if err != nil {
				return nil, err
			}
			compiled.programs = append(compiled.programs, program)
		}
		p.hops = append(p.hops, compiled)
	}
	if x := p.hops[0].Export; x != nil {
		if p.traceKey = x.TraceKey; len(p.traceKey) == 0 {
			p.traceKey = x.Key
		}
	}
	return p, nil
}

// entry finds where a page for a step goes in: the hop, and the place among its
// pure steps, or -1 for its head.
func (p *plan) entry(step string) (hopIndex, pure int, err error) {
	for i, h := range p.hops {
		if h.Head == step {
			return i, -1, nil
		}
		for j, s := range h.Pure {
			if s.Name == step {
				return i, j, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("flow %s version %d has no step %q", p.flow, p.version, step)
}

// stepNames lists everything that counts records, in order.
func (p *plan) stepNames() []string {
	var names []string
	for _, h := range p.hops {
		if h.Head != "" {
			names = append(names, h.Head)
		}
		for _, s := range h.Pure {
			names = append(names, s.Name)
		}
	}
	return names
}

type planKey struct {
	flow    page.ID
	version uint64
}

// plans keeps compiled flow versions.
type plans struct {
	mu   sync.Mutex
	byID map[planKey]*plan
}

func newPlans() *plans { return &plans{byID: map[planKey]*plan{}} }

// plan returns the compiled version of a flow.
func (e *Engine) plan(ctx context.Context, s store.Scope, flow page.ID, version uint64) (*plan, error) {
	key := planKey{flow, version}
	e.plans.mu.Lock()
	p := e.plans.byID[key]
	e.plans.mu.Unlock()
	if p != nil && p.scope == s {
		return p, nil
	}
	object, err := e.Store.FlowVersion(ctx, s, flow, version)
	if err != nil {
		return nil, err
	}
	var spec model.Flow
	if err := json.Unmarshal(object.Spec, &spec); err != nil {
		return nil, fmt.Errorf("decode flow %s version %d: %w", flow, version, err)
	}
	if p, err = compile(s, flow, object.Name, version, &spec); err != nil {
		return nil, err
	}
	e.plans.mu.Lock()
	defer e.plans.mu.Unlock()
	if len(e.plans.byID) >= maxPlans {
		clear(e.plans.byID)
	}
	e.plans.byID[key] = p
	return p, nil
}
