package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/goleak"
)

// A process is a server that dies with this one.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended

	broom *os.File // open as long as this process lives; see sweepAfterDeath
}

// startProcess runs a server as the given account. The kernel sends it SIGQUIT
// when the thread that started it ends, so that thread is kept until then.
func startProcess(ctx context.Context, a account, log, path string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(path, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = a.home
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	p.cmd.SysProcAttr = a.attributes()
	started := make(chan error)
	go p.hold(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	context.AfterFunc(ctx, p.stop)
	return p, nil
}

// hold starts the process and keeps the thread that did until it ends.
func (p *process) hold(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.cmd.Wait()
	}
}

// IgnoreServers lets goleak overlook the goroutines that keep servers, which
// live as long as the test binary.
func IgnoreServers() goleak.Option {
	return goleak.IgnoreAnyFunction("ropeway/tests/testenv.(*process).hold")
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// sweepAfterDeath starts a broom: a shell that waits until this process is
// gone (its standard input ends), then for the server, and removes dir.
func (p *process) sweepAfterDeath(dir string) error {
	const broom = `cat >/dev/null; kill -QUIT "$2" 2>/dev/null
n=0; while kill -0 "$2" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
rm -rf -- "$1"`
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", broom, "sh", dir, strconv.Itoa(p.cmd.Process.Pid))
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start the broom: %w", err)
	}
	p.broom = w
	return cmd.Process.Release()
}

func (p *process) lastLog() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return lastLine(b)
}
