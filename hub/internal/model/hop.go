package model

import "ropeway/connectors"

// Hop is a piece of a flow between two queues: the request that heads it and
// the pure steps that run on its result before the result is published
// (SEMANTICS §4.3, DELIVERY §3).
type Hop struct {
	Head       string  // step token of the export or import that heads the hop; "" = pushed data
	Connection string  // name of the connection of the head; "" = pushed data
	Export     *Export // set in hop 0 of a flow with an export
	Import     *Import // set in every other hop
	Pure       []Step  // filter, map and set steps, in order
}

// Plan cuts the flow into hops. Hop 0 is headed by the export, or by nothing
// when a listener starts the flow; every import heads one of its own.
func (f *Flow) Plan() []Hop {
	first := Hop{}
	if f.Export != nil {
		first = Hop{Head: f.Export.Name, Connection: f.Export.Connection, Export: f.Export}
	}
	hops := []Hop{first}
	for _, s := range f.Steps {
		if s.Import != nil {
			hops = append(hops, Hop{Head: s.Name, Connection: s.Import.Connection, Import: s.Import})
			continue
		}
		last := &hops[len(hops)-1]
		last.Pure = append(last.Pure, s)
	}
	return hops
}

// Step finds a step of the flow by its token.
func (f *Flow) Step(name string) (Step, bool) {
	for _, s := range f.Steps {
		if s.Name == name {
			return s, true
		}
	}
	return Step{}, false
}

// HopOf returns the index in Plan of the hop that runs the step with this
// token, as its head or as one of its pure steps.
func (f *Flow) HopOf(name string) (int, bool) {
	for i, h := range f.Plan() {
		if h.Head == name {
			return i, true
		}
		for _, s := range h.Pure {
			if s.Name == name {
				return i, true
			}
		}
	}
	return 0, false
}

// Connections returns the names of the connections the flow uses, each once, in
// the order of first use.
func (f *Flow) Connections() []string {
	var names []string
	seen := map[string]bool{"": true}
	for _, h := range f.Plan() {
		if !seen[h.Connection] {
			seen[h.Connection] = true
			names = append(names, h.Connection)
		}
	}
	return names
}

// Read is the query that an export sends to its connector.
func (e *Export) Read() connectors.Query {
	return connectors.Query{SQL: e.Query, Table: e.Table, Columns: e.Columns, Where: e.Where,
		Key: e.Key, PageSize: e.PageSize}
}

// Write is what an import asks of its connector.
func (i *Import) Write() connectors.ImportSpec {
	return connectors.ImportSpec{Table: i.Table, Mode: i.Mode, Key: i.Key, Inbox: i.Inbox,
		FieldErrors: i.FieldErrors}
}
