package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"ropeway/protocol/fault"
)

// A phase is when an error happened; it decides what a broken network means.
type phase int

const (
	connecting phase = iota // the endpoint cannot be reached
	working                 // the request can be repeated
)

// toFault makes a fault of any error of the driver (DELIVERY §8).
func toFault(ctx context.Context, err error, p phase) error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	var server *mysql.MySQLError
	if errors.As(err, &server) && (server.Number != 1317 || ctx.Err() == nil) {
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
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		record      tls.RecordHeaderError
	)
	text := innermost(err)
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, mysql.ErrPktTooLarge):
		return fault.Of("E_TOO_LARGE").WithSource(name).WithCause(text).Wrap(err)
	case errors.Is(err, errFile), errors.Is(err, errColumns), errors.Is(err, errResults):
		return fault.Of("E_QUERY").WithSource(name).WithCause(text).Wrap(err)
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &host),
		errors.As(err, &record), errors.Is(err, errNoTLS), strings.Contains(err.Error(), "tls: "):
		return fault.Of("E_TLS").WithSource(name).WithCause(text).Wrap(err)
	case errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrNativePassword),
		errors.Is(err, mysql.ErrOldPassword), errors.Is(err, mysql.ErrUnknownPlugin):
		return fault.Of("E_AUTH_REJECTED").WithSource(name).Wrap(err).
			WithCause("the account wants a way of authentication that is not supported").
			WithFix("let the account use caching_sha2_password, mysql_native_password or ed25519")
	case p == connecting && errors.Is(err, context.DeadlineExceeded):
		return fault.Of("E_UNREACHABLE").WithSource(name).Wrap(err).
			WithCause("no connection within the time allowed (connectTimeout)")
	case p == connecting:
		return fault.Of("E_UNREACHABLE").WithSource(name).WithCause(text).Wrap(err)
	}
	return fault.Of("E_INTERMITTENT").WithSource(name).WithCause(text).Wrap(err)
}

// innermost is the text of the error at the end of the chain.
func innermost(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// serverFault classifies an error number.
func serverFault(e *mysql.MySQLError, p phase) *fault.Error {
	message := e.Message
	if found := duplicateEntry.FindStringSubmatchIndex(message); found != nil {
		message = "Duplicate entry" + message[found[2]:] // without the value
	}
	f := fault.Of(codeOf(e, p)).WithSource(name).Wrap(errors.New(message)).
		WithCause(message + " (error " + strconv.Itoa(int(e.Number)) + ")")
	if field := fieldOf(message); field != "" {
		f = f.WithField(field)
	}
	switch e.Number {
	case 1049:
		f = f.WithFix("check the database's name in the connection's settings")
	case 1452, 1216:
		f = f.WithSentence("a row that the record refers to is not there")
	case 1451, 1217:
		f = f.WithSentence("other rows refer to the row")
	case 1048, 1263:
		f = f.WithSentence("a value that the target demands is null")
	case 1364:
		f = f.WithSentence("a value that the target demands is not in the record")
	}
	return f
}

var (
	duplicateEntry = regexp.MustCompile(`(?s)^Duplicate entry '.*'( for key)`)
	columnIn       = regexp.MustCompile("(?i)(?:column|field) (?:`[^`]*`\\.`[^`]*`\\.)?[`']([^`']+)[`']")
)

// fieldOf finds the column that a message names: column 'v', Field 'v',
// column `db`.`table`.`v`.
func fieldOf(message string) string {
	if found := columnIn.FindStringSubmatch(message); found != nil {
		return found[1]
	}
	return ""
}
