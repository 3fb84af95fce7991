package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Program is the pure steps of one hop, compiled. It may run many pages at once.
type Program struct {
	steps []model.Step
	vars  map[string]any
	idle  sync.Pool // *machine
}

// Compile compiles the pure steps of a hop. vars are the variables frozen with
// the job: bool, int, float64, string, page.Value or lists of them. An error is
// a *fault.Error E_EXPRESSION whose field names step, kind and field.
func Compile(steps []model.Step, vars map[string]any) (*Program, error) {
	p := &Program{steps: steps, vars: vars}
	m, err := newMachine(steps, vars)
	if err != nil {
		return nil, err
	}
	p.idle.Put(m)
	return p, nil
}

// Check compiles every expression of a flow and returns one error for each that
// is not valid.
func Check(f *model.Flow, vars map[string]any) []error {
	var errs []error
	m := &machine{}
	m.table = m.functions()
	for _, s := range f.Steps {
		for _, one := range parts(s) {
			if _, err := m.compileStep(one, vars); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// parts cuts a step into one step for each expression.
func parts(s model.Step) []model.Step {
	if s.Filter != "" {
		return []model.Step{s}
	}
	var out []model.Step
	for _, a := range s.Map {
		out = append(out, model.Step{Name: s.Name, Map: model.Assignments{a}})
	}
	for _, a := range s.Set {
		out = append(out, model.Step{Name: s.Name, Set: model.Assignments{a}})
	}
	return out
}

func expressionFault(field string, err error) error {
	return fault.Of("E_EXPRESSION").WithCause(err.Error()).WithField(field)
}

// In is one page to run: its header, which names it and says when it was
// created, and its payload before compression.
type In struct {
	Header  *page.Header
	Payload []byte
}

// Out is what the steps made of a page. The same page gives the same bytes.
type Out struct {
	Payload []byte // codec bytes, uncompressed; records keep their origin and trace key
	Records int
	Counts  []model.StepCount // one per step, in order
	Parked  []Parked
}

// Parked is a record that a step failed on, as it was before that step.
type Parked struct {
	Index  uint32 // in the page that was run
	Origin page.Origin
	Key    string // trace key
	Step   string
	Record json.RawMessage
	Fault  *fault.Error // class value; the field is the one that could not be computed
}

// Run applies the steps to every record of a page. A record whose expression
// fails is parked and the others go on. An error means that the page could not
// be run at all: it cannot be read, ctx is over, or its result is too large.
func (p *Program) Run(ctx context.Context, in In) (Out, error) {
	if len(p.steps) == 0 {
		return p.through(in)
	}
	m, err := p.machine()
	if err != nil {
		return Out{}, err
	}
	defer p.idle.Put(m)
	run, err := newRun(ctx, m, in)
	if err != nil {
		return Out{}, fmt.Errorf("open page %s: %w", in.Header.Name(), err)
	}
	if err := run.records(); err != nil {
		return Out{}, fmt.Errorf("transform page %s: %w", in.Header.Name(), err)
	}
	return run.out, nil
}

// through hands a page of a hop without pure steps on as it is.
func (p *Program) through(in In) (Out, error) {
	d, err := page.NewDecoder(in.Payload)
	if err != nil {
		return Out{}, fmt.Errorf("open page %s: %w", in.Header.Name(), err)
	}
	return Out{Payload: in.Payload, Records: d.Records()}, nil
}

func (p *Program) machine() (*machine, error) {
	if m, ok := p.idle.Get().(*machine); ok {
		return m, nil
	}
	return newMachine(p.steps, p.vars)
}

// run is one page on its way through the steps.
type run struct {
	ctx  context.Context
	m    *machine
	dec  *page.Decoder
	enc  *page.Encoder
	self string
	out  Out
}

func newRun(ctx context.Context, m *machine, in In) (*run, error) {
	d, err := page.NewDecoder(in.Payload)
	if err != nil {
		return nil, err
	}
	m.ctx, m.name = ctx, in.Header.Name()
	m.now = page.TimestampOf(in.Header.Created.UTC())
	for _, s := range m.steps {
		s.forget()
	}
	r := &run{ctx: ctx, m: m, dec: d, enc: page.NewEncoder(), self: page.Root(m.name)}
	for _, s := range m.steps {
		r.out.Counts = append(r.out.Counts, model.StepCount{Step: s.name})
	}
	return r, nil
}

// forget drops what is known of the shapes of another page.
func (s *step) forget() {
	s.from = nil
	for _, x := range append([]*expression{s.filter}, s.values...) {
		if x != nil {
			x.shape = nil
		}
	}
}

func (r *run) records() error {
	for index := uint32(0); r.dec.Next(); index++ {
		if index%64 == 0 && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		r.m.aim(index)
		if err := r.record(index); err != nil {
			return err
		}
	}
	if err := r.dec.Err(); err != nil {
		return err
	}
	r.out.Records = r.enc.Records()
	r.out.Payload = r.enc.Finish(nil)
	return nil
}

// record runs one record through the steps, to the result, the filter that took
// it out, or the parked records.
func (r *run) record(index uint32) error {
	rec := r.dec.Record()
	raw := true
	for i, s := range r.m.steps {
		r.m.step = i
		r.out.Counts[i].In++
		field, err := "", error(nil)
		if s.filter != nil {
			keep, e := r.keeps(s, rec)
			if e == nil && !keep {
				r.out.Counts[i].Filtered++
				return nil
			}
			err = e
		} else {
			var next page.Record
			if next, field, err = r.m.apply(s, rec); err == nil {
				rec, raw = next, false
			}
		}
		if err != nil {
			return r.park(i, index, rec, field, err)
		}
		r.out.Counts[i].Out++
	}
	return r.encode(index, rec, raw)
}

func (r *run) keeps(s *step, rec page.Record) (bool, error) {
	result, err := s.filter.result(r.m, rec)
	if err != nil {
		return false, err
	}
	keep, ok := result.(bool)
	if !ok {
		return false, fmt.Errorf("the filter gives %s, not true or false", kindOf(result))
	}
	return keep, nil
}

// encode writes the record that came out. One that is too large for any page is
// parked at the last step.
func (r *run) encode(index uint32, rec page.Record, raw bool) error {
	err := r.write(r.enc, rec, raw)
	if err == nil {
		return nil
	}
	r.enc.Drop()
	if alone := r.write(page.NewEncoder(), rec, raw); alone == nil {
		return fault.New(fault.Internal, "E_TOO_LARGE", "the steps made the page too large").
			WithCause(err.Error()).WithFix("lower pageSize of the export")
	}
	last := len(r.out.Counts) - 1
	r.out.Counts[last].Out--
	return r.park(last, index, rec, "", err)
}

func (r *run) write(e *page.Encoder, rec page.Record, raw bool) error {
	if raw {
		return e.Raw(r.dec)
	}
	e.Fields(rec)
	return e.EndDerived(r.dec.Origin(""), r.dec.Key())
}

// park sets the record aside as it was before the step. A context that is over
// is no fault of the record.
func (r *run) park(i int, index uint32, rec page.Record, field string, err error) error {
	if r.ctx.Err() != nil && errors.Is(err, r.ctx.Err()) {
		return r.ctx.Err()
	}
	r.out.Counts[i].Parked++
	r.out.Parked = append(r.out.Parked, Parked{
		Index: index, Origin: r.dec.Origin(r.self), Key: r.dec.Key(), Step: r.m.steps[i].name,
		Record: rec.AppendJSON(nil), Fault: recordFault(r.m.steps[i].name, field, err),
	})
	return nil
}

func recordFault(step, field string, err error) *fault.Error {
	var e *fault.Error
	if errors.As(err, &e) && e.Class.Parks() {
		return e.WithSource(step).WithField(field)
	}
	return fault.Of("E_EVALUATE").WithSource(step).WithField(field).WithCause(err.Error())
}
