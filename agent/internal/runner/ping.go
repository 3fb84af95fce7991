package runner

import (
	"context"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
)

// ping proves that a connection works, over a connection of its own when none
// is open.
func (r *Runner) ping(ctx context.Context, s *step) (*control.StepDone, error) {
	if s.connector.Ping == nil {
		return nil, fault.Of("E_UNSUPPORTED").WithSource(s.connector.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, back, err := r.connect(ctx, s)
	if err != nil {
		return nil, err
	}
	err = s.connector.Ping(ctx, conn)
	back(err)
	if err != nil {
		return nil, err
	}
	return &control.StepDone{}, nil
}
