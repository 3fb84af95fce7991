package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
)

func (a *app) auditCommand() *cobra.Command {
	var limit int
	list := a.command("list", "List the audit log, newest first", "  ropeway audit list --limit 20", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			rows, err := c.Audit(ctx, limit)
			if err != nil {
				return err
			}
			t := table{head: []string{"SEQ", "AT", "WHO", "ACTION", "KIND", "NAME", "DETAIL"}}
			for _, r := range rows {
				t.row(fmt.Sprint(r.Seq), at(r.At), r.Actor, r.Action, r.Kind, r.Object, r.Detail)
			}
			return a.print(rows, t)
		})
	list.Flags().IntVar(&limit, "limit", 100, "rows at most")
	verify := a.command("verify", "Check that nothing in the audit log was changed; exit 1 if something was",
		"  ropeway audit verify", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			check, err := c.VerifyAudit(ctx)
			if err != nil {
				return err
			}
			if err := a.print(check, fields("sound", fmt.Sprint(check.OK), "rows", fmt.Sprint(check.Rows))); err != nil {
				return err
			}
			if !check.OK && check.Fault != nil && a.output == "table" {
				return check.Fault
			}
			if !check.OK {
				return exitError(exitFailed)
			}
			return nil
		})
	return a.group("audit", "Look at the audit log", "  ropeway audit verify", list, verify)
}

// versionPatience is how long `version` waits for a hub that may not be there.
const versionPatience = 3 * time.Second

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version of this program, and of the hub if it answers",
		Example: "  ropeway version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			out := map[string]string{"client": a.version}
			t := fields("client", a.version)
			if c, err := a.client(); err == nil {
				ctx, cancel := context.WithTimeout(cmd.Context(), versionPatience)
				defer cancel()
				if v, err := c.ServerVersion(ctx); err == nil {
					out["hub"] = v.Version
					t.row("hub", v.Version+" at "+c.URL())
				} else {
					a.note("the hub does not answer: %v", err)
				}
			}
			return a.print(out, t)
		}}
}
