package cli

import (
	"context"
	"errors"

	"ropeway/agent"
	"ropeway/agent/internal/localapi"
	"ropeway/protocol/fault"
)

// call is one function of localapi.Source.
type call[T any] = func(context.Context) (T, error)

// ask asks the running agent, or does the same on the state directory when none
// runs. The lock of the directory keeps both from happening at once.
func ask[T any](
	a *app, ctx context.Context,
	running func(*localapi.Client, context.Context) (T, error),
	alone func(context.Context, agent.Config) (T, error),
) (T, error) {
	cfg, client, err := a.connect()
	if err != nil {
		var zero T
		return zero, err
	}
	defer client.Close()
	answer, err := running(client, ctx)
	if !errors.Is(err, localapi.ErrNotRunning) {
		return answer, err
	}
	answer, err = alone(ctx, cfg)
	if fault.CodeOf(err) != "E_STATE_LOCKED" {
		return answer, err
	}
	if late, lateErr := running(client, ctx); !errors.Is(lateErr, localapi.ErrNotRunning) {
		return late, lateErr // an agent has started meanwhile
	}
	return answer, err
}

// source makes the part of ask that works without a running agent.
func source[T any](pick func(localapi.Source) call[T]) func(context.Context, agent.Config) (T, error) {
	return func(ctx context.Context, cfg agent.Config) (answer T, err error) {
		s, closeAll, err := agent.Offline(ctx, cfg)
		if err != nil {
			return answer, err
		}
		defer func() { err = errors.Join(err, closeAll()) }()
		return pick(s)(ctx)
	}
}

// whoAmI needs no lock: it only reads.
func whoAmI(_ context.Context, cfg agent.Config) (localapi.IdentityStatus, error) {
	return agent.WhoAmI(cfg)
}
