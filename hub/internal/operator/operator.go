// Package operator is the command line of ropeway-hub: serve, init, check,
// admin and version. It reads flags and files and says what went wrong; the work
// is done by package hub, which it is handed.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ropeway/hub"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
)

// Exit codes of every command.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
)

// usageError marks wrong use of the command line.
type usageError struct{ error }

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	root := command(stdout, stderr)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	f := fault.From(err)
	if f.Code == "E_INTERNAL" {
		fmt.Fprintln(stderr, "ropeway-hub:", err)
	} else {
		fmt.Fprintln(stderr, "ropeway-hub:", f.Code+":", f)
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "see ropeway-hub --help")
		return exitUsage
	case f.Class == fault.Connection:
		return exitUnreachable
	case f.Class == fault.Auth, f.Class == fault.Policy:
		return exitRefused
	}
	return exitFailed
}

func command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "ropeway-hub", Short: "The cloud side of Ropeway: one binary with embedded parts",
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("say what to do")} },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serve(stdout, stderr), initialise(stdout), check(stdout), admin(stdout), version(stdout))
	for _, c := range root.Commands() {
		if c.Args == nil && c.RunE != nil {
			c.Args = noArguments
		}
	}
	return root
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected %q", args[0])}
	}
	return nil
}

// flags are the settings that serve and check take beside the config file.
type flags struct{ config, data, listen, ops string }

func (f *flags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "config `file` (see ropeway-hub init)")
	c.Flags().StringVar(&f.data, "data", "", "`folder` of everything the hub keeps")
	c.Flags().StringVar(&f.listen, "listen", "", "`host:port` for agents, enrollment and the API")
	c.Flags().StringVar(&f.ops, "ops-listen", "", "`host:port` for metrics and health; keep it on loopback")
}

// read lays the flags over file and environment.
func (f *flags) read() (hub.Config, error) {
	c, err := hub.ReadConfig(f.config, os.Environ())
	if err != nil {
		return c, usageError{err}
	}
	for value, field := range map[*string]*string{&f.data: &c.Data, &f.listen: &c.Listen, &f.ops: &c.OpsListen} {
		if *value != "" {
			*field = *value
		}
	}
	if err := c.Validate(); err != nil {
		return c, usageError{err}
	}
	return c, nil
}

func serve(stdout, stderr io.Writer) *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "serve", Short: "Run the hub until SIGTERM; it needs no setting",
		Example: "  ropeway-hub serve --data /var/lib/ropeway-hub --listen 0.0.0.0:8443",
		RunE: func(*cobra.Command, []string) error {
			config, err := f.read()
			if err != nil {
				return err
			}
			ctx, stop := untilSignal()
			defer stop()
			return hub.Run(ctx, config, control.Version, stdout, logger(stderr, config.Log))
		},
	}
	f.add(c)
	return c
}

// untilSignal returns a context that ends at the first SIGTERM or Ctrl-C; the
// second one ends the process at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitFailed)
	}()
	return ctx, cancel
}

func logger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}

func initialise(stdout io.Writer) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "init", Short: "Write a documented config file",
		Example: "  ropeway-hub init --config /etc/ropeway/hub.yaml",
		RunE: func(*cobra.Command, []string) error {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("%s exists already; remove it or choose another --config", path)
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString(hub.SampleConfig)
			if err = errors.Join(err, f.Close()); err == nil {
				fmt.Fprintln(stdout, "wrote", path)
			}
			return err
		},
	}
	c.Flags().StringVar(&path, "config", "hub.yaml", "`file` to write; never overwritten")
	return c
}

func check(stdout io.Writer) *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "check", Short: "Check the config, and the data folder of a stopped hub",
		Example: "  ropeway-hub check --config /etc/ropeway/hub.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := f.read()
			if err != nil {
				return err
			}
			return hub.Check(c.Context(), config, stdout)
		},
	}
	f.add(c)
	return c
}

func admin(stdout io.Writer) *cobra.Command {
	var data string
	group := &cobra.Command{
		Use: "admin", Short: "Sign-in of administrators, on the hub's own machine",
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("write create or reset")} },
	}
	group.PersistentFlags().StringVar(&data, "data", hub.DefaultConfig().Data, "data `folder` of the running hub")
	for use, short := range map[string]string{
		"create": "Make one more administrator token and print it once",
		"reset":  "Revoke all administrator tokens, make a new one and write it to admin.token",
	} {
		group.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: noArguments, Example: "  ropeway-hub admin " + use + " --data /var/lib/ropeway-hub",
			RunE: func(c *cobra.Command, _ []string) error { return hub.Admin(c.Context(), data, use, stdout) },
		})
	}
	return group
}

func version(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  ropeway-hub version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(stdout, "ropeway-hub", control.Version)
			return err
		},
	}
}
