package gateway

import (
	"context"
	"errors"
	"io"
	"sync"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
)

// readAhead is how many pages of a read wait in memory here; the others of the
// window wait at the agent.
const readAhead = 2

// A body is the body stream of a call, or nothing if the step has none.
type body struct {
	stream tunnel.Stream
	failed chan error // a fault of the other side or of the page; at most one
	work   sync.WaitGroup

	mu    sync.Mutex
	ended bool // all was sent or read
}

func openBody(ctx context.Context, p *peer, c *call) (*body, error) {
	b := &body{failed: make(chan error, 1)}
	if c.exchange.Page == nil && c.exchange.Accept == nil {
		return b, nil
	}
	st, err := p.session.Open(ctx)
	if err == nil {
		err = tunnel.WriteOpening(st, tunnel.Opening{Kind: tunnel.Step, ID: c.id})
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, stopped(context.Cause(ctx))
		}
		return nil, cut(err)
	}
	b.stream = st
	if c.exchange.Page != nil {
		b.work.Go(func() { b.give(c.exchange.Page) })
	} else {
		b.work.Go(func() { b.take(ctx, c.exchange.Accept) })
	}
	return b, nil
}

// stop ends the stream and waits for who works on it.
func (b *body) stop() {
	if b.stream == nil {
		return
	}
	b.mu.Lock()
	ended := b.ended
	b.mu.Unlock()
	if ended {
		b.stream.Close()
	} else {
		_ = b.stream.Reset()
	}
	b.work.Wait()
}

func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

// give sends the page of an import. An agent that knows the answer already may
// reset the stream; that is no fault.
func (b *body) give(p *page.Page) {
	w := control.NewFrameWriter(b.stream)
	err := w.Page(p)
	if err == nil {
		err = w.End()
	}
	if err == nil {
		err = b.stream.CloseWrite()
	}
	var f *fault.Error
	switch {
	case err == nil:
		b.end()
	case errors.As(err, &f):
		b.failed <- f
	}
}

// take reads pages ahead, lets accept see them in order and acks each.
func (b *body) take(ctx context.Context, accept func(context.Context, *page.Page) (control.AckStatus, *fault.Error)) {
	pages := make(chan *page.Page, readAhead)
	quit := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(pages)
		b.read(pages, quit)
	})
	w := control.NewFrameWriter(b.stream)
	ack := control.Ack{Status: control.Accepted}
	for p := range pages {
		if ack.Status.Taken() {
			ack.Status, ack.Fault = accept(ctx, p)
		}
		ack.Seq = p.Header.Seq
		if err := w.Ack(ack); err != nil {
			break // the session or the agent ends the call
		}
	}
	close(quit)
	reading.Wait()
}

func (b *body) read(pages chan<- *page.Page, quit <-chan struct{}) {
	r := control.NewFrameReader(b.stream)
	for {
		p, err := r.Page()
		if err == io.EOF {
			b.end()
			return
		}
		if errors.Is(err, control.ErrFrame) {
			b.failed <- fault.Of("E_PAGE_FORMAT").WithSource("agent").WithCause(err)
			return
		}
		if err != nil {
			return // a cut or a reset: the session or StepDone says why
		}
		select {
		case pages <- p:
		case <-quit:
			return
		}
	}
}
