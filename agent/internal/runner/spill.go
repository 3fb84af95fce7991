package runner

import (
	"context"
	"errors"
	"sync"

	"ropeway/agent/internal/buffer"
	"ropeway/connectors/request"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// spill lets a read without key run at its own speed: every page is on disk
// before it is sent, and waits there while the hub takes its time. The read
// cannot be repeated, so its pages are all there is.
type spill struct {
	buffer *buffer.Buffer
	mark   buffer.Execution
	log    func(msg string, args ...any)

	mu     sync.Mutex
	queue  []spilled
	closed bool
	ready  chan struct{} // holds one token when the queue has changed
}

// spilled is a page that waits for room in the window. Those far from it are
// only kept on disk.
type spilled struct {
	name string
	page *page.Page
}

// beginSpill makes sure that the read may begin. If an earlier process began it
// and the hub has pages of it, it can neither go on nor start again.
func (r *Runner) beginSpill(ctx context.Context, s *step, epoch page.Epoch, accepted uint64) (*spill, error) {
	old, left, err := r.config.Buffer.Execution(ctx, s.name)
	if err != nil {
		return nil, err
	}
	sp := &spill{buffer: r.config.Buffer, ready: make(chan struct{}, 1), log: r.config.Log.Warn,
		mark: buffer.Execution{Name: s.name, Chain: s.header.Chain, Epoch: epoch, Begun: r.config.Clock()}}
	if left {
		if err := sp.giveUp(ctx, old); err != nil {
			return nil, err
		}
	}
	if accepted > 0 {
		return nil, fault.Of("E_NOT_RESUMABLE").WithSource("agent").
			WithCause("the process that read it has ended after pages were accepted")
	}
	return sp, r.config.Buffer.BeginExecution(ctx, sp.mark)
}

// giveUpDead forgets the executions that a former process left: they can neither
// go on nor be asked for again if their job was ended meanwhile, and their unacked
// pages would fill the buffer for ever. It runs before the first step.
func (r *Runner) giveUpDead() {
	if r.config.Buffer == nil {
		return
	}
	ctx := context.Background()
	names, err := r.config.Buffer.Executions(ctx)
	if err != nil {
		r.config.Log.Error("executions of a former process not found", "error", err)
	}
	for _, name := range names {
		r.giveUpNamed(ctx, name)
	}
}

// giveUpNamed forgets an execution that is not under way, if it is recorded.
func (r *Runner) giveUpNamed(ctx context.Context, name string) {
	e, left, err := r.config.Buffer.Execution(ctx, name)
	if err == nil && left {
		err = (&spill{buffer: r.config.Buffer, log: r.config.Log.Warn}).giveUp(ctx, e)
	}
	if err != nil {
		r.config.Log.Error("pages of an interrupted read are left in the buffer", "step", name, "error", err)
	}
}

// giveUp forgets an execution with the pages that the hub did not take.
func (s *spill) giveUp(ctx context.Context, e buffer.Execution) error {
	n, err := s.buffer.Purge(ctx, buffer.Selection{Execution: &e})
	if err != nil {
		return err
	}
	s.log("pages of an interrupted read without key are given up", "step", e.Name, "pages", n)
	return s.buffer.EndExecution(ctx, e.Name)
}

// runSpill reads into the buffer while the feeder sends out of it.
func (w *reading) runSpill(ctx context.Context) (*control.StepDone, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	fed := make(chan error, 1)
	go func() {
		err := w.spill.feed(ctx, w.window)
		if err != nil {
			cancel(err) // the read need not go on
		}
		fed <- err
	}()
	end, err := w.pages(ctx, w.spill.push)
	w.spill.close()
	if err != nil {
		cancel(err)
	}
	if feedErr := <-fed; feedErr != nil && (err == nil || context.Cause(ctx) == feedErr) {
		err = feedErr // it came first, or alone
	}
	if err == nil {
		err = w.window.drain(ctx)
	}
	cancel(nil)
	return w.endSpill(end, err)
}

func (w *reading) endSpill(end request.End, err error) (*control.StepDone, error) {
	ctx := context.Background() // also after a cancel
	if err != nil {
		if giveUp := w.spill.giveUp(ctx, w.spill.mark); giveUp != nil {
			w.spill.log("pages of a failed read are left in the buffer", "step", w.step.name, "error", giveUp)
		}
		return w.finish(end, err)
	}
	if err := w.spill.buffer.EndExecution(ctx, w.spill.mark.Name); err != nil {
		return nil, err
	}
	return w.finish(end, nil)
}

// push stores a page and lines it up.
func (s *spill) push(ctx context.Context, p *page.Page) error {
	if err := s.buffer.Put(ctx, p); err != nil {
		if errors.Is(err, fault.Of("E_BUFFER_FULL")) {
			return fault.Of("E_SPILL").WithSource("agent").WithCause(fault.From(err).Cause)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := spilled{name: p.Header.Name()}
	if len(s.queue) < control.Window {
		q.page = p
	}
	s.queue = append(s.queue, q)
	s.wake()
	return nil
}

func (s *spill) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *spill) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake()
}

// feed moves pages into the window as it has room, until the last one.
func (s *spill) feed(ctx context.Context, w *window) error {
	for {
		q, more := s.next()
		if !more {
			return nil
		}
		if q.name == "" {
			select {
			case <-s.ready:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		p, err := q.page, error(nil)
		if p == nil {
			p, err = s.buffer.Page(ctx, q.name)
		}
		if err == nil {
			err = w.push(ctx, p)
		}
		if err != nil {
			return err
		}
	}
}

// next takes the first page of the queue; more is false after the last.
func (s *spill) next() (q spilled, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return spilled{}, !s.closed
	}
	q = s.queue[0]
	s.queue = s.queue[1:]
	return q, true
}

// taken marks a page that the hub has; it may be given up for room from now on.
func (s *spill) taken(name string) {
	if err := s.buffer.MarkAcked(context.Background(), name); err != nil {
		s.log("acked page not marked", "page", name, "error", err)
	}
}
