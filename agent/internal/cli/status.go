package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ropeway/agent/internal/localapi"
)

const watchEvery = 2 * time.Second

func (a *app) status() *cobra.Command {
	var watch bool
	c := a.outputFlag(&cobra.Command{
		Use:   "status",
		Short: "Show how the running agent is",
		Example: "  ropeway-agent status --state agent\n" +
			"  ropeway-agent status --state agent -o json\n" +
			"  ropeway-agent status --watch",
	})
	c.Flags().BoolVarP(&watch, "watch", "w", false, "print again every two seconds until Ctrl-C")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		_, client, err := a.connect()
		if err != nil {
			return err
		}
		defer client.Close()
		for {
			if err := a.showStatus(c.Context(), client); err != nil || !watch {
				return err
			}
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(watchEvery):
			}
		}
	}
	return c
}

func (a *app) showStatus(ctx context.Context, client *localapi.Client) error {
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	return a.print(s, func() table { return table{rows: statusRows(s)} })
}

func statusRows(s localapi.Status) [][]string {
	rows := [][]string{{"state", s.State}}
	if s.Cause != nil {
		cause := s.Cause.Sentence
		if s.Cause.Cause != "" {
			cause += ": " + s.Cause.Cause
		}
		rows = append(rows, []string{"cause", cause}, []string{"next", s.Cause.Fix})
	}
	rows = append(rows, []string{"name", s.Name}, []string{"group", s.Group}, []string{"hub", s.Hub})
	for _, t := range s.Tunnels {
		rows = append(rows, []string{"tunnel", fmt.Sprintf("%s to %s since %s", t.Transport, t.Remote, moment(t.Since))})
	}
	policy := fmt.Sprintf("%s, %d rules, %s", s.Policy.State, s.Policy.Rules, s.Policy.File)
	if s.Policy.Error != "" {
		policy += ": " + s.Policy.Error
	}
	return append(rows,
		[]string{"running", fmt.Sprint(s.Running)},
		[]string{"buffer", bufferText(s.Buffer)},
		[]string{"policy", policy},
		[]string{"certificate until", moment(s.Identity.NotAfter)},
		[]string{"version", fmt.Sprintf("%s, process %d since %s", s.Version, s.Process, moment(s.Started))},
	)
}

func bufferText(b localapi.BufferStatus) string {
	text := fmt.Sprintf("%d pages, %s of %s", b.Pages, bytesText(b.Bytes), bytesText(b.Quota))
	if b.Oldest != nil {
		text += ", oldest " + moment(*b.Oldest)
	}
	if b.Damaged > 0 {
		text += fmt.Sprintf(", %d damaged", b.Damaged)
	}
	return text
}

func (a *app) identity() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use:     "identity",
		Short:   "Show this agent's certificate, its end and its fingerprint",
		Example: "  ropeway-agent identity --state agent",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		i, err := ask(a, c.Context(), (*localapi.Client).Identity, whoAmI)
		if err != nil {
			return err
		}
		return a.printIdentity(i)
	}
	return c
}

func (a *app) printIdentity(i localapi.IdentityStatus) error {
	return a.print(i, func() table {
		return table{rows: [][]string{
			{"serial", i.Serial}, {"fingerprint", i.Fingerprint}, {"not after", moment(i.NotAfter)},
			{"renewed", moment(i.NextRenewal)}, {"identity", i.URI}, {"hub", i.Hub}, {"hub root pin", i.RootPin},
		}}
	})
}

func (a *app) rotateKey() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use:   "rotate-key",
		Short: "Make a new key and get a certificate for it",
		Long: "rotate-key makes a new key on this machine and trades the current certificate for\n" +
			"one of the new key. Should it fail, the old key stays in use.",
		Example: "  ropeway-agent rotate-key --state agent",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		i, err := ask(a, c.Context(), (*localapi.Client).RotateKey, source(func(s localapi.Source) call[localapi.IdentityStatus] { return s.RotateKey }))
		if err != nil {
			return err
		}
		a.say("the new key is in use")
		return a.printIdentity(i)
	}
	return c
}

func (a *app) drain() *cobra.Command {
	return &cobra.Command{
		Use:     "drain",
		Short:   "Let the running agent finish its work and end",
		Example: "  ropeway-agent drain --state agent",
		RunE: func(c *cobra.Command, _ []string) error {
			_, client, err := a.connect()
			if err != nil {
				return err
			}
			defer client.Close()
			if err := client.Drain(c.Context()); err != nil {
				return err
			}
			a.say("draining: running work ends, then the agent does")
			return nil
		},
	}
}
