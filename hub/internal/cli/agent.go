package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
)

func (a *app) agentCommand() *cobra.Command {
	list := a.command("list", "List the agents", "  ropeway agent list -o json", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			agents, err := c.Agents(ctx)
			if err != nil {
				return err
			}
			t := table{head: []string{"NAME", "GROUP", "STATE", "TRANSPORT", "VERSION", "LAST SEEN"}}
			for _, g := range agents {
				t.row(g.Name, g.GroupName, string(g.State), g.Transport, g.Version, when(g.LastSeen))
			}
			return a.print(agents, t)
		})
	show := a.command("show NAME", "Show one agent", "  ropeway agent show plant-7-a", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.Agent(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printAgent(g)
		})
	revoke := a.command("revoke NAME", "Revoke an agent's identity for ever; its tunnels are closed",
		"  ropeway agent revoke plant-7-a", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.RevokeAgent(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printAgent(g)
		})
	return a.group("agent", "Enroll and look after agents", "  ropeway agent token --group plant-7 --out token",
		a.agentTokenCommand(), list, show, revoke)
}

func (a *app) printAgent(g model.Agent) error {
	return a.print(g, fields("name", g.Name, "id", g.ID.String(), "group", g.GroupName, "state", string(g.State),
		"host", g.Hostname, "system", g.OS+" "+g.Arch, "version", g.Version, "transport", g.Transport, "remote", g.Remote,
		"certificate", g.Fingerprint, "expires", when(g.NotAfter), "enrolled", at(g.Enrolled), "last seen", when(g.LastSeen),
		"revoked", when(g.Revoked)))
}

func (a *app) agentTokenCommand() *cobra.Command {
	var group, out string
	var o model.TokenOptions
	var ttl time.Duration
	c := a.command("token --group GROUP", "Make a one-time enrollment token",
		"  ropeway agent token --group plant-7 --out token", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			o.TTLSeconds = int64(ttl / time.Second)
			token, err := c.AgentToken(ctx, group, o)
			if err != nil {
				return err
			}
			if out == "" {
				return a.print(token, table{rows: [][]string{{token.Token}}})
			}
			if err := client.WritePrivate(out, []byte(token.Token+"\n")); err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "expires": token.Expires},
				fields("file", out, "expires", at(token.Expires)))
		})
	c.Flags().StringVar(&group, "group", "", "agent group the agent will belong to")
	c.Flags().StringVar(&out, "out", "", "write the token to this file, readable by this user only")
	c.Flags().StringVar(&o.Agent, "name", "", "the only agent name the token may be used with")
	c.Flags().IntVar(&o.Uses, "uses", 0, "how often it may be used (default once)")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long it may be used (default 1h)")
	required(c, "group")
	return c
}
