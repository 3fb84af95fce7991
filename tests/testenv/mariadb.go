package testenv

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A MariaDB is a running MariaDB server that listens on loopback only, with
// and without TLS.
type MariaDB struct {
	Host     string // 127.0.0.1
	Port     int
	User     string // may do everything
	Password string
	CA       string // PEM of the authority of its certificate (for 127.0.0.1 and localhost)
	Dir      string // everything of it is in here

	server *process
}

var sharedMaria struct {
	once sync.Once
	db   *MariaDB
	err  error
}

// Maria returns the server that all tests of this binary share, starting it at
// the first call. It promises no durability. Where no server can be started it
// skips the test and says why.
func Maria(t testing.TB) *MariaDB {
	t.Helper()
	sharedMaria.once.Do(func() { sharedMaria.db, sharedMaria.err = startSharedMaria() })
	if sharedMaria.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("start MariaDB: %v", sharedMaria.err)
		}
		t.Skipf("skipped: needs MariaDB: %v", sharedMaria.err)
	}
	return sharedMaria.db
}

func startSharedMaria() (*MariaDB, error) {
	dir, err := os.MkdirTemp("", "ropeway-maria-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	m, err := StartMariaDB(context.Background(), dir,
		"innodb-flush-log-at-trx-commit=0", "innodb-doublewrite=0", "innodb-flush-method=nosync")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return m, m.server.sweepAfterDeath(dir)
}

// StartMariaDB makes a data directory under dir/mariadb (or uses the one that an
// earlier call made there) and runs a server on it until Stop, until ctx ends
// or until this process dies. Where dir is out of reach of the user mysql,
// which a server started by root runs as, the data is placed in the directory
// for temporary files; MariaDB.Dir says so. Each setting is "name=value".
func StartMariaDB(ctx context.Context, dir string, settings ...string) (*MariaDB, error) {
	server, err := mariaServer()
	if err != nil {
		return nil, err
	}
	account, err := accountOf("mysql")
	if err != nil {
		return nil, err
	}
	if dir, err = account.reachable(filepath.Join(dir, "mariadb")); err != nil {
		return nil, fmt.Errorf("prepare directory for MariaDB: %w", err)
	}
	m := &MariaDB{Host: "127.0.0.1", User: "ropeway_admin", Dir: dir}
	if err := m.initialise(ctx, account); err != nil {
		return nil, err
	}
	if m.Port, err = freePort(); err != nil {
		return nil, err
	}
	args := []string{"--no-defaults", "--datadir=" + m.file("data"), "--tmpdir=" + m.file("data"),
		"--bind-address=" + m.Host, "--port=" + strconv.Itoa(m.Port), "--socket=" + m.file("data/sock"),
		"--pid-file=" + m.file("data/pid"), "--skip-name-resolve", "--init-file=" + m.file("init.sql"),
		"--ssl-cert=" + m.file("server.pem"), "--ssl-key=" + m.file("server.key"), "--ssl-ca=" + m.file("ca.pem"),
		"--character-set-server=utf8mb4", "--max-connections=300"}
	for _, s := range settings {
		args = append(args, "--"+s)
	}
	m.server, err = startProcess(ctx, account, m.file("server.log"), server, args...)
	if err != nil {
		return nil, err
	}
	if err := m.waitReady(ctx); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

// Stop ends the server and waits for it. The directory stays.
func (m *MariaDB) Stop() { m.server.stop() }

// Open returns a handle of one of the server's databases ("" = none), for what
// tests do behind the product's back. One call may hold several statements.
func (m *MariaDB) Open(database string) (*sql.DB, error) {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	config.User, config.Passwd, config.DBName = m.User, m.Password, database
	config.MultiStatements = true
	config.Logger = &mysql.NopLogger{}
	config.Params = map[string]string{"time_zone": "'+00:00'"}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Database makes a new, empty database for one test and drops it afterwards.
func (m *MariaDB) Database(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())
	if err := m.Exec(t.Context(), "", "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Exec(context.Background(), "", "DROP DATABASE "+name); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return name
}

// Exec runs statements in a database.
func (m *MariaDB) Exec(ctx context.Context, database, text string) error {
	db, err := m.Open(database)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, text)
	return err
}

func (m *MariaDB) file(name string) string { return filepath.Join(m.Dir, name) }

// initialise makes the data directory, the certificate and the script that
// sets up the administrator at every start.
func (m *MariaDB) initialise(ctx context.Context, a account) error {
	if b, err := os.ReadFile(m.file("password")); err == nil {
		m.Password = string(b)
		ca, err := os.ReadFile(m.file("ca.pem"))
		m.CA = string(ca)
		return err
	}
	m.Password = rand.Text()
	c, err := newCertificate()
	if err != nil {
		return err
	}
	m.CA = c.ca
	admin := "'" + m.User + "'@'%'"
	err = errors.Join(
		a.writeFile(m.file("ca.pem"), c.ca),
		a.writeFile(m.file("server.pem"), c.leaf),
		a.writeFile(m.file("server.key"), c.key),
		a.writeFile(m.file("init.sql"), "CREATE USER IF NOT EXISTS "+admin+" IDENTIFIED BY '"+m.Password+"';\n"+
			"GRANT ALL PRIVILEGES ON *.* TO "+admin+" WITH GRANT OPTION;\n"+
			"DELETE FROM mysql.global_priv WHERE User IN ('', 'root');\nFLUSH PRIVILEGES;\n"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+m.file("data"),
		"--auth-root-authentication-method=normal", "--skip-test-db")
	cmd.SysProcAttr = a.attributes()
	cmd.Dir = m.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w: %s", err, lastLine(out))
	}
	return a.writeFile(m.file("password"), m.Password)
}

// waitReady returns when the server answers.
func (m *MariaDB) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := m.Exec(ctx, "", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-m.server.done:
			return fmt.Errorf("MariaDB ended at its start: %s", m.server.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("MariaDB is not ready after 60 s: %w", err)
		case <-tick.C:
		}
	}
}

// mariaServer finds the server. It installs the package when it may: as root,
// with CI=true or RW_INSTALL=1.
func mariaServer() (string, error) {
	if path := findMariaDB(); path != "" {
		return path, nil
	}
	if os.Getenv("CI") != "true" && os.Getenv("RW_INSTALL") != "1" {
		return "", errors.New("no MariaDB server is installed (RW_INSTALL=1 as root installs it)")
	}
	if err := installPackage("mariadb-server"); err != nil {
		return "", err
	}
	if path := findMariaDB(); path != "" {
		return path, nil
	}
	return "", errors.New("the package mariadb-server brought no server")
}

func findMariaDB() string {
	if _, err := exec.LookPath("mariadb-install-db"); err != nil {
		return ""
	}
	for _, path := range []string{"/usr/sbin/mariadbd", "/usr/libexec/mariadbd"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("mariadbd")
	if err != nil {
		return ""
	}
	return path
}
