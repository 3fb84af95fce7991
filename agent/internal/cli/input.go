package cli

import (
	"fmt"
	"io"
	"os"

	"ropeway/protocol/fault"
)

// readSecret reads a bounded secret from a file or, for "-", standard input. A
// file that others may read is used, with a warning.
func (a *app) readSecret(what, path string, limit int64) ([]byte, error) {
	if path == "-" {
		return a.bounded(what, "standard input", a.In, limit)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(what, path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("it is a directory")
	}
	if err != nil {
		return nil, unreadable(what, path, err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o044 != 0 {
		a.say("warning: %s may be read by other users (mode %04o)", path, info.Mode().Perm())
	}
	return a.bounded(what, path, file, limit)
}

func (a *app) bounded(what, from string, r io.Reader, limit int64) ([]byte, error) {
	if r == nil {
		return nil, unreadable(what, from, fmt.Errorf("it is closed"))
	}
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, unreadable(what, from, err)
	}
	return text, nil
}

func unreadable(what, path string, err error) error {
	if at, ok := err.(*os.PathError); ok {
		err = at.Err
	}
	return fault.Of("E_REQUEST").WithSentence(fmt.Sprintf("%s cannot be read from %s", what, path)).
		WithCause(err).WithFix("name a readable file, or - for standard input")
}
