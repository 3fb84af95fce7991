package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ropeway/protocol/fault"
)

const (
	approvedFile  = "policy.approved"
	suspendedFile = "policy.suspended"
	maxWaiting    = 64       // refused statements that are remembered
	maxStatement  = 64 << 10 // bytes of one that is remembered
)

// Statement is one free statement on one target, approved or waiting.
type Statement struct {
	Hash      string    `json:"hash"`
	Connector string    `json:"connector"`
	Target    string    `json:"target"`
	Verb      Verb      `json:"verb"`
	SQL       string    `json:"sql"`
	At        time.Time `json:"at"` // when it was refused or approved
}

// StatementHash names a free statement with everything it is approved for.
func StatementHash(r Request) string {
	h := sha256.New()
	for _, part := range []string{r.Connector, r.Target, string(r.Verb), r.Schema, r.SQL} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// approvals is the file of approved statements beside the suspend mark.
type approvals struct {
	dir  string
	list map[string]Statement
	seen fs.FileInfo
}

func openApprovals(dir string) (*approvals, error) {
	a := &approvals{dir: dir, list: map[string]Statement{}}
	return a, a.reload()
}

func (a *approvals) path() string { return filepath.Join(a.dir, approvedFile) }

func (a *approvals) reload() error {
	info, err := os.Stat(a.path())
	if errors.Is(err, fs.ErrNotExist) {
		clear(a.list)
		a.seen = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at approvals: %w", err)
	}
	if a.seen != nil && os.SameFile(a.seen, info) &&
		a.seen.ModTime().Equal(info.ModTime()) && a.seen.Size() == info.Size() {
		return nil
	}
	clear(a.list) // what cannot be read approves nothing
	text, err := os.ReadFile(a.path())
	if err != nil {
		return fmt.Errorf("read approvals: %w", err)
	}
	var list []Statement
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("read approvals %s: %w", a.path(), err)
	}
	for _, s := range list {
		a.list[s.Hash] = s
	}
	a.seen = info
	return nil
}

func (a *approvals) has(hash string) bool {
	_, ok := a.list[hash]
	return ok
}

func (a *approvals) add(s Statement) error {
	if err := a.reload(); err != nil {
		return err
	}
	a.list[s.Hash] = s
	text, err := json.MarshalIndent(a.sorted(), "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(a.path(), text); err != nil {
		return fmt.Errorf("write approvals: %w", err)
	}
	a.seen, err = os.Stat(a.path())
	return err
}

func (a *approvals) sorted() []Statement {
	list := make([]Statement, 0, len(a.list))
	for _, s := range a.list {
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y Statement) int { return x.At.Compare(y.At) })
	return list
}

// suspended reports whether the mark is there. A mark that cannot be looked at counts.
func (a *approvals) suspended() bool {
	if a.dir == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(a.dir, suspendedFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// replaceFile writes a small file so that a crash leaves the old or the new one.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".policy-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// remember keeps a refused free statement, so that the site can approve it by
// its hash. The caller holds the lock.
func (g *Guard) remember(r Request) {
	if r.SQL == "" || len(r.SQL) > maxStatement {
		return
	}
	hash := StatementHash(r)
	if slices.ContainsFunc(g.refuse, func(s Statement) bool { return s.Hash == hash }) {
		return
	}
	if len(g.refuse) == maxWaiting {
		g.refuse = g.refuse[1:]
	}
	g.refuse = append(g.refuse, Statement{hash, r.Connector, r.Target, r.Verb, r.SQL, g.config.Clock()})
}

// Waiting lists the free statements that were refused lately, oldest first.
func (g *Guard) Waiting() []Statement {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.refuse)
}

// Approved lists the approved statements, oldest first.
func (g *Guard) Approved() []Statement {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.books.sorted()
}

// Approve lets a statement run that was refused before, by its hash.
func (g *Guard) Approve(hash string) (Statement, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.refuse, func(s Statement) bool { return s.Hash == hash })
	if i < 0 {
		return Statement{}, fault.New(fault.Missing, "E_NOT_FOUND", "no refused statement has this hash").
			WithFix("run the flow once, then look at `ropeway-agent policy show`")
	}
	s := g.refuse[i]
	s.At = g.config.Clock()
	if err := g.books.add(s); err != nil {
		return Statement{}, err
	}
	g.refuse = slices.Delete(g.refuse, i, i+1)
	return s, nil
}

// ApproveStatement approves the free statement of r without waiting for a refusal.
func (g *Guard) ApproveStatement(r Request) (Statement, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Statement{StatementHash(r), r.Connector, r.Target, r.Verb, r.SQL, g.config.Clock()}
	return s, g.books.add(s)
}

// Suspend denies everything until Resume, also over restarts.
func (g *Guard) Suspend() error {
	return replaceFile(filepath.Join(g.config.StateDir, suspendedFile), []byte("suspended\n"))
}

// Resume lets the policy decide again.
func (g *Guard) Resume() error {
	err := os.Remove(filepath.Join(g.config.StateDir, suspendedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
