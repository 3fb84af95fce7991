// Package request runs one bounded request over an open connection, the same
// way in the hub and in the agent: a read that makes pages, an import of one
// page. It owns where a page ends, which page is the last and how pages are
// named and chained; it does not know systems, queues, buffers or tunnels.
package request

import (
	"context"
	"sync"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// A Read is one read request of a chain (DELIVERY §1.2). A read with a key
// ends after Limits.Pages or Limits.Time and is continued by the next request;
// a read without a key runs until its source is exhausted.
type Read struct {
	Type  *connectors.Type
	Conn  connectors.Conn
	Query connectors.Query

	// Header is the template of the pages: tenant, environment, flow and its
	// version, chain, trace. Run fills in the rest.
	Header page.Header
	Epoch  page.Epoch
	Seq    uint64    // of the first page to make
	Prev   page.Hash // of the page before it; zero for the first of the chain
	Cursor []byte    // where to go on; nil = from the start

	Pages, Records uint64 // of the chain before this request

	Limits Limits
	Clock  func() time.Time // nil = time.Now; called from two goroutines
}

// An End says how far a read came. Pages and Records count the chain with this
// request, so that Seq, Prev, Cursor, Pages and Records are those of the next.
type End struct {
	Exhausted      bool   // the page with Last was sent
	Cursor         []byte // after the last page sent; nil for a read without key
	Seq            uint64 // of the next page
	Prev           page.Hash
	Pages, Records uint64
}

// Run reads and calls send for each page, in order and one at a time; send may
// block, which slows the read down. It looks one record ahead, so that the page
// with the last record of an exhausted read carries Last; a chain without any
// page gets an empty one. After an error End still says what was sent.
func (r Read) Run(ctx context.Context, send func(context.Context, *page.Page) error) (End, error) {
	if r.Type.Read == nil {
		return r.start(), fault.Of("E_UNSUPPORTED").WithSource(r.Type.Name)
	}
	if err := r.Query.Validate(); err != nil {
		return r.start(), err
	}
	if r.Clock == nil {
		r.Clock = time.Now
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	s := newSealer(r, send)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.run(ctx, cancel)
	}()
	end := sync.OnceFunc(func() { close(s.full); <-finished })
	defer end() // also when the connector panics
	p := newPager(ctx, r, s)
	readEnd, err := r.Type.Read(ctx, r.Conn, r.Query, r.Cursor, connectors.NewWriter(p))
	err = p.finish(readEnd, err)
	end()
	if s.err != nil {
		err = s.err
	}
	return s.end, err
}

func (r Read) start() End {
	return End{Cursor: r.Cursor, Seq: r.Seq, Prev: r.Prev, Pages: r.Pages, Records: r.Records}
}

// bounded reports whether the request ends before its source does.
func (r Read) bounded() bool { return r.Query.Resumable() }
