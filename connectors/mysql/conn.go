package mysql

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// A conn is an open connection: settings and a few idle sessions. Each request
// takes a session of its own.
type conn struct {
	env      connectors.Env
	settings connectors.Settings
	address  string
	tls      *tls.Config

	closing context.Context // ends with Close
	close   context.CancelFunc
	idle    sqldb.Pool[role, *session]
}

// A session is one connection to the server, used by one request at a time.
type session struct {
	driver    driver.Conn
	wire      *wire
	role      role
	maxPacket int  // of a session that writes
	open      bool // a transaction is
	isCut     bool // in the middle of a result
}

func open(ctx context.Context, env connectors.Env, s connectors.Settings) (*conn, error) {
	address, t, err := endpoint(s)
	if err != nil {
		return nil, err
	}
	c := &conn{env: env, settings: s, address: address, tls: t}
	c.closing, c.close = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

// Close ends idle sessions and cuts those in use.
func (c *conn) Close() error {
	c.close()
	c.idle.Close()
	return nil
}

// with runs f with a session and makes a fault of its error.
func (c *conn) with(ctx context.Context, r role, f func(ctx context.Context, s *session) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()
	s, err := c.take(ctx, r)
	if err != nil {
		return toFault(ctx, err, connecting)
	}
	err = f(ctx, s)
	switch {
	case s.isCut || ctx.Err() != nil && !s.valid():
		s.End()
		c.kill(s)
	case s.valid() && !s.open:
		c.idle.Give(r, s)
	default:
		s.End()
	}
	return toFault(ctx, s.explain(err), working)
}

// take returns an idle session that works, or a new one.
func (c *conn) take(ctx context.Context, r role) (*session, error) {
	if s, ok := c.idle.Take(ctx, r); ok {
		return s, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.settings.Duration("connectTimeout"))
	defer cancel()
	s, err := c.dial(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, c.settings); err != nil {
		s.End()
		return nil, s.explain(err)
	}
	return s, nil
}

// dial opens a session with the credential of now. The address is always
// dialled as written and its name resolved inside Dial, where the policy
// stands.
func (c *conn) dial(ctx context.Context, r role) (*session, error) {
	secret, err := c.env.Secret(ctx)
	if err != nil {
		return nil, err
	}
	if secret["username"] == "" {
		return nil, fault.Of("E_NO_CREDENTIAL").WithSource(name).
			WithCause("the credential has no username")
	}
	s := &session{role: r}
	s.wire, err = dialWire(ctx, func(ctx context.Context) (net.Conn, error) {
		return c.env.Dial(ctx, "tcp", c.address)
	}, c.tls)
	if err != nil {
		return nil, err
	}
	config := c.buildConfig(secret, c.tls != nil)
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return s.wire, nil }
	err = guarded(func() error {
		connector, err := mysql.NewConnector(config)
		if err != nil {
			return err
		}
		s.driver, err = connector.Connect(ctx)
		return err
	})
	if err != nil {
		s.wire.Close()
		return nil, s.explain(err)
	}
	return s, nil
}

// killFor is how long it may take to end a statement that nobody waits for.
const killFor = 2 * time.Second

// kill ends what the server still does for a session that was cut: it would
// notice only when it has something to send.
func (c *conn) kill(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), killFor)
	defer cancel()
	other, err := c.dial(ctx, s.role)
	if err != nil {
		return
	}
	defer other.End()
	_ = other.exec(ctx, "KILL "+strconv.FormatUint(uint64(s.wire.id), 10)) // it may be gone
}

func (c *conn) ping(ctx context.Context) error {
	return c.with(ctx, reading, func(ctx context.Context, s *session) error {
		_, err := s.query(ctx, "SELECT 1")
		return err
	})
}

// Alive asks the server for an answer.
func (s *session) Alive(ctx context.Context) bool {
	return guarded(func() error { return s.driver.(driver.Pinger).Ping(ctx) }) == nil
}

// End closes the session without waiting long.
func (s *session) End() {
	s.wire.SetDeadline(time.Now().Add(time.Second))
	_ = guarded(s.driver.Close)
	s.wire.Close()
}

// valid reports whether the connection is whole and nothing of an answer is
// left to read.
func (s *session) valid() bool {
	return !s.isCut && s.wire.err == nil && s.driver.(driver.Validator).IsValid()
}

// explain is the error below one of the driver, which says only that the
// connection is invalid.
func (s *session) explain(err error) error {
	var server *mysql.MySQLError
	var f *fault.Error
	if err == nil || s.wire.err == nil || errors.As(err, &server) || errors.As(err, &f) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return s.wire.err
}

// exec runs one statement and throws its result away.
func (s *session) exec(ctx context.Context, sql string) error {
	_, err := s.change(ctx, sql)
	return err
}

// change runs one statement and returns how many rows it found or made.
func (s *session) change(ctx context.Context, sql string) (rows int64, err error) {
	err = guarded(func() error {
		result, err := s.driver.(driver.ExecerContext).ExecContext(ctx, sql, nil)
		if err == nil {
			rows, err = result.RowsAffected()
		}
		return err
	})
	return rows, err
}

// query runs one statement and returns its rows as text; null is "".
func (s *session) query(ctx context.Context, sql string) (found [][]string, err error) {
	err = guarded(func() error {
		rows, err := s.driver.(driver.QueryerContext).QueryContext(ctx, sql, nil)
		if err != nil {
			return err
		}
		defer rows.Close()
		values := make([]driver.Value, len(rows.Columns()))
		for {
			if err := next(rows, values); errors.Is(err, io.EOF) {
				return s.ended(len(found))
			} else if err != nil {
				if errNumber(err) == nil {
					s.cut()
				}
				return err
			}
			row := make([]string, len(values))
			for i, v := range values {
				switch v := v.(type) {
				case nil:
				case []byte:
					row[i] = string(v)
				default:
					row[i] = fmt.Sprint(v)
				}
			}
			found = append(found, row)
		}
	})
	return found, err
}

// ended checks that a result of so many rows has ended: the driver also says so
// of a row that is cut off.
func (s *session) ended(rows int) error {
	if rows == s.wire.guard.rows {
		return nil
	}
	s.cut()
	return badWire("row")
}

// guarded turns a panic of the driver into an error: it trusts the lengths that
// a server sends.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = badWire("answer")
		}
	}()
	return f()
}
