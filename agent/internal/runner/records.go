package runner

import (
	"container/list"
	"sync"

	"ropeway/protocol/control"
)

// records keeps the answers of the last executions by name, so that a step whose
// answer was lost on the way is answered again and not done again. It is a
// cache: the ledger is the hub's receipts.
type records struct {
	limit int

	mu    sync.Mutex
	order *list.List // of *record, newest first
	names map[string]*list.Element
}

type record struct {
	name string
	done *control.StepDone
}

// maxRecorded bounds the bytes of one recorded answer.
const maxRecorded = 1 << 20

func newRecords(limit int) *records {
	return &records{limit: limit, order: list.New(), names: map[string]*list.Element{}}
}

func (r *records) add(name string, done *control.StepDone) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(done.GetAnswer()) > maxRecorded || r.names[name] != nil {
		return
	}
	r.names[name] = r.order.PushFront(&record{name, done})
	for r.order.Len() > r.limit {
		oldest := r.order.Remove(r.order.Back()).(*record)
		delete(r.names, oldest.name)
	}
}

// answer returns a copy of a recorded answer; nil when there is none.
func (r *records) answer(name string) *control.StepDone {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.names[name]
	if e == nil {
		return nil
	}
	r.order.MoveToFront(e)
	done := e.Value.(*record).done
	return &control.StepDone{Answer: done.Answer, End: done.End, Joined: true}
}
