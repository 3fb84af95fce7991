package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	wire "ropeway/certs/enroll"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Lives of tokens.
const (
	DefaultTTL = time.Hour
	MaxTTL     = 7 * 24 * time.Hour
)

// TokenRequest asks for a token.
type TokenRequest struct {
	Scope     store.Scope
	Group     page.ID
	GroupName string
	Name      string        // binds the token to this agent name; "" = any
	TTL       time.Duration // 0 = DefaultTTL
	CreatedBy string
}

// Create makes a token that lets one agent into a group. Its text is returned
// once; the hub keeps a hash.
func (i *Issuer) Create(ctx context.Context, r TokenRequest) (text string, expires time.Time, err error) {
	if r.TTL == 0 {
		r.TTL = DefaultTTL
	}
	if r.TTL < time.Minute || r.TTL > MaxTTL {
		return "", time.Time{}, fault.Of("E_REQUEST").WithSource("hub").WithField("ttl").
			WithCause(fmt.Sprintf("a token lives 1 minute to %d days", MaxTTL/(24*time.Hour)))
	}
	if r.Name != "" && !nameRule.MatchString(r.Name) {
		return "", time.Time{}, badName(r.Name)
	}
	now := i.clock()
	token := wire.Token{Hub: i.hub, Pin: i.authority.Pin(), Secret: wire.NewSecret()}
	kept := store.EnrollToken{
		ID: page.NewID(), Scope: r.Scope, Group: r.Group, GroupName: r.GroupName, AgentName: r.Name,
		Uses: 1, CreatedBy: r.CreatedBy, Created: now, Expires: now.Add(r.TTL),
	}
	if err := i.tokens.CreateEnrollToken(ctx, kept, token.Secret.Hash()); err != nil {
		return "", time.Time{}, err
	}
	return token.Text(), kept.Expires, nil
}

const askForToken = "make a new one with `ropeway agent token --group GROUP`"

// refusedToken says more about a refused token than that.
func refusedToken(err error) error {
	f := (*fault.Error)(nil)
	if !errors.As(err, &f) {
		return err
	}
	cause, fix := f.Cause, f.Fix
	switch f.Code {
	case "E_TOKEN_INVALID":
		cause, fix = "this hub has issued no such token, or has revoked it", "copy the whole token, or "+askForToken
	case "E_TOKEN_EXPIRED":
		cause, fix = "its life is over, "+DefaultTTL.String()+" unless it was made with another", askForToken
	case "E_TOKEN_USED":
		cause, fix = "another key has enrolled with it", askForToken+"; if nobody of yours used it, revoke the agent it made"
	}
	return f.WithCause(cause).WithFix(fix)
}

func revoked(cause string) error {
	return fault.Of("E_REVOKED").WithSource("hub").WithCause(cause).
		WithFix("if that was not meant, enroll with a new token and an empty state directory")
}
