package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// A conn is an open connection: settings and a few idle sessions. Each request
// takes a session of its own.
type conn struct {
	env      connectors.Env
	settings connectors.Settings
	configs  [roles]*pgconn.Config // without user and password

	closing context.Context // ends with Close
	close   context.CancelFunc

	idle sqldb.Pool[role, *session]

	mu     sync.Mutex
	tables map[string]*table // by quoted name, with the schema
}

// A session is one connection to the server, used by one request at a time.
type session struct {
	pg        *pgconn.PgConn
	role      role
	types     map[uint32]kind // types that are read as text, by OID
	relearned bool            // learnTypes ran a statement
}

func open(ctx context.Context, env connectors.Env, s connectors.Settings) (*conn, error) {
	c := &conn{env: env, settings: s, tables: map[string]*table{}}
	for r := range roles {
		config, err := buildConfig(env, s, r)
		if err != nil {
			return nil, err
		}
		c.configs[r] = config
	}
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
	c.give(s, err)
	return toFault(ctx, err, working)
}

// take returns an idle session that works, or a new one.
func (c *conn) take(ctx context.Context, r role) (*session, error) {
	if s, ok := c.idle.Take(ctx, r); ok {
		return s, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.dial(ctx, r)
}

// dial opens a session with the credential of now.
func (c *conn) dial(ctx context.Context, r role) (*session, error) {
	secret, err := c.env.Secret(ctx)
	if err != nil {
		return nil, err
	}
	if secret["username"] == "" {
		return nil, fault.Of("E_NO_CREDENTIAL").WithSource(name).
			WithCause("the credential has no username")
	}
	config := c.configs[r].Copy()
	config.User, config.Password = secret["username"], secret["password"]
	ctx, cancel := context.WithTimeout(ctx, c.settings.Duration("connectTimeout"))
	defer cancel()
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &session{pg: pg, role: r, types: map[uint32]kind{}}, nil
}

// give puts a session back, unless its state is in doubt.
func (c *conn) give(s *session, err error) {
	if s.pg.IsClosed() || s.pg.IsBusy() || s.pg.TxStatus() != 'I' || c.closing.Err() != nil {
		s.End()
		return
	}
	if err != nil && fault.ClassOf(toFault(c.closing, err, working)) == fault.SchemaDrift {
		c.forgetTables()
	}
	c.idle.Give(s.role, s)
}

// Alive asks the server for an answer.
func (s *session) Alive(ctx context.Context) bool { return s.pg.Ping(ctx) == nil }

// End closes the session without waiting long.
func (s *session) End() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.pg.Close(ctx)
}

func (c *conn) ping(ctx context.Context) error {
	return c.with(ctx, reading, func(ctx context.Context, s *session) error {
		return s.exec(ctx, "SELECT 1")
	})
}

// exec runs statements without parameters and throws their results away.
func (s *session) exec(ctx context.Context, sql string) error {
	return s.pg.Exec(ctx, sql).Close()
}

// query runs one statement with text parameters and returns its rows as text.
func (s *session) query(ctx context.Context, sql string, args ...string) ([][][]byte, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	result := s.pg.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	return result.Rows, result.Err
}
