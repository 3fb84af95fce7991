// Package postgres connects PostgreSQL: keyset reads straight from the binary
// wire format into page cells, imports by binary COPY with an inbox row in the
// same transaction. It knows the wire and the catalogue of PostgreSQL 12 and
// later; it does not know pages beyond their cells, nor queues or policies.
package postgres

import (
	"context"
	"net"
	"strconv"
	"strings"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

const name = "postgres"

// Type is the connector.
func Type() *connectors.Type {
	return &connectors.Type{
		Name:       name,
		Title:      "PostgreSQL",
		Settings:   settingsSchema(),
		Credential: credentialSchema(),
		Target:     target,
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

// The words of the setting tls.
const (
	tlsDisable    = "disable"
	tlsRequire    = "require"
	tlsVerifyCA   = "verify-ca"
	tlsVerifyFull = "verify-full"
)

func settingsSchema() connectors.Schema {
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "host", Type: connectors.String, Required: true,
			Doc: "Name or address of the server."},
		{Name: "port", Type: connectors.Int, Default: int64(5432), Min: 1, Max: 65535,
			Doc: "Port of the server."},
		{Name: "database", Type: connectors.String, Required: true,
			Doc: "Name of the database."},
		{Name: "tls", Type: connectors.String, Default: tlsVerifyFull,
			Enum: []string{tlsDisable, tlsRequire, tlsVerifyCA, tlsVerifyFull},
			Doc:  "How the connection is encrypted and the server's certificate checked."},
		{Name: "ca", Type: connectors.PEM,
			Doc: "PEM certificates to trust instead of the system's."},
		{Name: "schema", Type: connectors.String, Default: "public",
			Doc: "Schema of tables that are named without one."},
		{Name: "connectTimeout", Type: connectors.Duration, Default: "10s",
			Doc: "Longest time to connect."},
		{Name: "statementTimeout", Type: connectors.Duration, Default: "10m",
			Doc: "Longest time of one statement, except of a read without key."},
	}}
}

func credentialSchema() connectors.Schema {
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "username", Type: connectors.String, Required: true, Doc: "Name of the role."},
		{Name: "password", Type: connectors.String, Secret: true, Doc: "Password of the role."},
	}}
}

// target is "host:port" as written. A host that could be anything but one name
// or address (a socket, a list, options) is refused.
func target(s connectors.Settings) (string, error) {
	host := s.String("host")
	if bare, ok := strings.CutPrefix(host, "["); ok {
		if bare, ok = strings.CutSuffix(bare, "]"); !ok || net.ParseIP(bare) == nil {
			return "", badHost()
		}
		host = bare
	}
	if host == "" || strings.HasPrefix(host, ".") || strings.ContainsAny(host, "/\\@,;? \t%[]=") ||
		strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", badHost()
	}
	return net.JoinHostPort(host, strconv.FormatInt(s.Int("port"), 10)), nil
}

func badHost() error {
	return fault.Of("E_SETTINGS").WithField("host").
		WithCause("host must be one host name or one IP address")
}
