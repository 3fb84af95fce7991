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
			"at once; nothing is lost by it. As a systemd service it enrolls with the token of its\n" +
			"unit, or waits until somebody has enrolled it; SIGHUP reads the policy again.",
		Example: "  ropeway-agent run --state agent --policy policy.yaml",
	}
	c.Flags().StringVar(&a.flags.transport, "transport", "", "`transport` of the tunnel: tcp, quic or auto (tcp first, quic where it works)")
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
		service := agent.Systemd(a.chosenInstance(), a.Environ)
		var reload <-chan struct{}
		if service != nil { // for anybody else a hang-up is the end of their terminal
			var forget func()
			reload, forget = hangUps(ctx)
			defer forget()
		}
		return agent.Run(ctx, cfg, agent.Process{
			Log:   slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level})),
			Ready: func() { fmt.Fprintln(a.Out, "ready") },
			Drain: drain, Reload: reload, Service: service,
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

// hangUps hands on each SIGHUP; several at once are one. forget gives it back.
func hangUps(ctx context.Context) (told <-chan struct{}, forget func()) {
	signals, out, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case <-ctx.Done():
				return
			case out <- struct{}{}:
			}
		}
	}()
	return out, func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}
