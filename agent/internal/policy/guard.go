package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"ropeway/protocol/fault"
)

// Config says where a guard finds its policy and what it keeps.
type Config struct {
	File     string                  // the site's policy file; missing = everything is denied
	StateDir string                  // approvals, row counts, suspend mark; never a connection's target
	Own      func() []netip.AddrPort // addresses the agent itself listens on; nil = none
	Clock    func() time.Time        // nil = time.Now
	Log      *slog.Logger            // nil = silent
}

// State is what a guard holds.
type State string

// The states of a guard. All but Loaded deny everything.
const (
	Loaded    State = "loaded"
	NoFile    State = "missing"
	Broken    State = "broken"
	Suspended State = "suspended"
)

// Status is what people see of a guard.
type Status struct {
	File    string    `json:"file"`
	State   State     `json:"state"`
	Error   string    `json:"error,omitempty"`
	Warning string    `json:"warning,omitempty"`
	Rules   int       `json:"rules"`
	Loaded  time.Time `json:"loaded"`
}

// Guard answers requests by the policy file as it is now. Its methods may be
// called from any goroutine.
type Guard struct {
	config Config

	mu     sync.Mutex
	policy *Policy // nil unless the file was read and parsed
	status Status
	seen   *look // at the last reload
	rows   *usage
	books  *approvals
	refuse []Statement // free statements that wait for an approval, newest last
}

// look is what one look at the file gave.
type look struct{ text, warning, err string }

// Open reads the policy. A missing or broken file is no error: it denies
// everything, and Status says so. Approvals or counts that cannot be read are.
func Open(c Config) (*Guard, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Own == nil {
		c.Own = func() []netip.AddrPort { return nil }
	}
	books, err := openApprovals(c.StateDir)
	if err != nil {
		return nil, err
	}
	rows, err := openUsage(c.StateDir)
	if err != nil {
		return nil, err
	}
	g := &Guard{config: c, books: books, rows: rows}
	g.Reload()
	return g, nil
}

// Run follows changes of the file until ctx ends, looking once a second, and
// keeps the row counts on disk.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.save()
		case <-tick.C:
			g.Reload()
			if err := g.save(); err != nil {
				g.config.Log.Warn("row counts not saved", "error", err)
			}
		}
	}
}

func (g *Guard) save() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rows.save()
}

// Reload reads the file now. What does not parse denies everything: an old
// policy that nobody can read any more must not go on allowing.
func (g *Guard) Reload() {
	text, warning, err := readFile(g.config.File)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.books.reload(); err != nil {
		g.config.Log.Warn("approvals not read", "error", err)
	}
	now := look{string(text), warning, errorText(err)}
	if g.seen != nil && *g.seen == now {
		return
	}
	g.seen = &now
	next := Status{File: g.config.File, State: Loaded, Warning: warning, Loaded: g.config.Clock()}
	var p *Policy
	if err == nil {
		p, err = Parse(text)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		next.State, next.Error = NoFile, errorText(err)
	case err != nil:
		next.State, next.Error, p = Broken, errorText(err), nil
	default:
		next.Rules = len(p.Rules)
	}
	g.policy, g.status = p, next
	g.tell(next)
}

func (g *Guard) tell(s Status) {
	switch {
	case s.State == Loaded && s.Warning != "":
		g.config.Log.Warn("policy loaded", "file", s.File, "rules", s.Rules, "warning", s.Warning)
	case s.State == Loaded:
		g.config.Log.Info("policy loaded", "file", s.File, "rules", s.Rules)
	default:
		g.config.Log.Warn("policy denies everything", "file", s.File, "state", s.State, "error", s.Error)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func readFile(path string) (text []byte, warning string, err error) {
	if path == "" {
		return nil, "", fmt.Errorf("no policy file is set: %w", fs.ErrNotExist)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, "", fmt.Errorf("%s may be written by everybody (mode %04o); chmod o-w it and look through its rules",
			path, info.Mode().Perm())
	}
	if info.Mode().Perm()&0o020 != 0 {
		warning = fmt.Sprintf("%s may be written by others (mode %o)", path, info.Mode().Perm())
	}
	text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	return text, warning, err
}

// Status tells what the guard holds.
func (g *Guard) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	if g.books.suspended() {
		s.State = Suspended
	}
	return s
}

// Policy is the policy in force, nil when everything is denied.
func (g *Guard) Policy() *Policy {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.books.suspended() {
		return nil
	}
	return g.policy
}

// Remote reports whether the hub may ask the agent itself for name, such as
// "logs". What is not written is denied.
func (g *Guard) Remote(name string) bool {
	p := g.Policy()
	return p != nil && remoteKnown(name) && p.Remote[name]
}

// Check answers nil when a rule allows r now, else a *fault.Error of class
// policy that shows the rule to add.
func (g *Guard) Check(r Request) error {
	_, err := g.Decide(r)
	return err
}

// Decide is Check that also tells what still binds the request.
func (g *Guard) Decide(r Request) (Decision, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, err := g.decide(r)
	if err != nil {
		g.remember(r)
		return Decision{}, err
	}
	return d, nil
}

// Count is Check for a request that is running: rows more rows pass under the
// rule's daily limit, or none do.
func (g *Guard) Count(r Request, rows int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, err := g.decide(r)
	if err != nil {
		return err
	}
	if d.rule == nil || d.rule.Limits.RowsPerDay == 0 || rows <= 0 {
		return nil
	}
	now := g.config.Clock()
	spent := g.rows.spent(d.rule, now)
	if spent+uint64(rows) > d.rule.Limits.RowsPerDay {
		return limited(r, fmt.Sprintf("rule %q allows %d rows a day, %d passed and %d more would not fit",
			d.rule.title(), d.rule.Limits.RowsPerDay, spent, rows), d.rule.midnight(now).Sub(now), d.rule)
	}
	g.rows.add(d.rule, now, uint64(rows))
	return nil
}

// decide holds the lock. It returns a plain error so that nil stays nil.
func (g *Guard) decide(r Request) (Decision, error) {
	if g.books.suspended() {
		return Decision{}, fault.New(fault.Policy, "E_POLICY_DENIED", "the site has suspended its agent's work").
			WithCause("the policy is suspended").WithSource(source).
			WithFix("at the site: ropeway-agent policy resume")
	}
	if g.policy == nil {
		return Decision{}, g.nothing(r)
	}
	now := g.config.Clock()
	d, refused := g.policy.decide(r, books{
		now:      now,
		spent:    func(rule *Rule) uint64 { return g.rows.spent(rule, now) },
		approved: func(r Request) bool { return g.books.has(StatementHash(r)) },
	})
	if refused != nil {
		return Decision{}, refused
	}
	return d, nil
}

func (g *Guard) nothing(r Request) error {
	e := denied(r, fmt.Sprintf("the policy file is %s, so everything is denied: %s",
		g.status.State, g.status.Error))
	if g.status.State == Broken {
		return e.WithFix("at the site: correct " + g.config.File + ", then look at `ropeway-agent policy check`")
	}
	return e.WithFix("at the site: write " + g.config.File + " with rules: and this rule: " + Suggest(r))
}
