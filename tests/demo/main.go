// Command demo shows Ropeway to someone who has never seen it: real rows from a
// database behind an agent, through the tunnel, into another database, while the
// tunnel is cut and both programs are killed. It judges by its own SQL over the
// two databases, never by the hub's counters.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: go run ./tests/demo [--detach|--stop]
environment: DEMO_DB=postgres|sqlite  DEMO_ROWS=100000  DEMO_DIR=demo-data  CI=true (run once)`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if os.Getenv("RW_INSTALL") == "" {
		os.Setenv("RW_INSTALL", "1") // a demo brings what it shows
	}
	c, err := readSettings()
	if err != nil {
		return err
	}
	switch {
	case len(args) == 0:
		return c.show(os.Getenv("CI") == "true")
	case len(args) == 1 && args[0] == "--detach":
		return c.detach()
	case len(args) == 1 && args[0] == "--stop":
		return c.stop()
	}
	return errors.New(usage)
}

// settings are what the environment chooses.
type settings struct {
	dir  string
	db   string
	rows int
}

func readSettings() (settings, error) {
	c := settings{dir: "demo-data", db: "postgres", rows: 100_000}
	if d := os.Getenv("DEMO_DIR"); d != "" {
		c.dir = d
	}
	if db := os.Getenv("DEMO_DB"); db != "" {
		c.db = db
	}
	if c.db != "postgres" && c.db != "sqlite" {
		return c, fmt.Errorf("DEMO_DB=%s: write postgres or sqlite", c.db)
	}
	if n := os.Getenv("DEMO_ROWS"); n != "" {
		rows, err := strconv.Atoi(n)
		if err != nil || rows < 1000 || rows > 10_000_000 {
			return c, fmt.Errorf("DEMO_ROWS=%s: write a number from 1000 to 10000000", n)
		}
		c.rows = rows
	}
	return c, nil
}

// show runs the demo. Without once it stays up until Ctrl-C.
func (c settings) show(once bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	s, err := c.prepare(limited)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		return err
	}
	verdict, err := s.play(limited)
	if err != nil {
		return err
	}
	if !once {
		s.invite()
	}
	fmt.Println(verdict)
	if verdict.lost != 0 || verdict.doubled != 0 {
		return errors.New("rows were lost or doubled")
	}
	if !once {
		<-ctx.Done()
	}
	return nil
}

func (c settings) pidFile() string { return c.dir + ".pid" }

// detach runs the demo in another process, waits for its verdict and returns.
func (c settings) detach() error {
	if err := c.stop(); err != nil {
		return err
	}
	logName := c.dir + ".log"
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// `go run` removes its binary when it ends; the demo that stays needs its own.
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	keep, err := filepath.Abs(c.dir + ".bin")
	if err != nil {
		return err
	}
	if err := copyFile(self, keep); err != nil {
		return err
	}
	cmd := exec.Command(keep)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "CI=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(c.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			_ = os.Remove(c.pidFile())
			text, _ := os.ReadFile(logName)
			fmt.Print(string(text))
			return fmt.Errorf("the demo ended: %w", err)
		case <-time.After(300 * time.Millisecond):
		}
		text, err := os.ReadFile(logName)
		if err == nil && strings.Contains(string(text), "\nlost ") {
			fmt.Print(string(text))
			return nil
		}
	}
}

// stop ends a detached demo; it is no error when there is none.
func (c settings) stop() error {
	text, err := os.ReadFile(c.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read %s: %w", c.pidFile(), err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	for range 100 {
		if syscall.Kill(pid, 0) != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = os.Remove(c.dir + ".bin")
	fmt.Println("the demo has ended; its data is in", c.dir)
	return os.Remove(c.pidFile())
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o700)
}
