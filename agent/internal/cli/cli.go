// Package cli is the command line of ropeway-agent: it reads flags, environment
// and configuration file, asks the running agent over its local API or works on
// the state directory when none runs, and prints what came of it. It knows the
// agent's door, not its rooms.
package cli

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ropeway/agent"
	"ropeway/agent/internal/localapi"
)

// Streams are what a command reads and writes, and the environment it sees.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string
}

// Main runs one command and returns the exit code of the process: 0 done, 1
// failed, 2 wrong usage, 3 not reachable, 4 refused.
func Main(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	return a.fail(root.ExecuteContext(ctx))
}

// Std are the streams of this process.
func Std() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}
}

// app is what the commands of one call share.
type app struct {
	Streams
	flags flags
}

// flags are the common flags as given; empty ones were not.
type flags struct {
	config, instance               string
	state, policy, transport, name string
	output                         string
	quiet                          bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ropeway-agent",
		Short: "Carry data between the systems of this site and a Ropeway hub",
		Long: "ropeway-agent runs inside the customer's network. It opens outbound tunnels to its\n" +
			"hub only, and touches only what the policy file of this site allows.",
		Example: "  ropeway-agent enroll --token-file token --state agent\n" +
			"  ropeway-agent run --state agent --policy policy.yaml\n" +
			"  ropeway-agent status --state agent -o json",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(flagHint(err)) })
	f := root.PersistentFlags()
	f.StringVar(&a.flags.config, "config", "", "configuration `file` (default /etc/ropeway/agent.yaml)")
	f.StringVar(&a.flags.instance, "instance", "", "`name` of this agent among several on one machine")
	f.StringVar(&a.flags.state, "state", "", "state `directory` of key, certificate and buffer")
	f.StringVar(&a.flags.policy, "policy", "", "policy `file` of this site")
	f.BoolVarP(&a.flags.quiet, "quiet", "q", false, "print results only")
	root.AddCommand(a.enroll(), a.run(), a.status(), a.identity(), a.policy(), a.buffer(), a.credentials(),
		a.rotateKey(), a.drain(), a.version())
	strict(root)
	return root
}

// strict makes a group without a command, and what follows a command without
// arguments, wrong usage.
func strict(c *cobra.Command) {
	if c.HasSubCommands() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error { return missingCommand(c, args) }
	} else if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage(err.Error() + "; see " + c.CommandPath() + " --help")
		}
		return nil
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

func missingCommand(c *cobra.Command, args []string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	choice := strings.Join(names, ", ")
	if len(args) > 0 {
		return usage("unknown command " + quote(args[0]) + " for " + c.CommandPath() + "; there are " + choice)
	}
	return usage(c.CommandPath() + " needs a command: " + choice)
}

// outputFlag adds -o to a command that prints data.
func (a *app) outputFlag(c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&a.flags.output, "output", "o", "table", "`format`: table, json or yaml")
	return c
}

// settings lays the flags over environment, file and defaults.
func (a *app) settings() (agent.Config, error) {
	file := a.flags.config
	if file == "" {
		file = a.env("ROPEWAY_AGENT_CONFIG")
	}
	c, err := agent.ReadConfig(file, a.chosenInstance(), a.Environ)
	if err != nil {
		return c, err
	}
	for to, value := range map[*string]string{
		&c.State: a.flags.state, &c.Policy: a.flags.policy, &c.Transport: a.flags.transport, &c.Name: a.flags.name,
	} {
		if value != "" {
			*to = value
		}
	}
	if err := c.Validate(); err != nil {
		return c, err
	}
	return c, actAsOwner(c.State)
}

// chosenInstance is the agent meant among several on this machine, "" for the only one.
func (a *app) chosenInstance() string {
	if a.flags.instance != "" {
		return a.flags.instance
	}
	return a.env("ROPEWAY_AGENT_INSTANCE")
}

func (a *app) env(name string) string {
	for _, variable := range a.Environ {
		if key, value, _ := strings.Cut(variable, "="); key == name {
			return value
		}
	}
	return ""
}

// connect gives a client of the running agent.
func (a *app) connect() (agent.Config, *localapi.Client, error) {
	c, err := a.settings()
	if err != nil {
		return c, nil, err
	}
	return c, localapi.Connect(c.SocketPath()), nil
}
