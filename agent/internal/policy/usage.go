package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const usageFile = "policy.rows"

// usage counts the rows that rules with rowsPerDay let through. Changing a
// rule's limit keeps its count; a crash loses at most the last second.
type usage struct {
	path  string
	days  map[string]dayCount
	dirty bool
}

type dayCount struct {
	Day  string `json:"day"`
	Rows uint64 `json:"rows"`
}

func openUsage(dir string) (*usage, error) {
	u := &usage{path: filepath.Join(dir, usageFile), days: map[string]dayCount{}}
	text, err := os.ReadFile(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read row counts: %w", err)
	}
	if err := json.Unmarshal(text, &u.days); err != nil {
		return nil, fmt.Errorf("read row counts %s: %w", u.path, err)
	}
	return u, nil
}

func (u *usage) key(r *Rule) string { return r.Name + "\x00" + r.Connector + "\x00" + r.Target }

func (u *usage) spent(r *Rule, t time.Time) uint64 {
	c := u.days[u.key(r)]
	if c.Day != r.day(t) {
		return 0
	}
	return c.Rows
}

func (u *usage) add(r *Rule, t time.Time, rows uint64) {
	u.days[u.key(r)] = dayCount{r.day(t), u.spent(r, t) + rows}
	u.dirty = true
}

func (u *usage) save() error {
	if !u.dirty {
		return nil
	}
	text, err := json.Marshal(u.days)
	if err != nil {
		return err
	}
	if err := replaceFile(u.path, text); err != nil {
		return fmt.Errorf("save row counts: %w", err)
	}
	u.dirty = false
	return nil
}
