package postgres

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// maxMessage bounds one message of the server: a row larger than that could
// not become a record.
const maxMessage = 16 << 20

// A role is what a session is used for. Reads cannot write.
type role int

const (
	reading   role = iota
	streaming      // reading without a limit of time
	writing
	roles
)

// buildConfig makes a driver configuration of allow-listed fields only. The
// driver insists on parsing a connection string, which also reads PG*
// variables, ~/.pgpass and service files: it gets a constant one that pins
// whatever those could break, and every field is overwritten afterwards.
func buildConfig(env connectors.Env, s connectors.Settings, r role) (*pgconn.Config, error) {
	address, err := sqldb.Endpoint(s)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault.Of("E_SETTINGS").WithField("host").WithCause(err)
	}
	tlsConfig, err := sqldb.TLS(s, host)
	if err != nil {
		return nil, err
	}
	config, err := emptyConfig()
	if err != nil {
		return nil, err
	}
	config.Host, config.Port = host, uint16(s.Int("port"))
	config.Database = s.String("database")
	config.TLSConfig = tlsConfig
	config.ConnectTimeout = s.Duration("connectTimeout")
	config.RuntimeParams = runtimeParams(s, r)
	config.MaxProtocolMessageBodyLen = maxMessage
	// The address is always dialled as written, also for cancel requests, and
	// its name resolved inside Dial, where the policy stands.
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return env.Dial(ctx, "tcp", address)
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBuffer), w)
	}
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelPatience}
	}
	return config, nil
}

const (
	readBuffer = 64 << 10
	// cancelPatience is how long a cancelled statement may take to end before
	// its connection is cut.
	cancelPatience = 2 * time.Second
)

const pinned = "host=localhost port=5432 user=ropeway password=none database=ropeway " +
	"sslmode=disable sslcertmode=disable sslnegotiation=postgres target_session_attrs=any " +
	"min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer connect_timeout=10 " +
	"sslrootcert='' sslcert='' sslkey='' sslpassword='' sslsni=1 require_auth='' passfile='' "

// emptyConfig is a configuration without anything from outside.
func emptyConfig() (*pgconn.Config, error) {
	text := pinned
	if os.Getenv("PGSERVICE") != "" { // it must then exist: give it an empty one
		dir, err := os.MkdirTemp("", "ropeway-service-")
		if err != nil {
			return nil, fmt.Errorf("make an empty service file: %w", err)
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "service.conf")
		if err := os.WriteFile(file, []byte("[none]\n"), 0o600); err != nil {
			return nil, fmt.Errorf("make an empty service file: %w", err)
		}
		text += "service=none servicefile='" + file + "'"
	}
	config, err := pgconn.ParseConfig(text)
	if err != nil {
		return nil, fault.Of("E_INTERNAL").WithSource(name).
			WithCause("the driver refuses an empty configuration")
	}
	config.Fallbacks = nil
	config.User, config.Password = "", ""
	config.KerberosSrvName, config.KerberosSpn = "", ""
	config.RequireAuth = ""
	config.ValidateConnect, config.AfterConnect, config.AfterNetConnect = nil, nil, nil
	config.OnNotice, config.OnNotification = nil, nil
	return config, nil
}

func runtimeParams(s connectors.Settings, r role) map[string]string {
	schema := s.String("schema")
	path := sqldb.Quote(schema)
	if schema != "public" {
		path += ", public" // where extensions usually are
	}
	params := map[string]string{
		"application_name":                    "ropeway",
		"client_encoding":                     "UTF8",
		"datestyle":                           "ISO, YMD",
		"intervalstyle":                       "postgres",
		"timezone":                            "UTC",
		"extra_float_digits":                  "3",
		"bytea_output":                        "hex",
		"standard_conforming_strings":         "on",
		"search_path":                         path,
		"statement_timeout":                   strconv.FormatInt(s.Duration("statementTimeout").Milliseconds(), 10),
		"idle_in_transaction_session_timeout": "600000",
	}
	if r != writing {
		params["default_transaction_read_only"] = "on"
	}
	if r == streaming {
		params["statement_timeout"] = "0"
	}
	return params
}
