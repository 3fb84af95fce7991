package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
)

func (a *app) connectionCommand() *cobra.Command {
	ping := a.command("ping NAME", "Try whether a connection works; exit 3 if it is not reachable, 4 if it is refused",
		"  ropeway connection ping erp", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Ping(ctx, args[0])
			if err != nil {
				return err
			}
			if p.OK || p.Fault == nil {
				return a.print(p, fields("name", p.Name, "works", "yes", "took", seconds(p.Duration)))
			}
			if a.output == "table" {
				return p.Fault
			}
			if err := a.print(p, table{}); err != nil {
				return err
			}
			return exitError(exitOf(p.Fault))
		})
	queue := a.steerCommand("queue", "Show the queue and the state of a connection", (*client.Client).Queue)
	pause := a.steerCommand("pause", "Take a connection offline by hand; nothing is lost", (*client.Client).PauseConnection)
	resume := a.steerCommand("resume", "Take a connection online again; its jobs go on", (*client.Client).ResumeConnection)
	return a.group("connection", "Look after connections", "  ropeway connection queue erp", ping, queue, pause, resume)
}

func (a *app) steerCommand(verb, short string,
	do func(c *client.Client, ctx context.Context, name string) (model.ConnectionQueue, error)) *cobra.Command {
	return a.command(verb+" NAME", short, "  ropeway connection "+verb+" erp", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			q, err := do(c, ctx, args[0])
			if err != nil {
				return err
			}
			level := "burst"
			if q.Concurrency > 0 {
				level = number(int64(q.Concurrency))
			}
			t := fields("name", q.Name, "state", strings.TrimSpace(string(q.State)+" "+string(q.Cause)), "since", when(q.Since),
				"next probe", when(q.NextProbe), "concurrency", level, "borrows from", q.BorrowFrom,
				"queued", number(int64(q.Queued)), "in flight", number(int64(q.InFlight)), "oldest", when(q.Oldest),
				"borrowers", strings.Join(q.Borrowers, ", "))
			if q.Fault != nil {
				t.row("cause", q.Fault.Sentence+" ["+q.Fault.Code+"]")
				t.row("", q.Fault.Cause)
				t.row("next", q.Fault.Fix)
			}
			return a.print(q, t)
		})
}
