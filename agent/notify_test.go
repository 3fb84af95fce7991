package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ropeway/agent/internal/identity"
	"ropeway/agent/internal/localapi"
	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
)

// serviceManager listens where a service manager would, and hands on what it is told.
func serviceManager(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 1000)
	go func() {
		defer close(told)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	return told
}

// hear waits until the manager is told something that holds every word.
func hear(t *testing.T, told <-chan string, words ...string) {
	t.Helper()
	limit := time.After(10 * time.Second)
next:
	for {
		select {
		case text := <-told:
			for _, w := range words {
				if !strings.Contains(text, w) {
					continue next
				}
			}
			return
		case <-limit:
			t.Fatalf("the service manager was not told %q", words)
		}
	}
}

func handed(token enroll.Token, found bool, err error) *Service {
	return &Service{
		Token:    func() (enroll.Token, bool, error) { return token, found, err },
		TokenFix: "put a token there",
	}
}

// TestServiceWaitsForEnrollment: it tells the manager, the log and the local API why,
// and a drain ends it without an error.
func TestServiceWaitsForEnrollment(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	unreachable := enroll.Token{Hub: "https://" + closed.Addr().String(), Pin: strings.Repeat("ab", 32)}
	for name, test := range map[string]struct {
		service *Service
		code    string
		says    []string
	}{
		"no token":    {handed(enroll.Token{}, false, nil), "E_NOT_ENROLLED", []string{"READY=1", "no identity yet", "put a token there"}},
		"broken":      {handed(enroll.Token{}, true, fault.Of("E_TOKEN_INVALID")), "E_TOKEN_INVALID", []string{"READY=1", "refused", "put a token there"}},
		"unreachable": {handed(unreachable, true, nil), "E_UNREACHABLE", []string{"READY=1", "cannot be reached"}},
	} {
		t.Run(name, func(t *testing.T) {
			told := serviceManager(t)
			c := DefaultConfig("")
			c.State = filepath.Join(t.TempDir(), "state")
			drain, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				ended <- Run(t.Context(), c, Process{Log: slog.New(slog.DiscardHandler), Drain: drain, Service: test.service})
			}()
			hear(t, told, test.says...)
			client := localapi.Connect(c.SocketPath())
			defer client.Close()
			s, err := client.Status(t.Context())
			for end := time.Now().Add(5 * time.Second); fault.CodeOf(err) == "E_AGENT_DOWN" && time.Now().Before(end); {
				<-time.After(10 * time.Millisecond) // the manager is told a moment before the API listens
				s, err = client.Status(t.Context())
			}
			if err != nil || s.State != "pending" || s.Cause == nil || s.Cause.Code != test.code {
				t.Errorf("status %+v, cause %+v, %v", s, s.Cause, err)
			}
			close(drain)
			if err := <-ended; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// TestServiceWithoutState ends: waiting would not make the directory usable.
func TestServiceWithoutState(t *testing.T) {
	c := DefaultConfig("")
	c.State = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(c.State, 0o755); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), c, Process{Log: slog.New(slog.DiscardHandler), Service: handed(enroll.Token{}, false, nil)})
	if fault.CodeOf(err) != "E_STATE" {
		t.Errorf("Run over an open directory = %v", err)
	}
}

// TestNoServiceNoWait: somebody who starts it by hand is told at once.
func TestNoServiceNoWait(t *testing.T) {
	c := DefaultConfig("")
	c.State = t.TempDir()
	if err := os.Chmod(c.State, 0o700); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), c, Process{Log: slog.New(slog.DiscardHandler)})
	if fault.CodeOf(err) != "E_NOT_ENROLLED" {
		t.Errorf("Run = %v", err)
	}
}

// TestWatchdog: answers stop while a part is stuck, and only then.
func TestWatchdog(t *testing.T) {
	told := serviceManager(t)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := &manager{log: slog.New(slog.DiscardHandler)}
	end := m.watch(t.Context())
	hear(t, told, "WATCHDOG=1")
	asked, stuck := make(chan struct{}, 100), make(chan struct{})
	m.ask(func() { asked <- struct{}{}; <-stuck })
	<-asked // from here on it waits inside
	for len(told) > 0 {
		<-told
	}
	select {
	case text := <-told:
		t.Errorf("told %q while a part was stuck", text)
	case <-time.After(150 * time.Millisecond):
	}
	close(stuck)
	hear(t, told, "WATCHDOG=1")
	m.forget()
	end()
}

func TestReloadIsFramed(t *testing.T) {
	told := serviceManager(t)
	m := &manager{log: slog.New(slog.DiscardHandler)}
	m.reload(func() { m.status("two\nREADY=1") })
	for _, want := range []string{"RELOADING=1", "STATUS=two READY=1", "READY=1"} {
		if got := <-told; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

// TestEnrolledByHand: a waiting service notices what somebody else has done.
func TestEnrolledByHand(t *testing.T) {
	c := DefaultConfig("")
	c.State = filepath.Join(t.TempDir(), "state")
	if err := identity.Prepare(c.State); err != nil {
		t.Fatal(err)
	}
	told := serviceManager(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	go func() {
		ended <- awaitEnrollment(ctx, c, Process{Log: log, Service: handed(enroll.Token{}, false, nil)}, &manager{log: log})
	}()
	hear(t, told, "READY=1")
	// A bundle that is there and not an identity is no longer "not enrolled".
	if err := os.WriteFile(filepath.Join(c.State, "identity.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("awaitEnrollment = %v", err)
	}
}
