package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"ropeway/protocol/fault"
)

// A phase is when an error happened; it decides what a broken network means.
type phase int

const (
	connecting phase = iota // the endpoint cannot be reached
	working                 // the request can be repeated
)

// toFault makes a fault of any error of the driver (DELIVERY §8). Texts come
// from the server's primary message, never from its detail, and never from the
// driver's own text about connecting, which names what it was given.
func toFault(ctx context.Context, err error, p phase) error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		if server.Code == "57014" && ctx.Err() != nil {
			return cancelled(ctx)
		}
		return serverFault(server, p)
	}
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	return networkFault(err, p)
}

func cancelled(ctx context.Context) error {
	cause := context.Cause(ctx)
	var f *fault.Error
	switch {
	case errors.As(cause, &f):
		return f
	case errors.Is(cause, context.DeadlineExceeded):
		return fault.Of("E_TIMEOUT").WithSource(name).Wrap(cause)
	}
	return fault.Of("E_CANCELLED").WithSource(name).Wrap(cause)
}

func networkFault(err error, p phase) error {
	var (
		tooLong     *pgproto3.ExceededMaxBodyLenErr
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		record      tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &tooLong):
		return fault.Of("E_TOO_LARGE").WithSource(name).Wrap(err).
			WithCause("the server sent a row larger than 16 MiB")
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &host),
		errors.As(err, &record), strings.Contains(err.Error(), "server refused TLS connection"),
		strings.Contains(err.Error(), "tls: "):
		return fault.Of("E_TLS").WithSource(name).WithCause(innermost(err)).Wrap(err)
	case p == connecting && errors.Is(err, context.DeadlineExceeded):
		return fault.Of("E_UNREACHABLE").WithSource(name).Wrap(err).
			WithCause("no connection within the time allowed (connectTimeout)")
	case p == connecting:
		return fault.Of("E_UNREACHABLE").WithSource(name).WithCause(innermost(err)).Wrap(err)
	}
	return fault.Of("E_INTERMITTENT").WithSource(name).WithCause(innermost(err)).Wrap(err)
}

// innermost is the text of the error at the end of the chain.
func innermost(err error) string {
	for {
		if many, ok := err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) > 0 {
			err = many.Unwrap()[0]
			continue
		}
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// serverFault classifies a SQLSTATE.
func serverFault(e *pgconn.PgError, p phase) *fault.Error {
	f := fault.Of(sqlstateCode(e.Code, p)).WithSource(name).Wrap(e).
		WithCause(e.Message + " (SQLSTATE " + e.Code + ")")
	switch {
	case e.ColumnName != "":
		f = f.WithField(e.ColumnName)
	case columnInContext(e.Where) != "":
		f = f.WithField(columnInContext(e.Where))
	case e.ConstraintName != "":
		f = f.WithField(e.ConstraintName)
	}
	switch e.Code {
	case "3D000":
		f = f.WithFix("check the database's name in the connection's settings")
	case "23503":
		f = f.WithSentence("a row that the record refers to is not there")
	case "23502":
		f = f.WithSentence("a value that the target demands is null")
	case "42P10":
		f = f.WithFix("make a unique index on exactly the key columns, then resume the job")
	}
	return f
}

// states maps whole SQLSTATEs, classes what their first two characters say.
// 42501 (insufficient privilege) is not auth: the credential is good, one
// table is closed to it, so the job pauses and the connection, which others
// use, stays online.
var (
	states = map[string]string{
		"21000": "E_VALUE",        // two records of one key; the import splits them
		"22P03": "E_SCHEMA_DRIFT", // binary data of another type than the column's
		"23502": "E_MISSING",
		"23503": "E_MISSING",
		"23505": "E_DUPLICATE",
		"23P01": "E_DUPLICATE",
		"25006": "E_PERMISSION",
		"3D000": "E_UNREACHABLE",
		"3F000": "E_TABLE_MISSING",
		"42501": "E_PERMISSION",
		"42703": "E_COLUMN_MISSING",
		"42P01": "E_TABLE_MISSING",
		"42804": "E_SCHEMA_DRIFT",
		"42P10": "E_SCHEMA_DRIFT",
		"428C9": "E_SCHEMA_DRIFT",
		"42846": "E_SCHEMA_DRIFT",
		"55P03": "E_INTERMITTENT",
		"55006": "E_INTERMITTENT",
		"57014": "E_TIMEOUT", // statement_timeout
		"P0001": "E_VALUE",   // a trigger's own refusal
	}
	classes = map[string]string{
		"08": "E_INTERMITTENT",
		"0A": "E_QUERY",
		"22": "E_VALUE",
		"23": "E_VALUE",
		"25": "E_INTERMITTENT",
		"28": "E_AUTH_REJECTED",
		"40": "E_INTERMITTENT",
		"42": "E_QUERY",
		"44": "E_VALUE", // WITH CHECK OPTION
		"53": "E_INTERMITTENT",
		"54": "E_TOO_LARGE",
		"57": "E_INTERMITTENT",
		"58": "E_INTERMITTENT",
		"72": "E_INTERMITTENT",
	}
)

func sqlstateCode(state string, p phase) string {
	if p == connecting && state == "42501" {
		return "E_AUTH_REJECTED" // the role may not use this database at all
	}
	if code, ok := states[state]; ok {
		return code
	}
	if len(state) == 5 {
		if code, ok := classes[state[:2]]; ok {
			return code
		}
	}
	return "E_INTERNAL"
}

// columnInContext finds the column in "COPY orders, line 3, column total: …".
func columnInContext(where string) string {
	if !strings.HasPrefix(where, "COPY ") {
		return ""
	}
	line, _, _ := strings.Cut(where, "\n")
	_, after, found := strings.Cut(line, ", column ")
	if !found {
		return ""
	}
	column, _, _ := strings.Cut(after, ":")
	return strings.TrimSpace(column)
}
