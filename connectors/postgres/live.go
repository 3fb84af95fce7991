package postgres

import (
	"errors"
	"io"
	"sync"

	"ropeway/connectors"
)

// A building is a batch that is being encoded while the transaction begins and
// its first rows are on their way.
type building struct {
	first chan *chunk   // the first chunk, if it can be streamed; then closed
	done  chan struct{} // closed when rows and err are set
	rows  *rows
	err   error
}

// startBuild encodes the batch in the background; wait must be called.
func startBuild(t *table, spec connectors.ImportSpec, in connectors.Batch) *building {
	b := &building{first: make(chan *chunk, 1), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		defer close(b.first)
		b.rows, b.err = build(t, spec, in, b.first)
	}()
	return b
}

func (b *building) wait() (*rows, error) {
	<-b.done
	return b.rows, b.err
}

// live is a chunk's body as far as it is encoded. The writer never waits for
// the reader.
type live struct {
	mu    sync.Mutex
	ready sync.Cond
	body  []byte // never changed, only continued
	ended bool
	err   error
}

func newLive() *live {
	l := &live{}
	l.ready.L = &l.mu
	return l
}

// publish shows the reader more of the body.
func (l *live) publish(body []byte) {
	l.mu.Lock()
	l.body = body
	l.mu.Unlock()
	l.ready.Signal()
}

// end says that the body is complete, or that it must not be used.
func (l *live) end(body []byte, err error) {
	l.mu.Lock()
	if !l.ended {
		l.body, l.ended, l.err = body, true, err
	}
	l.mu.Unlock()
	l.ready.Signal()
}

// broken reports whether the body must not be used.
func (l *live) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// A liveReader reads a body from its begin.
type liveReader struct {
	live *live
	at   int
}

func (r *liveReader) Read(p []byte) (int, error) {
	l := r.live
	l.mu.Lock()
	for r.at == len(l.body) && !l.ended {
		l.ready.Wait()
	}
	body, err := l.body, l.err
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if r.at == len(body) {
		return 0, io.EOF
	}
	n := copy(p, body[r.at:])
	r.at += n
	return n, nil
}

// errRestarted ends a stream whose rows are encoded anew.
var errRestarted = errors.New("the rows are encoded anew")
