package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"ropeway/agent/internal/buffer"
	"ropeway/agent/internal/credential"
	"ropeway/agent/internal/identity"
	"ropeway/agent/internal/localapi"
	"ropeway/agent/internal/policy"
	"ropeway/protocol/fault"
)

// parts are what an agent has on disk, opened under the lock of its state
// directory. They need no hub.
type parts struct {
	config      Config
	log         *slog.Logger
	lock        *identity.Lock
	identity    *identity.Identity
	buffer      *buffer.Buffer
	policy      *policy.Guard
	credentials *credential.Store

	renewing sync.Mutex // one renewal at a time
}

// open takes the lock and opens the parts of an enrolled agent.
func open(ctx context.Context, c Config, log *slog.Logger) (p *parts, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	quota, err := c.Buffer.quota()
	if err != nil {
		return nil, err
	}
	p = &parts{config: c, log: log, credentials: credential.Open(c.State)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	if _, err = identity.Load(c.State); err != nil { // says more than a missing lock file
		return p, err
	}
	if p.lock, err = acquire(ctx, c.State); err != nil {
		return p, err
	}
	if p.identity, err = identity.Load(c.State); err != nil {
		return p, err
	}
	if p.buffer, err = buffer.Open(ctx, buffer.Config{Dir: c.State, Quota: quota, Log: log.With("part", "buffer")}); err != nil {
		return p, err
	}
	p.policy, err = policy.Open(policy.Config{
		File: c.Policy, StateDir: c.State, Own: ownAddresses, Log: log.With("part", "policy"),
	})
	return p, err
}

// lockPatience is how long the state directory may be held by a command that
// looks into it while no agent runs; a second agent holds it for longer.
const lockPatience = 2 * time.Second

// acquire takes the lock of the state directory.
func acquire(ctx context.Context, dir string) (*identity.Lock, error) {
	for end := time.Now().Add(lockPatience); ; {
		lock, err := identity.Acquire(dir)
		if fault.CodeOf(err) != "E_STATE_LOCKED" || time.Now().After(end) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ownAddresses are where the agent listens on the network: nowhere, the local
// API is a unix socket.
func ownAddresses() []netip.AddrPort { return nil }

// siteCredential gives the fields of a credential that this site keeps.
func (p *parts) siteCredential(_ context.Context, name string) (map[string]string, error) {
	return p.credentials.Fields(name)
}

// close closes what is open, in reverse order.
func (p *parts) close() error {
	var errs []error
	if p.buffer != nil {
		errs = append(errs, p.buffer.Close())
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Release())
	}
	return errors.Join(errs...)
}

// Offline opens the state directory of an agent that does not run, and returns
// what can be asked of it. It holds the directory's lock until close is called.
func Offline(ctx context.Context, c Config) (source localapi.Source, close func() error, err error) {
	p, err := open(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return localapi.Source{}, nil, err
	}
	return p.source(), p.close, nil
}
