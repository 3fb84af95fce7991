// Package mysql connects MySQL and MariaDB: keyset reads by the binary protocol
// into page cells, imports by multi-row statements with an inbox row in the
// same transaction of InnoDB. It knows the types, errors and sessions of MySQL
// 5.7 and MariaDB 10.3 and later, and keeps the driver from anything that the
// settings do not say; it does not know pages beyond their cells, nor queues or
// policies.
//
// Values keep their kind: integers (BIGINT UNSIGNED and BIT as unsigned), FLOAT
// and DOUBLE, DECIMAL with its scale, texts of any character set, binary
// strings as bytes, ENUM and SET as text, YEAR as an integer. DATETIME is a
// timestamp without zone, TIMESTAMP a point in time in UTC. TIME is a time of
// the day, or an interval when it is negative or beyond 24 hours. What no
// calendar knows ('0000-00-00') and shapes (as hexadecimal EWKB) are foreign
// values, which the same type takes back as they are. JSON of MariaDB, which is
// a text with a check, and its uuid and inet types are recognised when a table
// is read by name; a free query sees them as text.
//
// An import refuses what a column would change in silence: digits after the
// point or of a second that it has no room for, texts that are too long,
// timestamps without a zone for TIMESTAMP. Only tables with transactions are
// written to: on MyISAM no promise could be kept.
package mysql

import (
	"context"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
)

const name = "mysql"

// Type is the connector.
func Type() *connectors.Type {
	return &connectors.Type{
		Name:       name,
		Title:      "MySQL / MariaDB",
		Settings:   connectors.Schema{Fields: sqldb.EndpointFields(3306)},
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

func credentialSchema() connectors.Schema {
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "username", Type: connectors.String, Required: true, Doc: "Name of the account."},
		{Name: "password", Type: connectors.String, Secret: true, Doc: "Password of the account."},
	}}
}
