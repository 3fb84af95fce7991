package request

import (
	"context"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A pager is the Sink behind a read's Writer: it decides where pages end. A
// full page is held until the next record shows that it is not the last.
type pager struct {
	ctx    context.Context
	read   Read
	limits Limits
	start  time.Time
	sealer *sealer

	current *page.Encoder // page being filled; nil before the first record
	held    bool          // current is full and waits for the next record
	cursor  []byte        // after the last record of a held page
	last    func() []byte // cursor after the last record of an unfinished page
	out     int           // pages given to the sealer
	stopped bool          // the next record is only looked at
	err     error
}

func newPager(ctx context.Context, r Read, s *sealer) *pager {
	return &pager{ctx: ctx, read: r, limits: pageLimits(r), start: r.Clock(), sealer: s}
}

func pageLimits(r Read) Limits {
	l := r.Limits.withDefaults()
	if r.Query.PageSize > 0 {
		l.PageRecords = min(l.PageRecords, r.Query.PageSize)
	}
	return l
}

// Encoder is part of connectors.Sink.
func (p *pager) Encoder() *page.Encoder {
	if p.held {
		p.flush(false)
		p.stopped = p.read.bounded() && (p.out >= p.limits.Pages || p.overTime())
	}
	if p.current == nil {
		p.current = p.take()
	}
	return p.current
}

// Done is part of connectors.Sink.
func (p *pager) Done(cursor func() []byte) (bool, error) {
	if p.err != nil {
		return false, p.err
	}
	if p.stopped {
		return false, nil
	}
	if err := p.current.End(); err != nil {
		p.err = err
		return false, err
	}
	if p.current.Size() > p.limits.PageMaxBytes {
		p.err = fault.Of("E_TOO_LARGE").WithSource(p.read.Type.Name)
		return false, p.err
	}
	if !p.full() {
		p.last = cursor
		return true, nil
	}
	p.held, p.last, p.cursor = true, nil, nil
	if cursor != nil {
		p.cursor = cursor()
	}
	return true, nil
}

// Room is part of connectors.Sink.
func (p *pager) Room() (records, bytes int) {
	if !p.read.bounded() {
		return -1, -1
	}
	records = (p.limits.Pages-p.out)*p.limits.PageRecords + 1
	bytes = (p.limits.Pages - p.out) * p.limits.PageBytes
	if p.current != nil {
		records -= p.current.Records()
		bytes -= p.current.Size()
	}
	return max(records, 1), max(bytes, 1)
}

var _ connectors.Sink = (*pager)(nil)

func (p *pager) full() bool {
	return p.current.Records() >= p.limits.PageRecords ||
		p.current.Size() >= p.limits.PageBytes ||
		p.read.bounded() && p.out > 0 && p.current.Records()%clockEvery == 0 && p.overTime()
}

// clockEvery is how many records pass between two looks at the clock.
const clockEvery = 64

func (p *pager) overTime() bool { return p.read.Clock().Sub(p.start) >= p.limits.Time }

// flush gives the held page to the sealer.
func (p *pager) flush(last bool) {
	select {
	case p.sealer.full <- unsealed{encoder: p.current, cursor: p.cursor, last: last}:
		p.out++
	case <-p.ctx.Done():
		p.fail(context.Cause(p.ctx))
	}
	p.current, p.held, p.cursor = nil, false, nil
}

// take waits for an encoder that the sealer is done with. After an error any
// encoder does: Done drops its record.
func (p *pager) take() *page.Encoder {
	select {
	case e := <-p.sealer.free:
		return e
	case <-p.ctx.Done():
		p.fail(context.Cause(p.ctx))
		return page.NewEncoder()
	}
}

func (p *pager) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// finish handles what is left when the connector has returned. A full page is
// sent even when the read failed after it; an unfinished one is read again.
func (p *pager) finish(end connectors.ReadEnd, err error) error {
	switch {
	case p.err != nil:
		return p.err
	case err != nil:
		if p.held && p.read.bounded() {
			p.flush(false)
		}
		return err
	case p.stopped:
		return nil
	case !end.Exhausted:
		return fault.Of("E_INTERNAL").WithSource(p.read.Type.Name).
			WithCause("the connector ended its read early")
	}
	if p.current == nil {
		p.current = p.take()
	}
	if !p.held && p.last != nil {
		p.cursor = p.last()
	}
	if p.cursor == nil {
		p.cursor = p.read.Cursor // nothing was found after it
	}
	p.flush(true)
	return p.err
}
