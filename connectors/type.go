// Package connectors holds the seam to the systems that data comes from and
// goes to: what a connector is (Type), what it is given (Env, Settings), what
// it is asked for (Query, ImportSpec, Batch) and what it answers. It does not
// know any particular system, nor queues, tunnels or policies: whatever a
// connector reaches, it reaches through Env.
package connectors

import "context"

// A Type says how to work with one kind of system. A nil function means that
// the system cannot do it; a decorator copies the struct and wraps what it
// needs. Every error is, or wraps, a *fault.Error whose class decides the
// reaction.
type Type struct {
	Name  string // stable, lower case: "postgres"
	Title string // for people: "PostgreSQL"

	Settings   Schema // what a connection of this type is configured with
	Credential Schema // the fields of its credential

	// Target names what a connection reaches, as written in its settings:
	// "host:port" or a path. The site's policy matches it.
	Target func(s Settings) (string, error)
	// Open prepares a connection; s has passed Settings. It may dial.
	Open func(ctx context.Context, env Env, s Settings) (Conn, error)
	// Ping does the least that proves that the connection works.
	Ping func(ctx context.Context, c Conn) error
	// Read hands the records of q that come after the cursor to w, in the
	// order of q.Key. A nil cursor means from the start.
	Read func(ctx context.Context, c Conn, q Query, after []byte, w *Writer) (ReadEnd, error)
	// Import applies one page and answers for each of its records. A page
	// that was applied before is not applied again where ImportsOnce says so.
	Import func(ctx context.Context, c Conn, spec ImportSpec, in Batch) (Answer, error)
	// ImportsOnce says what applying a page twice does; for the badge.
	ImportsOnce func(spec ImportSpec) Guarantee
}

// A Conn is an open connection. Several requests may use it at once.
type Conn interface {
	// Close releases everything; requests that still run end with an error.
	Close() error
}

// The levels of a guarantee.
const (
	ExactlyOnce     = "exactly-once"
	EffectivelyOnce = "effectively-once"
	AtLeastOnce     = "at-least-once"
)

// A Guarantee is what an import promises when a page arrives twice.
type Guarantee struct {
	Level  string `json:"level"`
	Reason string `json:"reason"` // one sentence for people
}

// ReadEnd says how a read ended.
type ReadEnd struct {
	// Exhausted means that no record was left. It is false when the Writer
	// asked to stop.
	Exhausted bool
}
