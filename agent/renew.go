package agent

import (
	"context"
	"crypto"
	"errors"
	"math/rand/v2"
	"time"

	"ropeway/agent/internal/identity"
	"ropeway/agent/internal/localapi"
)

// Waits between failed renewals. The first renewal is at half life, so that
// there are days to get it done.
const (
	renewalRetry    = time.Minute
	renewalRetryMax = time.Hour
	renewalLook     = time.Hour // a sleeping machine or a set clock must not delay it much longer
)

// renewals renews the certificate at half of its life, again and again, until ctx
// ends. An expired certificate is renewed at once.
func (p *parts) renewals(ctx context.Context) {
	retry := renewalRetry
	for {
		wait := min(time.Until(p.identity.NextRenewal()), renewalLook)
		if wait <= 0 {
			if err := p.renewSameKey(ctx); err == nil {
				retry = renewalRetry
				continue
			} else if ctx.Err() == nil {
				p.log.Warn("certificate not renewed", "error", err, "until", p.identity.NotAfter())
			}
			wait = retry/2 + rand.N(retry)
			retry = min(2*retry, renewalRetryMax)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (p *parts) renewSameKey(ctx context.Context) error {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	key, ok := p.identity.Certificate().PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("renew certificate: the key cannot sign")
	}
	return p.renew(ctx, key)
}

// rotateKey makes a new key and gets a certificate for it. A rotation that was
// interrupted goes on with the key it had made.
func (p *parts) rotateKey(ctx context.Context) (localapi.IdentityStatus, error) {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	key, err := identity.NextKey(p.config.State)
	if err == nil {
		err = p.renew(ctx, key)
	}
	if err != nil {
		return localapi.IdentityStatus{}, err
	}
	return describe(p.identity), nil
}
