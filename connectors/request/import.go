package request

import (
	"context"
	"fmt"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// An Import is the import of one page at one step.
type Import struct {
	Type *connectors.Type
	Conn connectors.Conn
	Spec connectors.ImportSpec
	Step string
}

// Run opens p, applies it and returns the connector's answer after checking
// that it speaks of every record exactly once.
func (i Import) Run(ctx context.Context, p *page.Page) (connectors.Answer, error) {
	if i.Type.Import == nil {
		return connectors.Answer{}, fault.Of("E_UNSUPPORTED").WithSource(i.Type.Name)
	}
	payload, err := p.Open()
	if err != nil {
		return connectors.Answer{}, err
	}
	batch := connectors.Batch{
		Page: p.Header.Name(), Step: i.Step, Payload: payload,
		Records: int(p.Header.Records), Created: p.Header.Created,
	}
	answer, err := i.Type.Import(ctx, i.Conn, i.Spec, batch)
	if err != nil {
		return connectors.Answer{}, err
	}
	if err := checkAnswer(answer, batch.Records); err != nil {
		return connectors.Answer{}, fault.Of("E_INTERNAL").WithSource(i.Type.Name).WithCause(err)
	}
	return answer, nil
}

func checkAnswer(a connectors.Answer, records int) error {
	if a.Applied+len(a.Failed) != records || len(a.Degraded) > a.Applied {
		return fmt.Errorf("the answer speaks of %d applied (%d degraded) and %d failed records of %d",
			a.Applied, len(a.Degraded), len(a.Failed), records)
	}
	for _, list := range [][]connectors.Failure{a.Failed, a.Degraded} {
		before := -1
		for _, f := range list {
			if f.Index <= before || f.Index >= records || f.Fault == nil {
				return fmt.Errorf("the answer's entry for record %d is out of place", f.Index)
			}
			before = f.Index
		}
	}
	return nil
}
