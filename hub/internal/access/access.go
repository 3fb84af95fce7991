// Package access decides who calls and what they may do: API tokens and the
// roles they carry. It owns the form of a token and the table of roles; it knows
// no HTTP, and a tenant only as what a token belongs to.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// tokenPrefix makes a token recognisable, for people and for secret scanners.
const tokenPrefix = "rwa1."

// secretBytes is the entropy of a token; a plain hash of it cannot be guessed.
const secretBytes = 32

// maxToken bounds what is looked at before hashing.
const maxToken = 256

// touchEvery bounds how often the last use of a token is written.
const touchEvery = time.Minute

// Tokens is where tokens are kept; *store.Store is one.
type Tokens interface {
	APITokenByHash(ctx context.Context, hash [32]byte) (store.APIToken, bool, error)
	CreateAPIToken(ctx context.Context, tok store.APIToken, hash [32]byte, actor string) error
	TouchAPIToken(ctx context.Context, id page.ID, now time.Time) error
}

// Gate knows the tokens of a hub.
type Gate struct {
	tokens Tokens
	clock  func() time.Time
}

// New returns a gate over tokens; clock is the time of expiry.
func New(tokens Tokens, clock func() time.Time) *Gate { return &Gate{tokens: tokens, clock: clock} }

// Principal is an authenticated caller.
type Principal struct {
	Token        page.ID
	Name         string // of the token; the actor of audit rows
	Tenant       page.ID
	Role         Role
	Environments []page.ID // empty = all of the tenant
}

// In reports whether the caller may work in an environment of its tenant.
func (p Principal) In(environment page.ID) bool {
	return len(p.Environments) == 0 || slices.Contains(p.Environments, environment)
}

// NewToken describes a token to issue. A zero Expires never expires.
type NewToken struct {
	Tenant       page.ID
	Name         string
	Role         Role
	Environments []page.ID
	Expires      time.Time
	Actor        string
}

// Issue makes a token and returns its text, which is shown once and kept only as
// a hash.
func (g *Gate) Issue(ctx context.Context, n NewToken) (string, store.APIToken, error) {
	if !n.Role.Known() {
		return "", store.APIToken{}, fault.Of("E_REQUEST").WithSource("hub").WithField("role").
			WithCause("the role is one of " + strings.Join(roleNames(), ", "))
	}
	if n.Name == "" || len(n.Name) > 128 {
		return "", store.APIToken{}, fault.Of("E_REQUEST").WithSource("hub").WithField("name").
			WithCause("a token needs a name of 1 to 128 bytes")
	}
	raw := make([]byte, secretBytes)
	rand.Read(raw) // never fails
	text := tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	tok := store.APIToken{ID: page.NewID(), Tenant: n.Tenant, Name: n.Name, Role: string(n.Role),
		Environments: n.Environments, Created: g.clock()}
	if !n.Expires.IsZero() {
		tok.Expires = &n.Expires
	}
	if err := g.tokens.CreateAPIToken(ctx, tok, sha256.Sum256([]byte(text)), n.Actor); err != nil {
		return "", store.APIToken{}, fmt.Errorf("issue token %s: %w", n.Name, err)
	}
	return text, tok, nil
}

// Authenticate turns the text of a token into its principal. Unknown, expired
// and revoked tokens are refused alike with E_UNAUTHENTICATED. Its time does not
// depend on how much of a token is right: the whole text is hashed, and rows are
// found by hash only.
func (g *Gate) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	hash := sha256.Sum256([]byte(bearer[:min(len(bearer), maxToken)]))
	tok, found, err := g.tokens.APITokenByHash(ctx, hash)
	if err != nil {
		return Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	now := g.clock()
	role := Role(tok.Role)
	good := subtle.ConstantTimeEq(int32(len(bearer)),
		int32(len(tokenPrefix)+base64.RawURLEncoding.EncodedLen(secretBytes)))
	expired := tok.Expires != nil && !now.Before(*tok.Expires)
	if !found || good == 0 || expired || tok.Revoked != nil || !role.Known() {
		return Principal{}, fault.Of("E_UNAUTHENTICATED").WithSource("hub")
	}
	if tok.LastUsed == nil || now.Sub(*tok.LastUsed) > touchEvery {
		if err := g.tokens.TouchAPIToken(ctx, tok.ID, now); err != nil {
			return Principal{}, fmt.Errorf("authenticate: %w", err)
		}
	}
	return Principal{Token: tok.ID, Name: tok.Name, Tenant: tok.Tenant, Role: role,
		Environments: tok.Environments}, nil
}
