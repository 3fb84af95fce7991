package connectors

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Env is all that a connector may touch of the world outside. The policy of
// the site stands inside Dial and Path.
type Env struct {
	// Dial opens a network connection. Name resolution is left to it, so that
	// the policy sees both the name and the address behind it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Path checks a path of the local file system and returns the path to
	// open, with links resolved.
	Path func(p string) (string, error)
	// Secret fetches the fields of the credential. It is called at every
	// dial; its values are kept in memory only and never logged.
	Secret func(ctx context.Context) (map[string]string, error)
	// Clock tells the time.
	Clock func() time.Time
	// Log takes events; never records or secrets.
	Log *slog.Logger
}
