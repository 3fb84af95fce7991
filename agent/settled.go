package agent

import (
	"context"
	"sync"

	"ropeway/protocol/control"
	"ropeway/protocol/page"
)

// settlements deletes buffered pages that the hub has settled. The hub's marks
// come faster than the disk commits, and a later mark of an execution holds for
// all before it: only the newest is kept.
type settlements struct {
	mu    sync.Mutex
	marks map[execution]uint64
	wake  chan struct{}
}

type execution struct {
	chain page.Chain
	epoch page.Epoch
}

func newSettlements() *settlements {
	return &settlements{marks: map[execution]uint64{}, wake: make(chan struct{}, 1)}
}

// settled takes a mark of the hub; one that cannot be read is dropped.
func (s *settlements) settled(m *control.Settled) {
	job, ok := control.ToID(m.GetJob())
	if !ok || len(m.GetEpoch()) != len(page.Epoch{}) {
		return
	}
	e := execution{page.Chain{Job: job, Step: m.GetStep()}, page.Epoch(m.GetEpoch())}
	s.keep(e, m.GetSeq())
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keep notes a mark for the next time.
func (s *settlements) keep(e execution, lowest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks[e] = max(s.marks[e], lowest)
}

// run deletes until ctx ends.
func (s *settlements) run(ctx context.Context, p *parts) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		marks := s.marks
		s.marks = map[execution]uint64{}
		s.mu.Unlock()
		for e, lowest := range marks {
			err := p.buffer.Settled(ctx, e.chain, e.epoch, lowest)
			if err != nil && ctx.Err() == nil {
				p.log.Warn("settled pages not deleted", "chain", e.chain.String(), "error", err)
				s.keep(e, lowest)
			}
		}
	}
}
