package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Site is one hub and one agent that speaks to it through a relay, all on
// loopback, with their state under Dir.
type Site struct {
	Bins   Bins
	Dir    string
	Data   string // of the hub; Dir/hub unless a test puts it elsewhere
	Listen string // of the hub
	Ops    string
	Relay  *Relay
	Hub    *Process
	Agent  *Process
	Env    []string // added to every process, for example GOMEMLIMIT
}

// NewSite chooses ports and makes the folders; nothing runs yet.
func NewSite(bins Bins, dir string) (*Site, error) {
	s := &Site{Bins: bins, Dir: dir, Data: filepath.Join(dir, "hub")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.Listen, err = FreeAddr(); err != nil {
		return nil, err
	}
	if s.Ops, err = FreeAddr(); err != nil {
		return nil, err
	}
	s.Relay, err = NewRelay(s.Listen)
	return s, err
}

// FreeAddr is an address of loopback that nothing listens on.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Path is a path under Dir.
func (s *Site) Path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// StartHub starts the hub and waits until it accepts work.
func (s *Site) StartHub(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	p, err := Start("hub", s.Path("hub.log"), s.Bins.Hub, s.Env,
		"serve", "--data", s.Data, "--listen", s.Listen, "--ops-listen", s.Ops)
	if err != nil {
		return err
	}
	s.Hub = p
	_, err = p.Ready(ctx, "ready https://")
	return err
}

// StartAgent starts the agent; with wait it returns when the tunnel is up.
func (s *Site) StartAgent(ctx context.Context, wait bool) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	p, err := Start("agent", s.Path("agent.log"), s.Bins.Agent, s.Env,
		"run", "--state", s.Path("agent"), "--policy", s.Path("policy.yaml"))
	if err != nil {
		return err
	}
	s.Agent = p
	if wait {
		_, err = p.Ready(ctx, "ready")
	}
	return err
}

// Enroll makes the agent a member of group, which must exist in the hub.
func (s *Site) Enroll(ctx context.Context, group string) error {
	if _, err := s.Client(ctx, "", "agent", "token", "--group", group, "--out", s.Path("token")); err != nil {
		return err
	}
	_, err := s.run(ctx, "", s.Bins.Agent, "enroll", "--token-file", s.Path("token"),
		"--hub", "https://"+s.Relay.Addr(), "--state", s.Path("agent"))
	return err
}

// Client runs `ropeway` as the first tenant's administrator and returns its
// standard output. A failing command is an error that holds what it said.
func (s *Site) Client(ctx context.Context, stdin string, args ...string) (string, error) {
	return s.run(ctx, stdin, s.Bins.Client, args...)
}

// AgentCommand runs `ropeway-agent` against this site's state folder.
func (s *Site) AgentCommand(ctx context.Context, stdin string, args ...string) (string, error) {
	return s.run(ctx, stdin, s.Bins.Agent, append(args, "--state", s.Path("agent"))...)
}

// Failed is a command that ended with another code than zero.
type Failed struct {
	Command string
	Code    int
	Stdout  string
	Stderr  string
}

// Error says which command failed and what it said.
func (f *Failed) Error() string {
	return fmt.Sprintf("%s: exit %d: %s", f.Command, f.Code, strings.TrimSpace(f.Stderr+f.Stdout))
}

func (s *Site) run(ctx context.Context, stdin, bin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "ROPEWAY_URL=https://"+s.Listen, "ROPEWAY_CA="+filepath.Join(s.Data, "ca.pem"),
		"ROPEWAY_TOKEN_FILE="+filepath.Join(s.Data, "admin.token"))
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), &Failed{
			Command: filepath.Base(bin) + " " + strings.Join(args, " "), Code: exit.ExitCode(),
			Stdout: out.String(), Stderr: errs.String(),
		}
	}
	return out.String(), err
}

// Job is what `ropeway job show -o json` says.
type Job struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Records struct {
		Exported, Delivered, Filtered, Parked int64
	} `json:"records"`
	Pages    int64   `json:"pages"`
	Duration float64 `json:"duration"`
	Cause    *struct{ Code, Class, Sentence, Cause, Fix string }
}

// JobOf asks for a job. While the hub is down it is an error.
func (s *Site) JobOf(ctx context.Context, id string) (Job, error) {
	return decodeJob(s.Client(ctx, "", "job", "show", id, "-o", "json"))
}

// RunFlow starts a flow and returns the id of its job.
func (s *Site) RunFlow(ctx context.Context, flow string) (string, error) {
	job, err := decodeJob(s.Client(ctx, "", "flow", "run", flow, "-o", "json"))
	return job.ID, err
}

func decodeJob(out string, err error) (Job, error) {
	var j Job
	if err != nil {
		return j, err
	}
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		return j, fmt.Errorf("read job: %w in %q", err, out)
	}
	return j, nil
}

// WaitJob asks until the job has ended. Errors on the way (a hub that was just
// killed) are passed over until ctx ends.
func (s *Site) WaitJob(ctx context.Context, id string) (Job, error) {
	var last error
	for {
		j, err := s.JobOf(ctx, id)
		switch {
		case err == nil && Ended(j.State):
			return j, nil
		case err != nil:
			last = err
		default:
			last = fmt.Errorf("job is %s: %+v", j.State, j)
		}
		select {
		case <-ctx.Done():
			return j, fmt.Errorf("job %s did not end: %w; last: %w", id, ctx.Err(), last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Ended reports whether a job's state is an end.
func Ended(state string) bool {
	switch state {
	case "completed", "completed_with_errors", "failed", "cancelled":
		return true
	}
	return false
}

// Close ends everything that still runs.
func (s *Site) Close() {
	for _, p := range []*Process{s.Agent, s.Hub} {
		if p != nil {
			p.Kill()
		}
	}
	if s.Relay != nil {
		s.Relay.Close()
	}
}

// Write puts a file under Dir.
func (s *Site) Write(name, text string) error {
	path := s.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// AgentAt runs `ropeway-agent` against another state folder.
func (s *Site) AgentAt(ctx context.Context, state string, args ...string) (string, error) {
	return s.run(ctx, "", s.Bins.Agent, append(args, "--state", state)...)
}
