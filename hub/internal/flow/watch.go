package flow

import (
	"sync"

	"ropeway/protocol/page"
)

// watchers wakes those who follow a job. A wake-up carries no state: the watcher
// reads the job again, so that a missed one loses nothing.
type watchers struct {
	mu   sync.Mutex
	next int
	jobs map[page.ID]map[int]chan struct{}
}

func newWatchers() *watchers { return &watchers{jobs: map[page.ID]map[int]chan struct{}{}} }

// Watch returns a channel that receives after the job changed, and a function
// that ends the watching.
func (e *Engine) Watch(job page.ID) (<-chan struct{}, func()) {
	w := e.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.jobs[job] == nil {
		w.jobs[job] = map[int]chan struct{}{}
	}
	id, c := w.next, make(chan struct{}, 1)
	w.next++
	w.jobs[job][id] = c
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.jobs[job], id)
		if len(w.jobs[job]) == 0 {
			delete(w.jobs, job)
		}
	}
}

func (w *watchers) changed(jobs ...page.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, job := range jobs {
		for _, c := range w.jobs[job] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}
