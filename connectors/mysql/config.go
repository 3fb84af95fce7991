package mysql

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// A role is what a session is used for. Reads cannot write.
type role int

const (
	reading   role = iota
	streaming      // reading without a limit of time
	writing
)

// maxStatement bounds one statement; the server's limit is usually lower.
const maxStatement = 64 << 20

// buildConfig makes a driver configuration of allow-listed fields only. There
// is no text of settings in between, and nothing of the driver's that is shared
// by the process: no registered dialers, TLS configurations or files.
func (c *conn) buildConfig(secret map[string]string, encrypted bool) *mysql.Config {
	config := mysql.NewConfig()
	config.User, config.Passwd = secret["username"], secret["password"]
	config.DBName = c.settings.String("database")
	config.Addr = c.address
	config.Net = "tcp"
	if encrypted {
		// The driver does not know of the TLS below it. Over a socket of this
		// name, which is never opened, it also sends a password in clear where
		// the server's way of authentication wants it so inside TLS.
		config.Net = "unix"
	}
	config.ConnectionAttributes = "program_name:ropeway"
	config.MaxAllowedPacket = maxStatement
	config.ClientFoundRows = true // an update counts the rows that it finds
	config.Logger = &mysql.NopLogger{}
	config.CheckConnLiveness = false
	config.MultiStatements, config.InterpolateParams = false, false
	config.AllowAllFiles, config.AllowCleartextPasswords, config.AllowOldPasswords = false, false, false
	config.AllowFallbackToPlaintext = false
	return config
}

// endpoint is the address and the TLS configuration of the settings.
func endpoint(s connectors.Settings) (address string, t *tls.Config, err error) {
	if address, err = sqldb.Endpoint(s); err != nil {
		return "", nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, fault.Of("E_SETTINGS").WithField("host").WithCause(err)
	}
	t, err = sqldb.TLS(s, host)
	return address, t, err
}

// importMode makes the server refuse what it would change otherwise. Dates that
// no calendar knows are allowed: values of other kinds cannot be such dates.
const importMode = "STRICT_ALL_TABLES,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO," +
	"NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"

// prepare sets a new session up: text in UTF-8, times in UTC.
func (s *session) prepare(ctx context.Context, settings connectors.Settings) error {
	set := []string{"NAMES utf8mb4", "time_zone = '+00:00'", "autocommit = 1",
		// How long the server waits for us: while a page waits for room in the
		// buffer, and when this process is gone without a word.
		"net_write_timeout = 1800", "net_read_timeout = 600", "wait_timeout = 1800"}
	access := "SET SESSION TRANSACTION READ ONLY"
	if s.role == writing {
		set = append(set, "sql_mode = '"+importMode+"'", "foreign_key_checks = 1", "unique_checks = 1")
		access = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
	} else {
		set = append(set, "max_sort_length = "+strconv.Itoa(maxSort))
	}
	if limit := settings.Duration("statementTimeout"); s.role != streaming {
		if s.wire.mariaDB() {
			set = append(set, "max_statement_time = "+strconv.FormatFloat(limit.Seconds(), 'f', 3, 64))
		} else {
			set = append(set, "max_execution_time = "+strconv.FormatInt(limit.Milliseconds(), 10))
		}
	}
	if err := s.exec(ctx, "SET "+strings.Join(set, ", ")); err != nil {
		return err
	}
	if s.role == writing {
		statements, err := s.learnLimits(ctx)
		if err != nil || statements {
			return err
		}
	}
	return s.exec(ctx, access)
}

// learnLimits asks how long a statement may be, and whether the server logs
// statements: InnoDB then allows no isolation below that of the default.
func (s *session) learnLimits(ctx context.Context) (logsStatements bool, err error) {
	rows, err := s.query(ctx, "SHOW SESSION VARIABLES WHERE Variable_name IN "+
		"('max_allowed_packet', 'log_bin', 'binlog_format')")
	if err != nil {
		return false, err
	}
	variables := map[string]string{}
	for _, row := range rows {
		if len(row) == 2 {
			variables[row[0]] = row[1]
		}
	}
	s.maxPacket, err = strconv.Atoi(variables["max_allowed_packet"])
	if err != nil || s.maxPacket < 1024 {
		return false, badWire("limit")
	}
	s.maxPacket = min(s.maxPacket, maxStatement) - 512
	return variables["log_bin"] == "ON" && variables["binlog_format"] == "STATEMENT", nil
}
