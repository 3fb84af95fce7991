package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"ropeway/tests/rig"
	"ropeway/tests/testenv"
)

var bins rig.Bins

func TestMain(m *testing.M) {
	// Everything these programs make must be private by their own doing.
	syscall.Umask(0)
	os.Exit(rig.Main(m, &bins))
}

// site is one hub, one agent and a PostgreSQL on each end.
type site struct {
	*rig.Site
	t      *testing.T
	pg     *testenv.PG
	names  [2]string
	source *sql.DB
	heard  strings.Builder // what every command said
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, pg: testenv.Postgres(t)}
	s.names = [2]string{s.pg.Database(t), s.pg.Database(t)}
	db, err := sql.Open("pgx", s.pg.DSN(s.names[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s.source = db
	if s.Site, err = rig.NewSite(bins, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	s.Env = []string{"ROPEWAY_HUB_LOG=debug", "ROPEWAY_AGENT_LOG=debug"}
	t.Cleanup(s.Site.Close)
	return s
}

func (s *site) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%v\nhub:\n%s\nagent:\n%s", err, rig.Tail(s.Path("hub.log"), 10), rig.Tail(s.Path("agent.log"), 10))
	}
}

// run runs `ropeway`; fails says whether it must fail. What it says is kept.
func (s *site) run(fails bool, stdin string, args ...string) string {
	s.t.Helper()
	out, err := s.Client(s.context(), stdin, args...)
	return s.said(fails, out, err)
}

// agent runs `ropeway-agent` on the state folder.
func (s *site) agent(fails bool, stdin string, args ...string) string {
	s.t.Helper()
	out, err := s.AgentCommand(s.context(), stdin, args...)
	return s.said(fails, out, err)
}

func (s *site) said(fails bool, out string, err error) string {
	s.t.Helper()
	s.heard.WriteString(out)
	var failed *rig.Failed
	if errors.As(err, &failed) {
		s.heard.WriteString(failed.Command + "\n" + failed.Stderr)
	}
	if (err != nil) != fails {
		s.t.Fatalf("%v\nhub:\n%s\nagent:\n%s", err, rig.Tail(s.Path("hub.log"), 10), rig.Tail(s.Path("agent.log"), 10))
	}
	return out
}

func (s *site) sql(query string) {
	s.t.Helper()
	if _, err := s.source.Exec(query); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

func (s *site) connection(name, credential, group string, database int) string {
	if group != "" {
		group = "\nagentGroup: " + group
	}
	return fmt.Sprintf("---\nkind: Connection\nname: %s\nconnector: postgres\ncredential: %s%s\nsettings: {host: %s, port: %d, database: %s, tls: disable}\n",
		name, credential, group, s.pg.Host, s.pg.Port, s.names[database])
}

func (s *site) policy() string {
	return fmt.Sprintf("rules:\n  - {connector: postgres, target: \"%s:%d\", allow: [export, import]}\n", s.pg.Host, s.pg.Port)
}

// roots are the authority of the site's hub.
func (s *site) roots() *x509.CertPool {
	s.t.Helper()
	root, err := os.ReadFile(filepath.Join(s.Data, "ca.pem"))
	s.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return roots
}

func (s *site) client() *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots()}, ForceAttemptHTTP2: true}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func (s *site) token() string {
	text, err := os.ReadFile(filepath.Join(s.Data, "admin.token"))
	s.must(err)
	return strings.TrimSpace(string(text))
}

// eventually waits until ok says so.
func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s did not come about\nhub:\n%s\nagent:\n%s", what, rig.Tail(s.Path("hub.log"), 15), rig.Tail(s.Path("agent.log"), 15))
		}
		time.Sleep(50 * time.Millisecond) // another process has no signal for this
	}
}
