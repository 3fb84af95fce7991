// Package builtin lists the connectors that hub and agent are built with. It
// is the only place that names them all.
package builtin

import (
	"ropeway/connectors"
	"ropeway/connectors/mysql"
	"ropeway/connectors/postgres"
	"ropeway/connectors/sap/odata"
	"ropeway/connectors/sqlite"
)

// Types returns every connector, in alphabetical order.
func Types() []*connectors.Type {
	return []*connectors.Type{
		mysql.Type(),
		postgres.Type(),
		odata.Type(),
		sqlite.Type(),
	}
}

// Find returns the connector of a name.
func Find(name string) (*connectors.Type, bool) {
	for _, t := range Types() {
		if t.Name == name {
			return t, true
		}
	}
	return nil, false
}
