// Package rig runs the built programs as separate processes, the way a user
// does: a hub, an agent, a relay between them that can be cut, and the client.
// Demo, end-to-end, chaos and bench share it. It knows the command line and the
// REST answers, and nothing from inside the programs.
package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bins are the paths of the three programs.
type Bins struct{ Hub, Agent, Client string }

// Build compiles the programs into dir; extra goes to `go build` (for example
// -race). It must run somewhere inside the module.
func Build(ctx context.Context, dir string, extra ...string) (Bins, error) {
	args := append([]string{"build", "-tags", "netgo,osusergo,sqlite_omit_load_extension", "-o", dir + "/"}, extra...)
	args = append(args, "ropeway/hub/cmd/ropeway-hub", "ropeway/hub/cmd/ropeway", "ropeway/agent/cmd/ropeway-agent")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Bins{}, err
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return Bins{}, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return At(dir), nil
}

// At are programs that were built into dir before.
func At(dir string) Bins {
	return Bins{
		Hub: filepath.Join(dir, "ropeway-hub"), Agent: filepath.Join(dir, "ropeway-agent"),
		Client: filepath.Join(dir, "ropeway"),
	}
}

// Process is one started program. Its standard error goes to a log file.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string

	mu    sync.Mutex
	lines []string
	seen  chan struct{} // closed and replaced at every line
	done  chan struct{}
	err   error
}

// Start runs bin and appends what it says to the log file.
func Start(name, log, bin string, env []string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &Process{name: name, cmd: cmd, log: log, seen: make(chan struct{}), done: make(chan struct{})}
	if err := startPinned(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		scan := bufio.NewScanner(stdout)
		for scan.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, scan.Text())
			close(p.seen)
			p.seen = make(chan struct{})
			p.mu.Unlock()
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// starter is the one thread that starts processes: Pdeathsig follows the thread,
// and this one lives as long as the program.
var starter = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go pinned(work)
	return work
})

func startPinned(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	starter() <- func() { result <- cmd.Start() }
	return <-result
}

// Ready waits for a line on standard output that starts with prefix.
func (p *Process) Ready(ctx context.Context, prefix string) (string, error) {
	for {
		p.mu.Lock()
		for _, l := range p.lines {
			if strings.HasPrefix(l, prefix) {
				p.mu.Unlock()
				return l, nil
			}
		}
		seen := p.seen
		p.mu.Unlock()
		select {
		case <-seen:
		case <-p.done:
			return "", fmt.Errorf("%s ended before it was ready: %w\n%s", p.name, p.err, Tail(p.log, 15))
		case <-ctx.Done():
			return "", fmt.Errorf("%s is not ready: %w\n%s", p.name, ctx.Err(), Tail(p.log, 15))
		}
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the process with SIGTERM, or SIGKILL when it takes too long, and
// returns how it ended.
func (p *Process) Stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.Kill()
		return errors.New(p.name + " did not end after SIGTERM")
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// CPU and PeakRSS read /proc; zero when the process has ended.
func (p *Process) CPU() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	var user, system int64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * time.Second / 100
}

// PeakRSS is the most memory the process has held, in bytes.
func (p *Process) PeakRSS() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kb int64
			fmt.Sscan(rest, &kb)
			return kb << 10
		}
	}
	return 0
}

// Tail returns the last n lines of a file, for messages.
func Tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
