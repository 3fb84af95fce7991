package secret

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
	"golang.org/x/sync/singleflight"

	"ropeway/protocol/fault"
)

// How the keeper tends its session.
const (
	watchEvery = 2 * time.Second // looks for a way in again while there is none
	idle       = time.Minute     // between looks at a session that never ends
	giveBack   = 2 * time.Second // at most, to revoke the session at the end
)

// barWaits are the waits before the same refused credential is shown again. Vault
// locks a role out after five refusals within 15 minutes; other files are shown
// at once.
var barWaits = []time.Duration{15 * time.Second, 2 * time.Minute, 10 * time.Minute}

// bar keeps a refused credential from being shown again and again.
type bar struct {
	digest [sha256.Size]byte
	times  int
	until  time.Time
	fault  *fault.Error
}

// keeper holds the hub's session at Vault: it signs in when there is none, renews
// it and replaces it before it ends.
type keeper struct {
	cfg    VaultConfig
	client *api.Client
	log    *slog.Logger

	ctx    context.Context
	stop   context.CancelFunc
	ended  chan struct{}
	signIn singleflight.Group

	mu      sync.Mutex
	now     *session
	bar     bar
	hide    []string
	trouble string // what was last logged; "" = all is well
}

func newKeeper(cfg VaultConfig, client *api.Client, log *slog.Logger) *keeper {
	ctx, stop := context.WithCancel(context.Background())
	return &keeper{cfg: cfg, client: client, log: log, ctx: ctx, stop: stop, ended: make(chan struct{})}
}

// run tends the session until close.
func (k *keeper) run() {
	defer close(k.ended)
	for {
		wait := k.tend()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-k.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// close ends the tending and gives a session made here back.
func (k *keeper) close() {
	k.stop()
	<-k.ended
	s := k.session()
	if s == nil || !s.own {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveBack)
	defer cancel()
	if err := as(k.client, s.token).Auth().Token().RevokeSelfWithContext(ctx, ""); err != nil {
		k.log.Info("vault session not given back; it ends by itself", "error", vaultFault(ctx, err, s.token))
	}
}

// tend does what is due and returns how long nothing will be.
func (k *keeper) tend() time.Duration {
	s := k.session()
	if s == nil {
		fresh, err := k.enter(k.ctx, nil)
		k.note(err)
		if err != nil {
			return watchEvery
		}
		s = fresh
	}
	if s.ends.IsZero() {
		return idle
	}
	if wait := time.Until(s.due()); wait > 0 {
		return wait
	}
	k.prolong(s)
	if now := k.session(); now != nil && time.Until(now.due()) > 0 {
		return time.Until(now.due())
	}
	return max(time.Until(s.ends)/4, 100*time.Millisecond) // try again soon
}

// prolong renews a session, or replaces it where that cannot be.
func (k *keeper) prolong(s *session) {
	ctx, cancel := context.WithTimeout(k.ctx, vaultTimeout)
	defer cancel()
	enough := false
	if s.renewable {
		renewed, long, err := s.renew(ctx, k.client)
		switch {
		case rejected(err):
			k.drop(s.token)
		case err != nil:
			return // Vault is away; there is time to try again
		default:
			enough = long
			k.replace(s, renewed)
		}
	}
	if enough || k.ctx.Err() != nil {
		return
	}
	if _, err := k.enter(k.ctx, k.session()); err != nil {
		k.log.Warn("vault session not replaced yet", "ends", s.ends, "error", err)
	}
}

// note logs when trouble comes, changes or goes.
func (k *keeper) note(err error) {
	if k.ctx.Err() != nil {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	k.mu.Lock()
	before := k.trouble
	k.trouble = text
	k.mu.Unlock()
	switch {
	case text == before:
	case text == "":
		k.log.Info("vault serves the hub's secrets again")
	default:
		k.log.Warn("secrets wait for vault", "error", err)
	}
}

// token returns a valid token, after a sign-in if there is none.
func (k *keeper) token(ctx context.Context) (string, error) {
	if s := k.session(); s != nil {
		return s.token, nil
	}
	s, err := k.enter(ctx, nil)
	if err != nil {
		return "", err
	}
	return s.token, nil
}

// session is the present one, nil when there is none or it has ended.
func (k *keeper) session() *session {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == nil || !k.now.valid(time.Now()) {
		return nil
	}
	return k.now
}

// enter signs in, once for all who ask at the same time, unless there is another
// session than old already.
func (k *keeper) enter(ctx context.Context, old *session) (*session, error) {
	done := k.signIn.DoChan("", func() (any, error) {
		if s := k.session(); s != nil && s != old {
			return s, nil
		}
		return k.fresh()
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*session), nil
	}
}

// fresh signs in and makes the new session the present one.
func (k *keeper) fresh() (*session, error) {
	p, err := k.cfg.proof()
	if err != nil {
		return nil, err
	}
	if err := k.barred(p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(k.ctx, vaultTimeout)
	defer cancel()
	s, err := signIn(ctx, k.client, k.cfg, p)
	if rejected(err) {
		return nil, k.refuse(p, err)
	}
	if err != nil {
		return nil, vaultFault(k.ctx, err, p.hide...)
	}
	k.mu.Lock()
	same := k.now != nil && k.now.token == s.token
	k.now, k.bar, k.hide = s, bar{}, append(p.hide, s.token)
	k.mu.Unlock()
	if same {
		return s, nil // a token file without a new token
	}
	k.log.Info("signed in to vault", "auth", k.cfg.Auth, "lasts", s.life.String(), "renewable", s.renewable)
	return s, nil
}

// barred is why the proof is not shown now; nil = it may be.
func (k *keeper) barred(p proof) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bar.fault == nil || k.bar.digest != p.digest || time.Now().After(k.bar.until) {
		return nil
	}
	return k.bar.fault
}

// refuse remembers that Vault has refused the proof.
func (k *keeper) refuse(p proof, err error) *fault.Error {
	cause := vaultFault(k.ctx, err, p.hide...)
	f := vaultRefused(k.cfg.Auth, fault.From(cause).Cause)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bar.digest != p.digest {
		k.bar = bar{digest: p.digest}
	}
	k.bar.fault = f
	k.bar.until = time.Now().Add(barWaits[min(k.bar.times, len(barWaits)-1)])
	k.bar.times++
	return f
}

// replace puts a renewed session in the place of the old one, unless that has
// been dropped meanwhile.
func (k *keeper) replace(old, renewed *session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == old {
		k.now = renewed
	}
}

// drop forgets the session of a token that Vault does not take any more.
func (k *keeper) drop(token string) {
	k.mu.Lock()
	dropped := k.now != nil && k.now.token == token
	if dropped {
		k.now = nil
	}
	k.mu.Unlock()
	if dropped {
		k.log.Warn("vault does not take the hub's token any more; signing in again", "auth", k.cfg.Auth)
	}
}

// dead asks whether a token that was forbidden something is valid at all. A dead
// one is dropped.
func (k *keeper) dead(ctx context.Context, token string) bool {
	_, err := as(k.client, token).Auth().Token().LookupSelfWithContext(ctx)
	if !forbidden(err) {
		return false
	}
	k.drop(token)
	return true
}

// secrets are texts that must not be shown.
func (k *keeper) secrets() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hide
}
