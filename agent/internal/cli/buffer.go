package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"ropeway/agent/internal/localapi"
	"ropeway/protocol/fault"
)

func (a *app) buffer() *cobra.Command {
	c := &cobra.Command{
		Use:     "buffer",
		Short:   "Look at the pages that wait on this machine",
		Example: "  ropeway-agent buffer status --state agent",
	}
	c.AddCommand(a.bufferStatus(), a.bufferList(), a.bufferVerify(), a.bufferPurge())
	return c
}

func (a *app) bufferStatus() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "status", Short: "Show how much waits and since when",
		Example: "  ropeway-agent buffer status --state agent -o json",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		b, err := ask(a, c.Context(), (*localapi.Client).BufferStatus,
			source(func(s localapi.Source) call[localapi.BufferStatus] { return s.BufferStatus }))
		if err != nil {
			return err
		}
		return a.print(b, func() table {
			return table{rows: [][]string{{"buffer", bufferText(b)}, {"not yet taken by the hub", fmt.Sprint(b.Unacked)}}}
		})
	}
	return c
}

func (a *app) bufferList() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "list", Short: "List the waiting pages, oldest first",
		Example: "  ropeway-agent buffer list --state agent",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		list, err := ask(a, c.Context(), (*localapi.Client).BufferList,
			source(func(s localapi.Source) call[[]localapi.BufferPage] {
				return func(ctx context.Context) ([]localapi.BufferPage, error) { return s.BufferList(ctx, listed) }
			}))
		if err != nil {
			return err
		}
		if len(list) == listed {
			a.say("the oldest %d pages are shown", listed)
		}
		return a.print(list, func() table {
			t := table{head: []string{"PAGE", "STATE", "RECORDS", "SIZE", "SINCE"}}
			for _, p := range list {
				t.rows = append(t.rows, []string{p.Name, p.State, fmt.Sprint(p.Records), bytesText(p.Bytes), moment(p.Put)})
			}
			return t
		})
	}
	return c
}

// listed is how many pages `buffer list` shows.
const listed = localapi.ListLimit

func (a *app) bufferVerify() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "verify", Short: "Read every waiting page and compare it with its checksum",
		Example: "  ropeway-agent buffer verify --state agent",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		found, err := ask(a, c.Context(), (*localapi.Client).BufferVerify,
			source(func(s localapi.Source) call[localapi.BufferCheck] { return s.BufferVerify }))
		if err != nil {
			return err
		}
		err = a.print(found, func() table {
			t := table{rows: [][]string{{"checked", fmt.Sprint(found.Checked)}, {"damaged", fmt.Sprint(len(found.Damaged))}}}
			for _, name := range found.Damaged {
				t.rows = append(t.rows, []string{"", name})
			}
			return t
		})
		if err == nil && len(found.Damaged) > 0 {
			return fault.Of("E_CHECKSUM").WithCause(fmt.Sprintf("%d pages are damaged and set aside", len(found.Damaged))).
				WithFix("check the disk; keyed exports are read again by the hub, `buffer purge --damaged` gives the pages up")
		}
		return err
	}
	return c
}

func (a *app) bufferPurge() *cobra.Command {
	var request localapi.PurgeRequest
	c := a.outputFlag(&cobra.Command{
		Use:   "purge [PAGE…]",
		Short: "Delete waiting pages, whether they were delivered or not",
		Long: "purge gives data up on purpose: pages that the hub has not taken are lost with it.\n" +
			"Exports with a key are read again from their source.",
		Example: "  ropeway-agent buffer purge --damaged --state agent\n" +
			"  ropeway-agent buffer purge --all --state agent",
		Args: cobra.ArbitraryArgs,
	})
	c.Flags().BoolVar(&request.All, "all", false, "delete every page")
	c.Flags().BoolVar(&request.Damaged, "damaged", false, "delete the pages that are damaged")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		request.Names = args
		if !request.Valid() {
			return usage("name pages, or say --damaged or --all, and only one of these")
		}
		removed, err := ask(a, c.Context(),
			func(client *localapi.Client, ctx context.Context) (localapi.BufferPurge, error) {
				return client.BufferPurge(ctx, request)
			},
			source(func(s localapi.Source) call[localapi.BufferPurge] {
				return func(ctx context.Context) (localapi.BufferPurge, error) { return s.BufferPurge(ctx, request) }
			}))
		if err != nil {
			return err
		}
		return a.print(removed, func() table { return table{rows: [][]string{{"deleted", fmt.Sprint(removed.Pages)}}} })
	}
	return c
}
