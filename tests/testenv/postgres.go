package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A PG is a running PostgreSQL server that listens on loopback only, with and
// without TLS.
type PG struct {
	Host     string // 127.0.0.1
	Port     int
	User     string // a superuser
	Password string
	CA       string // PEM of the authority of its certificate (for 127.0.0.1 and localhost)
	Dir      string // everything of it is in here

	server *process
}

var shared struct {
	once sync.Once
	pg   *PG
	err  error
}

// Postgres returns the server that all tests of this binary share, starting it
// at the first call. It promises no durability (fsync is off). Where no server
// can be started it skips the test and says why.
func Postgres(t testing.TB) *PG {
	t.Helper()
	shared.once.Do(func() { shared.pg, shared.err = startShared() })
	if shared.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("start PostgreSQL: %v", shared.err)
		}
		t.Skipf("skipped: needs PostgreSQL: %v", shared.err)
	}
	return shared.pg
}

func startShared() (*PG, error) {
	dir, err := os.MkdirTemp("", "ropeway-pg-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	pg, err := StartPostgres(context.Background(), dir,
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return pg, pg.server.sweepAfterDeath(dir)
}

// StartPostgres makes a new database cluster under dir (or uses the one that
// an earlier call made there) and runs a server on it until Stop, until ctx
// ends or until this process dies. Where dir is out of reach of the user
// postgres, which a server started by root runs as, the cluster is placed in
// the directory for temporary files; PG.Dir says so. Each setting is
// "name=value".
func StartPostgres(ctx context.Context, dir string, settings ...string) (*PG, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if dir, err = account.reachable(dir); err != nil {
		return nil, fmt.Errorf("prepare directory for PostgreSQL: %w", err)
	}
	pg := &PG{Host: "127.0.0.1", User: "postgres", Dir: dir}
	if err := pg.initialise(ctx, bin, account); err != nil {
		return nil, err
	}
	if pg.Port, err = freePort(); err != nil {
		return nil, err
	}
	args := append([]string{"-D", pg.data(), "-h", pg.Host, "-p", strconv.Itoa(pg.Port), "-k", ""},
		prefixed("-c", append(pg.tlsSettings(), settings...))...)
	pg.server, err = startProcess(ctx, account, filepath.Join(dir, "server.log"),
		filepath.Join(bin, "postgres"), args...)
	if err != nil {
		return nil, err
	}
	if err := pg.waitReady(ctx); err != nil {
		pg.Stop()
		return nil, err
	}
	return pg, nil
}

// Stop ends the server at once and waits for it. The directory stays.
func (p *PG) Stop() { p.server.stop() }

// DSN is a connection string for one of the server's databases, for tools and
// for what tests do behind the product's back.
func (p *PG) DSN(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(p.User, p.Password),
		Host: net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Database makes a new, empty database for one test and drops it afterwards.
func (p *PG) Database(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())
	if err := p.Exec(t.Context(), "postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		err := p.Exec(context.Background(), "postgres", "DROP DATABASE "+name+" WITH (FORCE)")
		if err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return name
}

// Exec runs statements in a database as the superuser.
func (p *PG) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.DSN(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, sql)
	return err
}

func (p *PG) data() string { return filepath.Join(p.Dir, "data") }

// initialise makes the cluster, its certificate and the superuser's password.
func (p *PG) initialise(ctx context.Context, bin string, a account) error {
	passwordFile := filepath.Join(p.Dir, "password")
	if b, err := os.ReadFile(passwordFile); err == nil {
		p.Password = string(b)
		return p.readCA()
	}
	p.Password = rand.Text()
	if err := a.writeFile(passwordFile, p.Password); err != nil {
		return err
	}
	if err := p.writeCertificate(a); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", p.data(), "-U", p.User,
		"-A", "scram-sha-256", "--pwfile", passwordFile, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.SysProcAttr = a.attributes()
	cmd.Dir = p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		os.Remove(passwordFile)
		return fmt.Errorf("initdb: %w: %s", err, lastLine(out))
	}
	return nil
}

// waitReady returns when the server answers.
func (p *PG) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.Exec(ctx, "postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-p.server.done:
			return fmt.Errorf("PostgreSQL ended at its start: %s", p.server.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL is not ready after 60 s: %w", err)
		case <-tick.C:
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func prefixed(flag string, values []string) []string {
	out := make([]string, 0, 2*len(values))
	for _, v := range values {
		out = append(out, flag, v)
	}
	return out
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
