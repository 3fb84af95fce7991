package secret

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"
)

// session is a token of Vault's and how long it lasts.
type session struct {
	token     string
	life      time.Duration // as first granted; 0 = for ever
	ends      time.Time     // zero = never
	renewable bool
	own       bool // made by a sign-in here, so it is given back at the end
}

func (s *session) valid(now time.Time) bool { return s.ends.IsZero() || now.Before(s.ends) }

// due is when the session wants to be renewed: a third of its life before its
// end, so that a Vault that is away for a moment does not end it.
func (s *session) due() time.Time { return s.ends.Add(-s.life / 3) }

// proof is what the hub shows to be let in.
type proof struct {
	data   map[string]any
	hide   []string
	digest [sha256.Size]byte
}

// proof reads what the configured way to sign in needs.
func (c VaultConfig) proof() (p proof, err error) {
	files := map[string]string{}
	switch c.Auth {
	case AuthAppRole:
		files["role_id"], files["secret_id"] = c.RoleIDFile, c.SecretIDFile
	case AuthKubernetes:
		files["jwt"] = c.JWTFile
	case AuthToken:
		files["token"] = c.TokenFile
	}
	p.data = map[string]any{}
	for name, path := range files {
		text, err := readProof(path, name == "secret_id" || name == "token")
		if err != nil {
			return proof{}, vaultRefused(c.Auth, err.Error())
		}
		p.data[name] = text
		p.hide = append(p.hide, text)
	}
	if c.Auth == AuthKubernetes {
		p.data["role"] = c.Role
	}
	raw, err := json.Marshal(p.data)
	if err != nil {
		return proof{}, fmt.Errorf("encode sign-in: %w", err)
	}
	p.digest = sha256.Sum256(raw)
	return p, nil
}

// signIn makes a session. Its error is what Vault said, not yet made readable.
func signIn(ctx context.Context, c *api.Client, cfg VaultConfig, p proof) (*session, error) {
	now := time.Now()
	if cfg.Auth == AuthToken {
		token, _ := p.data["token"].(string)
		info, err := as(c, token).Auth().Token().LookupSelfWithContext(ctx)
		if err != nil {
			return nil, err
		}
		return lookedUp(token, info, now)
	}
	mount := cfg.AuthMount
	if mount == "" {
		mount = cfg.Auth
	}
	answer, err := write(ctx, c, "auth/"+mount+"/login", p.data)
	if err != nil {
		return nil, err
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return nil, vaultRefused(cfg.Auth, "auth/"+mount+" gives no token; is the method enabled there?")
	}
	s := granted(answer.Auth, now)
	s.own = true
	return s, nil
}

// granted is the session that Vault has just granted.
func granted(a *api.SecretAuth, now time.Time) *session {
	s := &session{token: a.ClientToken, renewable: a.Renewable}
	s.last(time.Duration(a.LeaseDuration)*time.Second, now)
	return s
}

// lookedUp is the session of a token that others have made.
func lookedUp(token string, info *api.Secret, now time.Time) (*session, error) {
	if info == nil {
		return nil, errors.New("no token")
	}
	ttl, err := info.TokenTTL()
	if err != nil {
		return nil, errors.New("no lifetime")
	}
	s := &session{token: token}
	if s.renewable, err = info.TokenIsRenewable(); err != nil {
		return nil, errors.New("no lifetime")
	}
	s.last(ttl, now)
	return s, nil
}

func (s *session) last(ttl time.Duration, now time.Time) {
	if ttl > 0 {
		s.life, s.ends = ttl, now.Add(ttl)
	}
}

// renew makes the session last longer. A renewal that gives less than was granted
// at first meets the end of the token: false asks for a new one.
func (s *session) renew(ctx context.Context, c *api.Client) (*session, bool, error) {
	now := time.Now()
	answer, err := as(c, s.token).Auth().Token().RenewSelfWithContext(ctx, int(s.life.Seconds()))
	if err != nil {
		return nil, false, err
	}
	if answer == nil || answer.Auth == nil {
		return nil, false, errors.New("no lifetime")
	}
	ttl := time.Duration(answer.Auth.LeaseDuration) * time.Second
	renewed := &session{token: s.token, life: s.life, ends: now.Add(ttl), renewable: answer.Auth.Renewable, own: s.own}
	return renewed, ttl >= s.life*9/10, nil
}
