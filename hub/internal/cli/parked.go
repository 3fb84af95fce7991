package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
)

func (a *app) errorCommand() *cobra.Command {
	show := a.command("show ID", "Show one parked record with its contents", "  ropeway error show ID -o json", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.ParkedRecord(ctx, args[0])
			if err != nil {
				return err
			}
			t := fields("id", r.ID.String(), "flow", r.FlowName, "step", r.Step, "state", string(r.State), "job", r.Job.String(),
				"page", r.Page, "key", r.TraceKey, "attempts", number(int64(r.Attempts)), "parked", at(r.Created))
			if r.Fault != nil {
				t.row("error", r.Fault.Sentence+" ["+r.Fault.Code+"]")
				t.row("cause", r.Fault.Cause)
				t.row("field", r.Fault.Field)
				t.row("next", r.Fault.Fix)
			}
			t.row("record", string(r.Record))
			return a.print(r, t)
		})
	return a.group("error", "Look at parked records, edit and retry them", "  ropeway error list --flow orders-to-warehouse",
		a.errorListCommand(), show, a.errorEditCommand(), a.errorRetryCommand())
}

func (a *app) errorListCommand() *cobra.Command {
	var flow, job, state string
	var limit int
	c := a.command("list", "List parked records", "  ropeway error list --flow orders-to-warehouse -o json", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			records, err := c.Parked(ctx, flow, job, state, limit)
			if err != nil {
				return err
			}
			t := table{head: []string{"ID", "FLOW", "STEP", "STATE", "CODE", "FIELD", "CAUSE"}}
			for _, r := range records {
				field, cause := "", ""
				if r.Fault != nil {
					field, cause = r.Fault.Field, r.Fault.Cause
				}
				t.row(r.ID.String(), r.FlowName, r.Step, string(r.State), r.Code, field, fmt.Sprintf("%.80s", cause))
			}
			return a.print(records, t)
		})
	c.Flags().StringVar(&flow, "flow", "", "only records of this flow")
	c.Flags().StringVar(&job, "job", "", "only records of this job")
	c.Flags().StringVar(&state, "state", "", "parked (default), retrying, resolved, ignored, superseded or all")
	c.Flags().IntVar(&limit, "limit", 1000, "records at most")
	return c
}

func (a *app) errorEditCommand() *cobra.Command {
	var file string
	var keep bool
	c := a.command("edit ID --file FILE|-", "Replace the contents of a parked record and retry it",
		"  ropeway error edit ID --file - <<< '{\"id\": 7, \"total\": 12.50}'", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			record, err := a.readInput(file)
			if err != nil {
				return err
			}
			edited, err := c.EditParked(ctx, args[0], record)
			if err != nil {
				return err
			}
			if keep {
				return a.print(edited, table{rows: [][]string{{edited.ID.String(), "edited"}}})
			}
			return a.retry(ctx, c, model.Retry{IDs: args})
		})
	c.Flags().StringVarP(&file, "file", "f", "", "file with the whole record as JSON, or - for standard input")
	c.Flags().BoolVar(&keep, "no-retry", false, "only edit; retry it later")
	required(c, "file")
	return c
}

func (a *app) errorRetryCommand() *cobra.Command {
	var flow string
	c := a.command("retry ID…|--flow NAME", "Retry parked records in a new job",
		"  ropeway error retry ID\n  ropeway error retry --flow orders-to-warehouse",
		func(_ *cobra.Command, args []string) error {
			if (len(args) == 0) == (flow == "") {
				return fmt.Errorf("give ids or --flow NAME")
			}
			return nil
		},
		func(ctx context.Context, c *client.Client, args []string) error {
			return a.retry(ctx, c, model.Retry{IDs: args, Flow: flow})
		})
	c.Flags().StringVar(&flow, "flow", "", "retry everything of this flow that is parked")
	return c
}

func (a *app) retry(ctx context.Context, c *client.Client, r model.Retry) error {
	result, err := c.RetryParked(ctx, r)
	if err != nil {
		return err
	}
	if result.More {
		a.note("more records wait than one retry takes; retry again when this one is done")
	}
	t := table{}
	for _, job := range result.Jobs {
		t.row(job)
	}
	return a.print(result, t)
}
