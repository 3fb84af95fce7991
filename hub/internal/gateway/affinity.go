package gateway

import "ropeway/protocol/page"

// affinity remembers which agent last ran a page or read, so that a redelivery
// finds the execution it can join. It forgets the oldest half when it is full;
// what is forgotten costs an execution, never correctness.
type affinity struct {
	young, old map[string]page.ID
}

const affinityHalf = 16384

func (a *affinity) remember(name string, agent page.ID) {
	if len(a.young) >= affinityHalf || a.young == nil {
		a.old, a.young = a.young, make(map[string]page.ID)
	}
	a.young[name] = agent
}

func (a *affinity) agent(name string) (page.ID, bool) {
	if id, ok := a.young[name]; ok {
		return id, true
	}
	id, ok := a.old[name]
	return id, ok
}
