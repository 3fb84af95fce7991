// Package sqlite connects SQLite database files: keyset reads, imports with an
// inbox row in the same transaction. It knows SQLite's storage classes and
// affinities; it does not know pages beyond their cells, nor where files may
// be: Env.Path decides that.
package sqlite

import (
	"context"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

const name = "sqlite"

// Type is the connector.
func Type() *connectors.Type {
	return &connectors.Type{
		Name:     name,
		Title:    "SQLite",
		Settings: settingsSchema(),
		Target:   target,
		Open: func(_ context.Context, env connectors.Env, s connectors.Settings) (connectors.Conn, error) {
			if _, err := target(s); err != nil {
				return nil, err
			}
			return &conn{env: env, settings: s}, nil
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
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "path", Type: connectors.String, Required: true,
			Doc: "Path of the database file; it must exist."},
		{Name: "busyTimeout", Type: connectors.Duration, Default: "10s",
			Doc: "How long to wait for another program that writes."},
	}}
}

// target is the path as written.
func target(s connectors.Settings) (string, error) {
	path := s.String("path")
	if path == "" || strings.HasPrefix(path, ":") || strings.HasPrefix(path, "file:") {
		return "", fault.Of("E_SETTINGS").WithField("path").WithCause("path must be the path of a file")
	}
	return path, nil
}
