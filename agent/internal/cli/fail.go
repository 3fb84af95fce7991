package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"ropeway/protocol/fault"
)

// Exit codes of every Ropeway program.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitNoReach = 3
	exitRefused = 4
)

const codeUsage = "E_USAGE"

// usage is an error in how the command was called.
func usage(cause string) error {
	return fault.New(fault.Value, codeUsage, "wrong usage").WithCause(cause)
}

// flagHint adds what somebody needs to know who passed a secret as a flag.
func flagHint(err error) string {
	if text := err.Error(); strings.HasSuffix(text, "--token") || strings.HasSuffix(text, "--password") {
		return text + ": a secret never travels on a command line, where others can read it; " +
			"make a new one and pass it with --token-file or --file, as a file or - for standard input"
	}
	return err.Error()
}

// fail prints an error as sentence, cause and next step, and picks the exit code.
func (a *app) fail(err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.Err, "interrupted")
		return exitFailed
	}
	f := fault.From(err)
	fmt.Fprintf(a.Err, "error: %s [%s]\n", oneLine(f.Sentence), f.Code)
	if f.Cause != "" {
		fmt.Fprintf(a.Err, "  cause: %s\n", oneLine(f.Cause))
	}
	if f.Fix != "" {
		fmt.Fprintf(a.Err, "  next:  %s\n", oneLine(f.Fix))
	}
	return exitCode(f)
}

func exitCode(f *fault.Error) int {
	switch f.Code {
	case codeUsage, "E_CONFIG", "E_REQUEST":
		return exitUsage
	case "E_POLICY_INVALID":
		return exitFailed
	}
	switch f.Class {
	case fault.Connection:
		return exitNoReach
	case fault.Auth, fault.Policy:
		return exitRefused
	}
	return exitFailed
}

// oneLine keeps control characters from outside off the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !strconv.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

func quote(text string) string {
	if len(text) > 60 {
		text = text[:60] + "…"
	}
	return strconv.Quote(text)
}
