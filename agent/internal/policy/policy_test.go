package policy_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ropeway/agent/internal/policy"
	"ropeway/protocol/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sample = `
rules:
  - name: erp read-only
    connector: postgres
    target: erp.plant.local:5432
    allow: [export, lookup]
    tables: {orders: "*", customers: [id, name]}
  - name: dba access to erp
    route: erp.plant.local:5432
  - {connector: postgres, target: dw.plant.local:5432, allow: [import], inbox: false}
  - {connector: sqlite, target: /data/shop.db, allow: [export]}
remote: {status: allow, logs: deny}
`

type site struct {
	*policy.Guard
	file string
	now  time.Time
}

func open(t *testing.T, text string, own ...netip.AddrPort) *site {
	t.Helper()
	s := &site{file: filepath.Join(t.TempDir(), "policy.yaml"), now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	s.write(t, text)
	g, err := policy.Open(policy.Config{
		File: s.file, StateDir: t.TempDir(),
		Clock: func() time.Time { return s.now },
		Own:   func() []netip.AddrPort { return own },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Guard = g
	return s
}

func (s *site) write(t *testing.T, text string) {
	t.Helper()
	if text == "" {
		_ = os.Remove(s.file)
		return
	}
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func export(table string, columns ...string) policy.Request {
	return policy.Request{Connector: "postgres", Target: "erp.plant.local:5432", Verb: policy.Export,
		Schema: "public", Table: table, Columns: columns}
}

func TestCheck(t *testing.T) {
	free := export("")
	free.SQL = "SELECT * FROM orders"
	upper := export("orders")
	upper.Target = "ERP.plant.local:5432"
	port := export("orders")
	port.Target = "erp.plant.local:5433"
	write := export("orders")
	write.Verb = policy.Import
	ping := policy.Request{Connector: "postgres", Target: "erp.plant.local:5432", Verb: policy.Ping}
	mysql := export("orders")
	mysql.Connector = "mysql"
	for name, c := range map[string]struct {
		request policy.Request
		denied  string // a part of the cause; "" = allowed
	}{
		"every column":           {export("orders"), ""},
		"qualified table":        {export("public.orders"), ""},
		"other schema":           {export("audit.orders"), "does not name table"},
		"listed columns":         {export("customers", "id", "name"), ""},
		"unlisted column":        {export("customers", "id", "iban"), `column "iban"`},
		"all of a limited table": {export("customers"), "every column"},
		"unknown table":          {export("salaries"), "does not name table salaries"},
		"free statement":         {free, "approval"},
		"host without case":      {upper, ""},
		"other port":             {port, "no rule names"},
		"other verb":             {write, "does not allow import"},
		"ping goes with any":     {ping, ""},
		"other connector":        {mysql, "no rule names"},
		"route":                  {policy.Request{Route: "erp.plant.local:5432"}, ""},
		"other route":            {policy.Request{Route: "erp.plant.local:22"}, "no rule names"},
		"target is no route":     {policy.Request{Route: "dw.plant.local:5432"}, "no rule names"},
		"import any table":       {policy.Request{Connector: "postgres", Target: "dw.plant.local:5432", Verb: policy.Import, Table: "x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := open(t, sample).Check(c.request)
			if c.denied == "" {
				if err != nil {
					t.Fatalf("denied: %v", err)
				}
				return
			}
			f := fault.From(err)
			if f == nil || f.Code != "E_POLICY_DENIED" || f.Class != fault.Policy {
				t.Fatalf("got %v, want E_POLICY_DENIED of class policy", err)
			}
			if !strings.Contains(f.Cause, c.denied) {
				t.Errorf("cause %q does not say %q", f.Cause, c.denied)
			}
		})
	}
}

// TestTheSuggestedRuleAllows takes the rule out of each refusal, adds it to the
// file and asks again.
func TestTheSuggestedRuleAllows(t *testing.T) {
	for i, r := range []policy.Request{
		export("salaries"), export("customers", "id", "iban"), export(`we"ird, {table}`, "a: b", "c'd"),
		{Connector: "sqlite", Target: "/data/[x]: y.db", Verb: policy.Import, Table: "t"},
		{Route: "[fe80::1]:22"},
		{Connector: "postgres", Target: "[::1]:5432", Verb: policy.Ping},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := open(t, sample)
			f := fault.From(s.Check(r))
			if f == nil {
				t.Fatal("allowed without a rule")
			}
			rule := policy.Suggest(r)
			if !strings.Contains(f.Fix, rule) {
				t.Fatalf("fix %q does not show the rule %s", f.Fix, rule)
			}
			s.write(t, strings.Replace(sample, "rules:\n", "rules:\n  "+rule+"\n", 1))
			s.Reload()
			if err := s.Check(r); err != nil {
				t.Fatalf("with the suggested rule %s: %v", rule, err)
			}
		})
	}
}

func TestDeniedWithoutAFileAndSaysSo(t *testing.T) {
	s := open(t, "")
	f := fault.From(s.Check(export("orders")))
	if f == nil || !strings.Contains(f.Cause, "missing") || s.Status().State != policy.NoFile {
		t.Fatalf("got %v in state %s", f, s.Status().State)
	}
}

func TestABrokenFileDeniesEverything(t *testing.T) {
	s := open(t, sample)
	if err := s.Check(export("orders")); err != nil {
		t.Fatal(err)
	}
	s.write(t, sample+"typo: 1\n")
	s.Reload()
	f := fault.From(s.Check(export("orders")))
	if f == nil || !strings.Contains(f.Cause, "broken") || !strings.Contains(f.Cause, `unknown key "typo"`) {
		t.Fatalf("got %v", f)
	}
	if s.Status().State != policy.Broken || s.Status().Error == "" {
		t.Fatalf("status %+v does not say so", s.Status())
	}
	s.write(t, sample)
	s.Reload()
	if err := s.Check(export("orders")); err != nil {
		t.Fatalf("after the correction: %v", err)
	}
}

func TestReloadedOnChange(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	synctest.Test(t, func(t *testing.T) {
		g, err := policy.Open(policy.Config{File: file, StateDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		if g.Check(export("orders")) == nil {
			t.Fatal("allowed without a file")
		}
		if err := os.WriteFile(file, []byte(sample), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // of the bubble's clock
		synctest.Wait()
		if err := g.Check(export("orders")); err != nil {
			t.Fatalf("one second after the change: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestRemoteIsDeniedUnlessWritten(t *testing.T) {
	s := open(t, sample)
	for name, want := range map[string]bool{"status": true, "logs": false, "upgrade": false, "nonsense": false} {
		if s.Remote(name) != want {
			t.Errorf("remote %s = %v, want %v", name, !want, want)
		}
	}
}

func TestInboxGoesWithImportUnlessWritten(t *testing.T) {
	s := open(t, sample)
	d, err := s.Decide(policy.Request{Connector: "postgres", Target: "dw.plant.local:5432", Verb: policy.Import, Table: "t"})
	if err != nil || d.Inbox {
		t.Fatalf("inbox: false is not obeyed: %+v, %v", d, err)
	}
}

func TestRowsPerDayAndWindow(t *testing.T) {
	s := open(t, `rules:
  - {name: night, connector: postgres, target: "erp.plant.local:5432", allow: [export],
     limits: {rowsPerDay: 100, window: "22:00-05:00 Europe/Berlin"}}`)
	if f := fault.From(s.Check(export("orders"))); f == nil || f.RetryAfter != 8*time.Hour {
		t.Fatalf("outside the window: %v, want a refusal until 22:00 in Berlin", f)
	}
	s.now = time.Date(2026, 7, 1, 20, 0, 0, 0, time.UTC) // 22:00 there
	if err := s.Check(export("orders")); err != nil {
		t.Fatal(err)
	}
	if err := s.Count(export("orders"), 90); err != nil {
		t.Fatal(err)
	}
	if f := fault.From(s.Count(export("orders"), 11)); f == nil || f.RetryAfter != 2*time.Hour {
		t.Fatalf("row 101: %v, want a refusal until midnight", f)
	}
	if err := s.Count(export("orders"), 10); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(export("orders")); err == nil {
		t.Fatal("allowed with no rows left")
	}
	s.now = s.now.Add(3 * time.Hour) // the next day in Berlin
	if err := s.Count(export("orders"), 100); err != nil {
		t.Fatal(err)
	}
}

func TestApprovedStatements(t *testing.T) {
	s := open(t, sample)
	r := export("")
	r.SQL = "SELECT 1"
	f := fault.From(s.Check(r))
	hash := policy.StatementHash(r)
	if f == nil || !strings.Contains(f.Fix, "policy approve "+hash) {
		t.Fatalf("the refusal does not show the command: %v", f)
	}
	if w := s.Waiting(); len(w) != 1 || w[0].SQL != r.SQL {
		t.Fatalf("waiting: %v", w)
	}
	if _, err := s.Approve("nothing"); fault.CodeOf(err) != "E_NOT_FOUND" {
		t.Fatalf("unknown hash: %v", err)
	}
	if _, err := s.Approve(hash); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(r); err != nil {
		t.Fatalf("after the approval: %v", err)
	}
	r.SQL = "SELECT 1 "
	if s.Check(r) == nil {
		t.Fatal("another statement passed with the approval")
	}
	r.SQL, r.Target = "SELECT 1", "dw.plant.local:5432"
	if s.Check(r) == nil {
		t.Fatal("another target passed with the approval")
	}
	if a := s.Approved(); len(a) != 1 || a[0].Hash != hash {
		t.Fatalf("approved: %v", a)
	}
}

func TestSuspend(t *testing.T) {
	s := open(t, sample)
	if err := s.Suspend(); err != nil {
		t.Fatal(err)
	}
	if s.Check(export("orders")) == nil || s.Status().State != policy.Suspended || s.Remote("status") {
		t.Fatal("a suspended policy allows")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(export("orders")); err != nil {
		t.Fatal(err)
	}
}

// trap is a listener that no rule allows to reach.
func trap(t *testing.T) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var hits atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hits.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return netip.MustParseAddrPort(l.Addr().String()), &hits
}

// TestPromise_S1_NothingOutsideThePolicyIsDialled asks for over 500 hostile
// targets beside one allowed target and counts who was reached.
func TestPromise_S1_NothingOutsideThePolicyIsDialled(t *testing.T) {
	trapped, hits := trap(t)
	allowed, _ := trap(t)
	s := open(t, fmt.Sprintf(`rules:
  - {connector: postgres, target: "localhost:%d", allow: [export]}
  - {connector: postgres, target: "%s", allow: [export]}`, trapped.Port()+1, allowed), trapped)
	hosts := []string{"127.0.0.1", "127.0.0.2", "127.1", "0x7f000001", "0177.0.0.1", "2130706433", "0", "0.0.0.0",
		"localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "[fd00:ec2::254]", "[fe80::1%25lo]", "100.100.100.200",
		"metadata.google.internal", "127.0.0.1#", "127.0.0.1%00", "user@127.0.0.1", "127.0.0.1\n", " 127.0.0.1", "127。0。0。1"}
	tried := 0
	for _, host := range hosts {
		for _, suffix := range []string{"", "/", "?", "#x", " ", "\x00"} {
			for _, network := range []string{"tcp", "tcp4", "tcp6"} {
				address := fmt.Sprintf("%s:%d%s", host, trapped.Port(), suffix)
				for _, target := range []string{address, allowed.String()} {
					r := policy.Request{Connector: "postgres", Target: target, Verb: policy.Export}
					conn, err := s.Dial(t.Context(), r, network, address)
					if err == nil {
						_ = conn.Close()
						t.Errorf("%s %q was dialled", network, address)
					}
					tried++
				}
			}
		}
	}
	if tried < 500 || hits.Load() != 0 {
		t.Fatalf("%d targets tried, %d reached the agent's own listener", tried, hits.Load())
	}
}

// TestPromise_S1_RebindingToTheAgentItself allows a name that resolves to where
// the agent listens; only the address itself, written in the policy, may go there.
func TestPromise_S1_RebindingToTheAgentItself(t *testing.T) {
	own, hits := trap(t)
	name := fmt.Sprintf("ip6-localhost:%d", own.Port())
	if _, err := net.LookupHost("ip6-localhost"); err != nil {
		name = fmt.Sprintf("127.1:%d", own.Port())
	}
	s := open(t, fmt.Sprintf(`rules: [{connector: postgres, target: "%s", allow: [export]}]`, name),
		netip.AddrPortFrom(netip.IPv4Unspecified(), own.Port()))
	r := policy.Request{Connector: "postgres", Target: name, Verb: policy.Export}
	if conn, err := s.Dial(t.Context(), r, "tcp", name); err == nil {
		_ = conn.Close()
		t.Fatal("dialled the agent's own port through a name")
	}
	s.write(t, fmt.Sprintf(`rules: [{connector: postgres, target: "%s", allow: [export]}]`, own))
	s.Reload()
	r.Target = own.String()
	conn, err := s.Dial(t.Context(), r, "tcp", own.String())
	if err != nil {
		t.Fatalf("written literally: %v", err)
	}
	_ = conn.Close()
	if hits.Load() > 1 {
		t.Fatal("reached more than once")
	}
}

func TestPathGuard(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.db")
	link := filepath.Join(dir, "open", "link.db")
	if err := os.Mkdir(filepath.Join(dir, "open"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{secret, filepath.Join(dir, "open", "a.db")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	s := open(t, fmt.Sprintf(`rules: [{connector: sqlite, target: "%s/open/", allow: [export]}, {connector: sqlite, target: /dev/null, allow: [export]}]`, dir))
	for p, want := range map[string]bool{
		dir + "/open/a.db":            true,
		dir + "/open/new.db":          true,
		dir + "/secret.db":            false,
		link:                          false,
		dir + "/open/../secret.db":    false,
		dir + "/open/./../secret.db":  false,
		"open/a.db":                   false,
		dir + "/open/a.db\x00":        false,
		dir + "/open/nowhere/deep.db": false,
		"/dev/null":                   false,
		"":                            false,
	} {
		r := policy.Request{Connector: "sqlite", Target: p, Verb: policy.Export}
		if _, err := s.Path(r)(p); (err == nil) != want {
			t.Errorf("%q: allowed %v, want %v (%v)", p, err == nil, want, err)
		}
	}
}

func TestTheAgentsStateIsNoTarget(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`rules: [{connector: sqlite, target: "%s/buffer.db", allow: [export]}]`, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := policy.Open(policy.Config{File: file, StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "buffer.db")
	if _, err := g.Path(policy.Request{Connector: "sqlite", Target: p, Verb: policy.Export})(p); err == nil {
		t.Fatal("a connection reached the agent's own buffer")
	}
}

// A policy that every user of the machine may write is nobody's word: it allows
// nothing until its rights are corrected.
func TestSecurity_S1_APolicyThatAnybodyMayWriteDeniesEverything(t *testing.T) {
	s := open(t, sample)
	for mode, want := range map[os.FileMode]policy.State{
		0o644: policy.Loaded, 0o664: policy.Loaded, 0o666: policy.Broken, 0o602: policy.Broken,
	} {
		if err := os.Chmod(s.file, mode); err != nil {
			t.Fatal(err)
		}
		s.Reload()
		if got := s.Status(); got.State != want || (mode == 0o664) != (got.Warning != "") {
			t.Errorf("mode %o: %+v, want %s", mode, got, want)
		}
		if err := s.Check(export("orders")); (err == nil) != (want == policy.Loaded) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}
