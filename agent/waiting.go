package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ropeway/agent/internal/identity"
	"ropeway/agent/internal/localapi"
	"ropeway/protocol/fault"
)

// Waits between attempts to enroll while the hub cannot be reached, and between
// looks for an enrollment that somebody made by hand.
const (
	enrollRetry    = 2 * time.Second
	enrollRetryMax = time.Minute
	enrolledLook   = time.Second
)

// errWaitEnded says that the agent was told to end before it was enrolled.
var errWaitEnded = errors.New("ended before enrollment")

// waiting is a service that is not enrolled yet. It uses the token it was handed,
// else it says what to do and looks until somebody has done it: ending would only
// make the service manager start it again.
type waiting struct {
	config  Config
	process Process
	manager *manager
	started time.Time

	mu    sync.Mutex
	cause *fault.Error // why it is not enrolled
}

// awaitEnrollment returns at once when the agent is enrolled or its state cannot
// be used, else when it is enrolled, ctx ends or a drain is asked for.
func awaitEnrollment(ctx context.Context, c Config, process Process, m *manager) error {
	_, err := identity.Load(c.State)
	if fault.CodeOf(err) != "E_NOT_ENROLLED" {
		return err
	}
	if err := identity.Prepare(c.State); err != nil {
		return err
	}
	w := &waiting{config: c, process: process, manager: m, started: time.Now(), cause: fault.From(err)}
	ctx, end := context.WithCancel(ctx)
	defer end()
	group, ctx := errgroup.WithContext(ctx)
	api := localapi.New(c.SocketPath(), localapi.Source{Status: w.status}, process.Log.With("part", "localapi"))
	group.Go(func() error { return api.Run(ctx, nil) })
	group.Go(func() error {
		defer end()
		return w.run(ctx)
	})
	return group.Wait()
}

// run enrolls with the token or waits for somebody who does.
func (w *waiting) run(ctx context.Context) error {
	token := make(chan error, 1)
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() { defer close(done); token <- w.useToken(limited) }()
	look := time.NewTicker(enrolledLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.process.Drain:
			return errWaitEnded
		case err := <-token:
			if err == nil {
				return nil
			}
			token = nil
			w.say(err)
		case <-look.C:
			if _, err := identity.Load(w.config.State); fault.CodeOf(err) != "E_NOT_ENROLLED" {
				return err
			}
		}
	}
}

// useToken tries until the hub has decided about the token.
func (w *waiting) useToken(ctx context.Context) error {
	token, found, err := w.process.Service.Token()
	if err != nil {
		return err
	}
	if !found {
		return fault.Of("E_NOT_ENROLLED").WithCause(w.config.State + " holds no certificate").
			WithFix(w.process.Service.TokenFix)
	}
	hub := w.config.Hub
	if hub == "" {
		hub = token.Hub
	}
	for retry := enrollRetry; ; retry = min(2*retry, enrollRetryMax) {
		enrolled, err := Enroll(ctx, w.config, token, hub)
		if err == nil {
			w.process.Log.Info("enrolled", "agent", enrolled.Name, "group", enrolled.Group, "hub", hub)
			return nil
		}
		if !worthAnother(err) || ctx.Err() != nil {
			return err
		}
		w.say(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry/2 + rand.N(retry)):
		}
	}
}

// worthAnother is false when the hub, or this machine, has said no.
func worthAnother(err error) bool {
	switch fault.ClassOf(err) {
	case fault.Connection, fault.Intermittent, fault.RateLimit:
		return true
	}
	return fault.CodeOf(err) == "E_STATE_LOCKED"
}

// say tells the log and the service manager why the agent waits, once per cause.
func (w *waiting) say(err error) {
	f := fault.From(err)
	if f.Class == fault.Auth {
		f = fault.New(f.Class, f.Code, "enrollment was refused: "+f.Sentence).WithCause(f.Cause).WithFix(w.process.Service.TokenFix)
	}
	w.mu.Lock()
	same := w.cause.Code == f.Code && w.cause.Cause == f.Cause && w.cause.Fix == f.Fix
	w.cause = f
	w.mu.Unlock()
	if same {
		return
	}
	w.process.Log.Warn("not enrolled; waiting", "code", f.Code, "error", f.Sentence, "cause", f.Cause, "next", f.Fix)
	w.manager.ready("not enrolled: " + f.Sentence + "; next: " + f.Fix)
}

func (w *waiting) status(context.Context) (localapi.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.cause
	return localapi.Status{
		State: "pending", Cause: &localapi.Cause{Code: f.Code, Sentence: f.Sentence, Cause: f.Cause, Fix: f.Fix},
		Hub: w.config.Hub, Version: Version(), Process: os.Getpid(), Started: w.started, Tunnels: []localapi.Tunnel{},
		Policy: localapi.PolicyStatus{File: w.config.Policy, State: "not read"},
	}, nil
}
