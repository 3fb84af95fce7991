package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ropeway/agent"
)

func (a *app) run() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the agent until it is told to stop",
		Long: "run keeps a tunnel to the hub and does what the hub asks and the policy allows. It\n" +
			"prints \"ready\" on standard output when the tunnel is up, and logs to standard error.\n" +
			"SIGTERM or Ctrl-C drains: running work ends, nothing new starts. A second one stops\n" +
			"at once; nothing is lost by it.",
		Example: "  ropeway-agent run --state agent --policy policy.yaml",
	}
	c.Flags().StringVar(&a.flags.transport, "transport", "", "`transport` of the tunnel: auto or tcp")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := a.settings()
		if err != nil {
			return err
		}
		level, err := agent.ParseLevel(cfg.Log)
		if err != nil {
			return err
		}
		ctx, drain, stop := twoSignals(c.Context())
		defer stop()
		return agent.Run(ctx, cfg, agent.Process{
			Log:   slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level})),
			Ready: func() { fmt.Fprintln(a.Out, "ready") },
			Drain: drain,
		})
	}
	return c
}

// twoSignals closes drain at the first SIGTERM or interrupt and ends ctx at the
// second. stop gives the signals back.
func twoSignals(parent context.Context) (ctx context.Context, drain <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	first := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			if n == 1 {
				cancel()
				return
			}
			close(first)
		}
	}()
	return ctx, first, func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}
