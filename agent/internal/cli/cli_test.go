package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ropeway/agent/internal/cli"
	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ropeway-agent": func() { os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Std())) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command ends a second late under -race
			env.Setenv("HUB", "https://"+startHub(t, env.WorkDir))
			env.Setenv("OTHER_HUB", "https://"+startHub(t, filepath.Join(env.WorkDir, "other")))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "mode": mode, "await": await},
	})
}

// exits CODE COMMAND… runs a command and wants its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		status, _ := strings.CutPrefix(err.Error(), "exit status ")
		if got, err = strconv.Atoi(status); err != nil {
			ts.Fatalf("it did not exit: %v", err)
		}
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// await COMMAND… repeats a command until it succeeds.
func await(ts *testscript.TestScript, _ bool, args []string) {
	deadline, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for ts.Exec(args[0], args[1:]...) != nil {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%v did not succeed in time", args)
		}
	}
}

// mode FILE OCTAL wants the rights of a file.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// issuer grants certificates for the token in dir/token, once per key, as a hub does.
type issuer struct {
	authority *ca.Authority
	secret    enroll.Secret
	id        certs.Identity

	mu  sync.Mutex
	won []byte // public key
}

// startHub serves enrollment until the test ends, and writes token files.
func startHub(t *testing.T, dir string) string {
	t.Helper()
	authority, err := ca.Open(filepath.Join(dir, "ca"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.HubCertificates([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{authority: authority, secret: enroll.NewSecret(), id: certs.Identity{
		TrustDomain: authority.TrustDomain(), Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID(),
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { _ = enroll.Serve(ctx, tls.Server(raw, certs.HubEnrollTLS(cert)), i) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		wait.Wait()
	})
	token := enroll.Token{Hub: "https://" + listener.Addr().String(), Pin: authority.Pin(), Secret: i.secret}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

func (i *issuer) Enroll(_ context.Context, a enroll.Application) (enroll.Grant, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := a.CSR.RawSubjectPublicKeyInfo
	switch {
	case a.Secret != i.secret:
		return enroll.Grant{}, fault.Of("E_TOKEN_INVALID").WithCause("unknown")
	case a.Name == "late":
		return enroll.Grant{}, fault.Of("E_TOKEN_EXPIRED").WithCause("its life is over")
	case i.won != nil && !bytes.Equal(i.won, key):
		return enroll.Grant{}, fault.Of("E_TOKEN_USED").WithCause("another key has enrolled with it")
	}
	i.won = key
	chain, err := i.authority.SignAgent(i.id, a.CSR)
	return i.grant(chain), err
}

func (i *issuer) Renew(_ context.Context, r enroll.Renewal) (enroll.Grant, error) {
	chain, err := i.authority.SignAgent(i.id, r.CSR)
	return i.grant(chain), err
}

func (i *issuer) grant(chain []byte) enroll.Grant {
	return enroll.Grant{
		ChainPEM: string(chain), RootPEM: string(i.authority.RootPEM()), Agent: i.id.Agent, AgentName: "press-1",
		Tenant: i.id.Tenant, TenantName: "main", Environment: i.id.Environment, EnvironmentName: "default",
		Group: page.NewID(), GroupName: "plant-7",
	}
}
