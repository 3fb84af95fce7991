package runner

import (
	"context"
	"slices"
	"sync"
	"time"

	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
)

// window is the pages of a read that the hub has not taken yet, at most
// control.Window, in order. They belong to the execution: whichever body stream
// is tied to it sends them all, from the first.
type window struct {
	taken func(name string) // called for each page that the hub has taken; may be nil

	mu      sync.Mutex
	pages   []*page.Page
	failed  error // why no page is taken any more
	current *link
	changed chan struct{} // closed and replaced at every change
}

// link is one body stream tied to a window.
type link struct {
	gone chan struct{} // closed when another one took over
}

func newWindow(taken func(name string)) *window {
	return &window{taken: taken, changed: make(chan struct{})}
}

// tell wakes whoever waits. The caller holds the lock.
func (w *window) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// push adds a page once there is room.
func (w *window) push(ctx context.Context, p *page.Page) error {
	return w.when(ctx, func() bool {
		if len(w.pages) >= control.Window {
			return false
		}
		w.pages = append(w.pages, p)
		w.tell()
		return true
	})
}

// drain waits until the hub has taken every page.
func (w *window) drain(ctx context.Context) error {
	return w.when(ctx, func() bool { return len(w.pages) == 0 })
}

// when waits until ok, which runs under the lock, says so.
func (w *window) when(ctx context.Context, ok func() bool) error {
	for {
		w.mu.Lock()
		if w.failed != nil {
			defer w.mu.Unlock()
			return w.failed
		}
		if ok() {
			w.mu.Unlock()
			return nil
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ack takes in what the hub says of a page. Acks of an older stream count as
// well: the hub speaks of the page, not of the stream. A hub that gave up the call
// in the middle of a page says nothing about it: the page stays for the next call.
func (w *window) ack(a control.Ack) {
	if a.Status == control.Refused && a.Fault != nil && a.Fault.Code == "E_TUNNEL_CUT" {
		return
	}
	w.mu.Lock()
	i := slices.IndexFunc(w.pages, func(p *page.Page) bool { return p.Header.Seq == a.Seq })
	if i < 0 || w.failed != nil {
		w.mu.Unlock()
		return
	}
	name := ""
	if a.Status.Taken() {
		name = w.pages[i].Header.Name()
		w.pages = slices.Delete(w.pages, i, i+1)
	} else {
		w.failed = verdict(a, w.pages[i].Header.Name())
		w.pages = nil // the tail is dropped
	}
	w.tell()
	w.mu.Unlock()
	if name != "" && w.taken != nil {
		w.taken(name)
	}
}

// verdict is why a page that was not taken ends its execution.
func verdict(a control.Ack, name string) error {
	f := a.Fault
	switch {
	case a.Status == control.Superseded && f == nil:
		f = fault.Of("E_SUPERSEDED")
	case a.Status == control.Superseded:
		f = fault.Of("E_SUPERSEDED").WithCause(f.Cause)
	case f == nil && a.Status == control.Conflict:
		f = fault.Of("E_PAGE_CONFLICT")
	case f == nil:
		f = fault.Of("E_INTERNAL").WithSentence("the hub refuses a page")
	}
	if f.Cause == "" {
		f = f.WithCause("page " + name)
	}
	return f
}

// serve ties a body stream to the window until done, or until the stream breaks
// or another one takes over.
func (w *window) serve(ctx context.Context, body tunnel.Stream, done <-chan struct{}) error {
	l := &link{gone: make(chan struct{})}
	w.mu.Lock()
	if w.current != nil {
		close(w.current.gone)
	}
	w.current = l
	w.mu.Unlock()

	acks := make(chan error, 1)
	go func() { acks <- w.read(body) }()
	written := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		l.watch(ctx, body, done, written)
	}()
	err := w.write(ctx, l, body, done, acks)
	close(written)
	<-watched
	w.letGo(l)
	if err != nil {
		_ = body.Reset()
	} else {
		_ = body.CloseWrite()
		_ = body.SetReadDeadline(time.Unix(1, 0))
	}
	<-acks
	return err
}

// endWait is how long a write may take once the work is done.
const endWait = 2 * time.Second

// watch frees a write that the hub does not read, when nobody waits for it any
// more.
func (l *link) watch(ctx context.Context, body tunnel.Stream, done, written <-chan struct{}) {
	wait := time.Duration(0)
	select {
	case <-written:
		return
	case <-ctx.Done():
	case <-l.gone:
	case <-done:
		wait = endWait
	}
	_ = body.SetWriteDeadline(time.Now().Add(wait))
}

func (w *window) letGo(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == l {
		w.current = nil
	}
}

// read reads acks until the stream ends, which is never as it should be.
func (w *window) read(body tunnel.Stream) error {
	r := control.NewFrameReader(body)
	for {
		a, err := r.Ack()
		if err != nil {
			return err
		}
		w.ack(a)
	}
}

// write sends pages in order, each once on this stream. When the work is done it
// ends the stream in order.
func (w *window) write(ctx context.Context, l *link, body tunnel.Stream, done <-chan struct{},
	acks chan error) error {
	f := control.NewFrameWriter(body)
	for next := uint64(0); ; {
		p, changed := w.after(next)
		if p != nil {
			if err := f.Page(p); err != nil {
				return broken(err)
			}
			next = p.Header.Seq + 1
			continue
		}
		select {
		case <-changed:
		case <-done:
			return f.End()
		case <-l.gone:
			return fault.Of("E_SUPERSEDED").WithSource("agent").WithCause("a newer call has joined this execution")
		case err := <-acks:
			acks <- err // for serve, which waits for it
			return broken(err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func broken(err error) error {
	return fault.New(fault.Intermittent, "E_TUNNEL_CUT", "the body stream of a step broke").
		WithSource("agent").WithCause(err)
}

// after returns the first page from seq on, nil if there is none yet.
func (w *window) after(seq uint64) (*page.Page, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pages {
		if p.Header.Seq >= seq {
			return p, w.changed
		}
	}
	return nil, w.changed
}
