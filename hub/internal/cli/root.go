package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// The exit codes (SURFACE §1).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
)

// Streams are the standard streams of a command.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs one command line and returns its exit code.
func Main(version string, args []string, s Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{version: version, Streams: s}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if !a.started {
		err = usageError{err}
	}
	a.complain(err)
	return exitCode(err)
}

// app is what all commands share.
type app struct {
	Streams
	version string
	started bool // arguments and flags were right, the command began

	output  string
	quiet   bool
	profile string
	config  client.Config
}

// usageError is a wrong command line.
type usageError struct{ error }

// exitError ends with a code after everything was said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func exitCode(err error) int {
	var code exitError
	var usage usageError
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitFailed
	}
	return exitOf(fault.From(err))
}

// exitOf is the exit code of a fault.
func exitOf(f *fault.Error) int {
	switch {
	case f.Code == "E_CONFIG":
		return exitUsage
	case f.Class == fault.Connection:
		return exitUnreachable
	case f.Class == fault.Auth || f.Class == fault.Policy:
		return exitRefused
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ropeway",
		Short: "Build and operate flows on a Ropeway hub",
		Long: "Build and operate flows on a Ropeway hub.\n\n" +
			"The hub is chosen by ROPEWAY_URL, ROPEWAY_CA and ROPEWAY_TOKEN_FILE (or ROPEWAY_TOKEN),\n" +
			"or by the profile that `ropeway login` wrote.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 refused.",
		Example:           "  ropeway apply -f manifests/\n  ropeway flow run orders-to-warehouse --wait",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFlags() },
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", "table", "output as table, json or yaml")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print results only, no progress and no notes")
	flags.StringVar(&a.config.URL, "url", "", "address of the hub (default $ROPEWAY_URL)")
	flags.StringVar(&a.config.CA, "ca", "", "authority file of the hub (default $ROPEWAY_CA)")
	flags.StringVar(&a.config.Environment, "environment", "", "environment (default $ROPEWAY_ENVIRONMENT)")
	flags.StringVar(&a.profile, "profile", "", "profile that login wrote (default: the last one)")
	root.AddCommand(a.loginCommand(), a.applyCommand(), a.getCommand(), a.describeCommand(), a.deleteCommand(),
		a.secretCommand(), a.agentCommand(), a.flowCommand(), a.jobCommand(), a.errorCommand(), a.proveCommand(),
		a.connectionCommand(), a.auditCommand(), a.versionCommand())
	a.chooses(root)
	return root
}

func (a *app) checkFlags() error {
	switch a.output {
	case "table", "json", "yaml":
		return nil
	}
	return fmt.Errorf("unknown output %q; use table, json or yaml", a.output)
}

// chooses makes a command that only groups others ask for one of them.
func (a *app) chooses(group *cobra.Command) {
	group.Args = cobra.ArbitraryArgs
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			if err := cmd.Help(); err != nil {
				return err
			}
			return fmt.Errorf("choose a command of %q", cmd.CommandPath())
		}
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		if near := model.Nearest(args[0], names); near != "" {
			return fmt.Errorf("unknown command %q of %q, did you mean %s?", args[0], cmd.CommandPath(), near)
		}
		return fmt.Errorf("unknown command %q of %q", args[0], cmd.CommandPath())
	}
}

// group makes a command that only groups others.
func (a *app) group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example}
	c.AddCommand(commands...)
	a.chooses(c)
	return c
}

// command makes a command that talks to the hub.
func (a *app) command(use, short, example string, args cobra.PositionalArgs,
	run func(ctx context.Context, c *client.Client, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.started = true
			c, err := a.client()
			if err != nil {
				return err
			}
			return run(cmd.Context(), c, args)
		}}
}

func (a *app) client() (*client.Client, error) {
	config, err := client.Resolve(a.config, a.profile, os.Getenv)
	if err != nil {
		return nil, err
	}
	config.Version = a.version
	return client.New(config)
}

// complain says what went wrong: one sentence, the cause, and what to do next.
func (a *app) complain(err error) {
	var code exitError
	if errors.As(err, &code) {
		return
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.Err, "error: %v\n  next: see the command with --help\n", err)
		return
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.Err, "error: interrupted")
		return
	}
	var p *model.Problem
	if errors.As(err, &p) && len(p.Errors) > 1 {
		for _, e := range p.Errors {
			a.complainOnce(e.Code, e.Title, e.Cause, e.Fix)
		}
		return
	}
	var all model.Faults
	if errors.As(err, &all) {
		for _, f := range all {
			a.complainOnce(f.Code, f.Sentence, f.Cause, f.Fix)
		}
		return
	}
	f := fault.From(err)
	if f.Code == "E_INTERNAL" && p == nil {
		a.complainOnce("", err.Error(), "", "")
		return
	}
	a.complainOnce(f.Code, f.Sentence, f.Cause, f.Fix)
}

func (a *app) complainOnce(code, sentence, cause, fix string) {
	line := "error: " + printable(sentence)
	if code != "" {
		line += " [" + code + "]"
	}
	if cause != "" {
		line += "\n  cause: " + printable(cause)
	}
	if fix != "" {
		line += "\n  next:  " + printable(fix)
	}
	fmt.Fprintln(a.Err, line)
}

// note says something that is no result.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.Err, printable(fmt.Sprintf(format, args...)))
	}
}

// printable keeps what came from elsewhere from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}
