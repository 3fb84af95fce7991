package uplink

import (
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"ropeway/protocol/fault"
)

const (
	retryFirst = 250 * time.Millisecond // ceiling of the first wait
	retryCap   = 4 * time.Second        // ceiling of all waits of our own choice
	retrySlow  = 15 * time.Second       // ceiling of those the hub asks for
	healthy    = time.Minute            // a session that lived this long resets
)

// A backoff says how long to wait before the next try: not at all for the first,
// then full jitter under a ceiling that doubles. Only the hub can make it
// slower: by a retry-after, or by refusing who we are.
type backoff struct {
	tries int
	asked time.Duration // by the hub, for the next wait
}

func (b *backoff) next() time.Duration {
	if asked := b.asked; asked > 0 {
		b.asked = 0
		low, high := min(asked, retrySlow*3/4), min(2*asked, retrySlow)
		return low + time.Duration(rand.Float64()*float64(high-low))
	}
	b.tries++
	if b.tries == 1 {
		return 0
	}
	ceiling := retryCap
	if b.tries < 8 {
		ceiling = min(retryCap, retryFirst<<(b.tries-2))
	}
	return time.Duration(rand.Float64() * float64(ceiling))
}

// failed notes that no session came about, or that it ended before its welcome.
func (b *backoff) failed(err error) {
	f := fault.From(err)
	if f == nil {
		return
	}
	b.asked = min(f.RetryAfter, retrySlow)
	if refused(f) && b.asked == 0 {
		b.asked = retrySlow
	}
}

// lived notes that a session ended, or made way, some time after its welcome.
func (b *backoff) lived(welcomed time.Time, err error) {
	b.failed(err)
	if !welcomed.IsZero() && time.Since(welcomed) >= healthy {
		b.tries = 0
	}
}

// refused reports whether the hub will not have this agent as it is.
func refused(f *fault.Error) bool {
	return f.Class == fault.Auth || f.Code == "E_FORMAT_VERSION"
}

// dialFault reads the error of a dial or of a session that broke before its
// welcome: a TLS alert of the hub is its refusal of our certificate.
func dialFault(err error) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return fault.New(fault.Auth, "E_UNAUTHENTICATED", "the hub refuses the certificate of this agent").
			WithSource("hub").WithCause(op.Err).
			WithFix("check on the hub that the agent is not revoked, and the clock of this machine; enroll again if needed")
	}
	return fault.New(fault.Connection, "E_UNREACHABLE", "the hub cannot be reached").WithSource("agent").WithCause(err)
}
