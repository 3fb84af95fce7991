package cli

import (
	"time"

	"github.com/spf13/cobra"

	"ropeway/agent"
	"ropeway/certs/enroll"
)

const maxTokenFile = 64 << 10

func (a *app) enroll() *cobra.Command {
	var tokenFile, hub string
	c := &cobra.Command{
		Use:   "enroll",
		Short: "Get this machine's first certificate with a one-time token",
		Long: "enroll makes a key on this machine, proves with the token's pin that the hub is the\n" +
			"right one, and trades the token for a certificate. After a lost answer it may be\n" +
			"repeated with the same token.",
		Example: "  ropeway-agent enroll --token-file token --state agent\n" +
			"  cat token | ropeway-agent enroll --token-file - --hub https://hub.example:8443",
	}
	c.Flags().StringVar(&tokenFile, "token-file", "", "`file` that holds the token, - for standard input")
	c.Flags().StringVar(&hub, "hub", "", "`URL` of the hub, when it is reached by another name than the token says")
	c.Flags().StringVar(&a.flags.name, "name", "", "`name` to ask for; left out, the hub chooses")
	a.outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		if tokenFile == "" {
			return usage("--token-file is missing: name the file with the token, or - for standard input")
		}
		text, err := a.readSecret("the token", tokenFile, maxTokenFile)
		if err != nil {
			return err
		}
		cfg, err := a.settings() // may give up the right to read the file
		if err != nil {
			return err
		}
		token, err := enroll.ParseToken(string(text))
		if err != nil {
			return err
		}
		for _, url := range []string{cfg.Hub, token.Hub} {
			if hub == "" {
				hub = url
			}
		}
		a.say("asking %s …", hub)
		enrolled, err := agent.Enroll(c.Context(), cfg, token, hub)
		if err != nil {
			return err
		}
		a.say("enrolled; start it with: ropeway-agent run --state %s", cfg.State)
		return a.print(enrolled, func() table {
			return table{rows: [][]string{
				{"name", enrolled.Name}, {"agent", enrolled.Agent}, {"group", enrolled.Group}, {"tenant", enrolled.Tenant},
				{"environment", enrolled.Environment}, {"hub", enrolled.Hub},
				{"certificate until", enrolled.NotAfter.Local().Format(time.RFC3339)},
			}}
		})
	}
	return c
}
