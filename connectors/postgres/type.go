// Package postgres connects PostgreSQL: keyset reads straight from the binary
// wire format into page cells, imports by binary COPY with an inbox row in the
// same transaction. It knows the wire and the catalogue of PostgreSQL 12 and
// later; it does not know pages beyond their cells, nor queues or policies.
package postgres

import (
	"context"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
)

const name = "postgres"

// Type is the connector.
func Type() *connectors.Type {
	return &connectors.Type{
		Name:       name,
		Title:      "PostgreSQL",
		Settings:   settingsSchema(),
		Credential: credentialSchema(),
		Target:     sqldb.Endpoint,
		Open: func(ctx context.Context, env connectors.Env, s connectors.Settings) (connectors.Conn, error) {
			return open(ctx, env, s)
		},
		Ping: func(ctx context.Context, c connectors.Conn) error {
			return c.(*conn).ping(ctx)
		},
		Read: func(ctx context.Context, c connectors.Conn, q connectors.Query, after []byte,
			w *connectors.Writer) (connectors.ReadEnd, error) {
			return c.(*conn).read(ctx, q, after, w)
		},
		Import: func(ctx context.Context, c connectors.Conn, spec connectors.ImportSpec,
			in connectors.Batch) (connectors.Answer, error) {
			return c.(*conn).importBatch(ctx, spec, in)
		},
		ImportsOnce: sqldb.ImportsOnce,
	}
}

func settingsSchema() connectors.Schema {
	return connectors.Schema{Fields: append(sqldb.EndpointFields(5432), connectors.Field{
		Name: "schema", Type: connectors.String, Default: "public",
		Doc: "Schema of tables that are named without one."})}
}

func credentialSchema() connectors.Schema {
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "username", Type: connectors.String, Required: true, Doc: "Name of the role."},
		{Name: "password", Type: connectors.String, Secret: true, Doc: "Password of the role."},
	}}
}
