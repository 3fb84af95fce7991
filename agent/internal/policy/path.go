package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Path is the file access check of a connector: it answers the real path to
// open for p, or a policy error. Symbolic links are resolved and what they lead
// to must be allowed as well; ".." is refused; the agent's state is out of reach.
func (g *Guard) Path(r Request) func(p string) (string, error) {
	return func(p string) (string, error) {
		real, err := g.resolve(r, p)
		if err != nil {
			return "", err
		}
		info, err := os.Lstat(real)
		if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			return "", denied(r, fmt.Sprintf("%s is not a regular file", p))
		}
		return real, nil
	}
}

func (g *Guard) resolve(r Request, p string) (string, error) {
	if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) || hasDotDot(p) {
		return "", denied(r, fmt.Sprintf("%q must be an absolute path without ..", p))
	}
	asked := r
	if p != r.Target {
		asked.Target = p
	}
	if err := g.Check(asked.connect()); err != nil {
		return "", err
	}
	real, err := realPath(p)
	if err != nil {
		return "", denied(r, fmt.Sprintf("%s cannot be resolved: %v", p, err))
	}
	if real != filepath.Clean(p) {
		asked.Target = real
		if err := g.Check(asked.connect()); err != nil {
			return "", denied(asked, fmt.Sprintf("%s leads to %s, which no rule allows", p, real))
		}
	}
	if g.inState(real) {
		return "", denied(r, fmt.Sprintf("%s belongs to the agent itself", p))
	}
	return real, nil
}

// inState reports whether p lies in the agent's state directory.
func (g *Guard) inState(p string) bool {
	if g.config.StateDir == "" {
		return false
	}
	dir, err := filepath.Abs(g.config.StateDir)
	if err != nil {
		return true
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return p == dir || strings.HasPrefix(p, dir+string(filepath.Separator))
}

// realPath resolves symbolic links of p; its last element need not exist.
func realPath(p string) (string, error) {
	p = filepath.Clean(p)
	real, err := filepath.EvalSymlinks(p)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(p); err == nil {
		return "", errors.New("it is a symbolic link to nothing")
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(p))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(p)), nil
}

func hasDotDot(p string) bool {
	return slices.Contains(strings.FieldsFunc(p, func(r rune) bool { return r == '/' || r == '\\' }), "..")
}
