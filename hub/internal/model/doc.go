// Package model holds the words of the hub: the kinds of manifests with their
// rules, and the plain records of jobs, steps, parked records, connections and
// agents that store, flow and api exchange. It reads YAML and JSON; it knows no
// database and no queue, of connectors only the words of queries and imports,
// and it runs nothing.
package model
