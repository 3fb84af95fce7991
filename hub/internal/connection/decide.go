package connection

import (
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// Times of recovery (SEMANTICS §3.7).
const (
	firstProbe = 15 * time.Second
	lastProbe  = 5 * time.Minute
	// lockOut is how long after the last of authTries rejected logins the same
	// credential is left alone. No 30 minutes see more than authTries.
	lockOut   = 30 * time.Minute
	authTries = 3
	// defaultPause holds for a rate limit that names no time, longestPause for
	// one that names an absurd one.
	defaultPause = 30 * time.Second
	longestPause = time.Hour
)

// concerns reports whether a fault says something about the connection.
func concerns(f *fault.Error) bool {
	switch f.Class {
	case fault.Auth, fault.Connection, fault.Intermittent, fault.RateLimit:
		return true
	}
	return false
}

// causeOf is the cause that a fault of the connection gives.
func causeOf(f *fault.Error) model.OfflineCause {
	switch {
	case f.Code == "E_NO_CREDENTIAL":
		return model.CauseNoCredential
	case f.Class == fault.Auth:
		return model.CauseAuth
	case f.Code == "E_AGENT_OFFLINE":
		return model.CauseAgentOffline
	}
	return model.CauseUnreachable
}

func byHand(s model.ConnectionState) bool {
	return s.State == model.Offline &&
		(s.Cause == model.CauseManual || s.Cause == model.CauseMaintenance)
}

// reported is the state after work has met f.
func reported(
	old model.ConnectionState, f *fault.Error, facts Facts, now time.Time,
) (model.ConnectionState, bool) {
	auth := f.Class == fault.Auth && causeOf(f) == model.CauseAuth
	state := old
	if auth {
		state = rejected(state, facts, now)
	}
	switch {
	case byHand(old):
		return state, auth // only count; people have the last word
	case f.Class == fault.RateLimit:
		return throttled(state, f, now)
	case old.State == model.Offline && (old.Cause == causeOf(f) || old.Cause == model.CauseAuth):
		// What was in flight when it went offline still reports. A bad
		// credential stays the cause: whoever gets past it would meet it again.
		if auth && state.NextProbe != nil && state.NextProbe.Before(earliest(state, now)) {
			state.NextProbe = at(earliest(state, now))
		}
		return state, auth
	}
	return offline(state, f, now), true
}

// offline starts a new offline time, with the first probe ahead.
func offline(state model.ConnectionState, f *fault.Error, now time.Time) model.ConnectionState {
	state.State, state.Cause, state.Fault = model.Offline, causeOf(f), f
	state.Since, state.Probes = now, 0
	state.NextProbe = at(later(now.Add(firstProbe), earliest(state, now)))
	return state
}

// throttled pauses the connection until the endpoint takes requests again; no
// probe is needed then. An offline connection stays offline.
func throttled(old model.ConnectionState, f *fault.Error, now time.Time) (model.ConnectionState, bool) {
	wait := f.RetryAfter
	if wait <= 0 {
		wait = defaultPause
	}
	until := now.Add(min(wait, longestPause))
	switch {
	case old.State == model.Offline:
		return old, false
	case old.State == model.RateLimited && old.NextProbe != nil && !until.After(*old.NextProbe):
		return old, false
	case old.State != model.RateLimited:
		old.Since = now
	}
	old.State, old.Cause, old.Fault, old.NextProbe = model.RateLimited, "", f, at(until)
	return old, true
}

// rejected counts one more login that the endpoint refused.
func rejected(state model.ConnectionState, facts Facts, now time.Time) model.ConnectionState {
	quiet := state.AuthSince == nil || now.Sub(*state.AuthSince) >= lockOut
	if quiet || state.Secret != facts.Secret {
		state.AuthTries = 0
	}
	state.AuthTries++
	state.AuthSince = at(now)
	state.Secret = facts.Secret
	return state
}

// earliest is the time before which the credential must not be tried again.
func earliest(state model.ConnectionState, now time.Time) time.Time {
	if state.AuthTries < authTries || state.AuthSince == nil {
		return now
	}
	return later(now, state.AuthSince.Add(lockOut))
}

// probed is the state after a probe has ended with f, nil for success.
func probed(
	old model.ConnectionState, f *fault.Error, facts Facts, now time.Time,
) (model.ConnectionState, bool) {
	if old.State == model.Online || byHand(old) {
		return old, false // decided by others meanwhile
	}
	if f == nil || !concerns(f) {
		// It answers, or the fault is not the connection's (a policy, a setting): work
		// will meet that and say so where people look for it. Offline it would hide
		// behind a cause that is gone.
		next := online(old, now)
		next.AuthTries, next.AuthSince, next.Secret = kept(old, f)
		return next, true
	}
	state := old
	if f.Class == fault.RateLimit {
		// It answers, so it is there; it goes on when the pause is over.
		state.State = model.Online
		return throttled(state, f, now)
	}
	if f.Class == fault.Auth && causeOf(f) == model.CauseAuth {
		state = rejected(state, facts, now)
	}
	if causeOf(f) != old.Cause || old.State != model.Offline {
		state.Since = now
	}
	state.State, state.Cause = model.Offline, causeOf(f)
	state.Fault = f
	state.Probes++
	state.NextProbe = at(later(now.Add(backoff(state.Probes)), earliest(state, now)))
	return state, true
}

// kept are the counted logins: only a probe that logged in clears them.
func kept(old model.ConnectionState, f *fault.Error) (tries int, since *time.Time, secret uint64) {
	if f == nil {
		return 0, nil, 0
	}
	return old.AuthTries, old.AuthSince, old.Secret
}

func online(old model.ConnectionState, now time.Time) model.ConnectionState {
	return model.ConnectionState{Connection: old.Connection, State: model.Online, Since: now}
}

// backoff is the wait after the n-th probe: 15 s doubled up to 5 min.
func backoff(n int) time.Duration {
	wait := firstProbe
	for range n {
		wait = min(2*wait, lastProbe)
	}
	return wait
}

func at(t time.Time) *time.Time { return &t }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
