package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// patience is how long a hub may be away while a job is followed.
const patience = 10 * time.Minute

func (a *app) flowCommand() *cobra.Command {
	var wait bool
	var timeout time.Duration
	run := a.command("run NAME", "Start a job of a flow",
		"  ropeway flow run orders-to-warehouse\n  ropeway flow run orders-to-warehouse --wait -o json", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			job, err := c.RunFlow(ctx, args[0])
			if err != nil {
				return err
			}
			if !wait {
				return a.print(map[string]string{"id": job.ID.String()}, table{rows: [][]string{{job.ID.String()}}})
			}
			return a.wait(ctx, c, job.ID.String(), timeout)
		})
	run.Flags().BoolVarP(&wait, "wait", "w", false, "wait until the job ends, or pauses by what waiting cannot cure")
	run.Flags().DurationVar(&timeout, "timeout", 0, "with --wait: give up waiting after this time (the job goes on)")
	return a.group("flow", "Run flows", "  ropeway flow run orders-to-warehouse --wait", run)
}

// wait follows a job to its end, prints it, and ends with its exit code.
func (a *app) wait(ctx context.Context, c *client.Client, id string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	p := a.progress()
	job, err := c.WatchJob(ctx, id, patience, func(j model.Job) bool {
		p.show(j)
		return !stuck(j)
	})
	p.end()
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the job %s did not end within %v; it goes on (ropeway job watch %s)", id, timeout, id)
	}
	if err != nil {
		return err
	}
	if err := a.printJob(job); err != nil {
		return err
	}
	if code := jobExit(job); code != exitDone {
		return exitError(code)
	}
	return nil
}

// stuck reports whether a job is paused by a cause that waiting cannot cure
// (SURFACE §6).
func stuck(j model.Job) bool {
	if j.State != model.JobPaused || j.Cause == nil {
		return false
	}
	switch j.Cause.Class {
	case fault.Policy, fault.SchemaDrift, fault.Auth, fault.Internal:
		return true
	}
	return j.Cause.Code == "E_TABLE_MISSING"
}

func jobExit(j model.Job) int {
	switch {
	case j.State == model.JobCompleted:
		return exitDone
	case j.State == model.JobPaused && j.Cause != nil && (j.Cause.Class == fault.Policy || j.Cause.Class == fault.Auth):
		return exitRefused
	}
	return exitFailed
}

func (a *app) jobCommand() *cobra.Command {
	show := a.command("show ID", "Show one job", "  ropeway job show ID -o json", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			job, err := c.Job(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printJob(job)
		})
	cancel := a.command("cancel ID", "End a job; what it delivered stays", "  ropeway job cancel ID", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			job, err := c.CancelJob(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printJob(job)
		})
	watch := a.command("watch ID", "Follow a job until it ends", "  ropeway job watch ID", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error { return a.wait(ctx, c, args[0], 0) })
	return a.group("job", "Look at jobs", "  ropeway job list --flow orders-to-warehouse", a.jobListCommand(), show, cancel, watch)
}

func (a *app) jobListCommand() *cobra.Command {
	var flow, state string
	var limit int
	c := a.command("list", "List jobs, newest first", "  ropeway job list --flow orders-to-warehouse --state failed", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			jobs, err := c.Jobs(ctx, flow, state, limit)
			if err != nil {
				return err
			}
			t := table{head: []string{"ID", "FLOW", "STATE", "EXPORTED", "DELIVERED", "FILTERED", "PARKED", "STARTED", "TOOK"}}
			for _, j := range jobs {
				r := j.Records
				t.row(j.ID.String(), j.FlowName, string(j.State), number(r.Exported), number(r.Delivered), number(r.Filtered),
					number(r.Parked), when(j.Started), seconds(j.Duration))
			}
			return a.print(jobs, t)
		})
	c.Flags().StringVar(&flow, "flow", "", "only jobs of this flow")
	c.Flags().StringVar(&state, "state", "", "only jobs in these states, with commas")
	c.Flags().IntVar(&limit, "limit", 100, "jobs at most")
	return c
}

func (a *app) printJob(j model.Job) error {
	r := j.Records
	t := fields("id", j.ID.String(), "flow", fmt.Sprintf("%s (version %d)", j.FlowName, j.FlowVersion), "state", string(j.State),
		"records", fmt.Sprintf("%d exported, %d delivered, %d filtered, %d parked, %d expired, %d waiting",
			r.Exported, r.Delivered, r.Filtered, r.Parked, r.Expired, r.Waiting),
		"pages", number(j.Pages), "bytes", number(j.Bytes), "started", when(j.Started), "ended", when(j.Ended),
		"took", seconds(j.Duration), "guarantee", j.Guarantee)
	if j.Cause != nil {
		t.row("cause", j.Cause.Sentence+" ["+j.Cause.Code+"]")
		if j.Cause.Cause != "" {
			t.row("", j.Cause.Cause)
		}
		if j.Cause.Fix != "" {
			t.row("next", j.Cause.Fix)
		}
	}
	for _, s := range j.Steps {
		t.row("step "+s.Step, fmt.Sprintf("%d in, %d out, %d filtered, %d parked", s.In, s.Out, s.Filtered, s.Parked))
	}
	return a.print(j, t)
}

func (a *app) proveCommand() *cobra.Command {
	return a.command("prove JOB", "Show whether the sums of a job close; exit 1 if they do not",
		"  ropeway prove ID", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Prove(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.print(p, proofTable(p)); err != nil {
				return err
			}
			if !p.Closed {
				return exitError(exitFailed)
			}
			return nil
		})
}

func proofTable(p model.Proof) table {
	r := p.Records
	t := fields("job", p.Job.String(), "state", string(p.State), "closed", fmt.Sprint(p.Closed),
		"lost", fmt.Sprint(p.Lost), "doubled", fmt.Sprint(p.Doubled), "records",
		fmt.Sprintf("%d exported = %d delivered + %d filtered + %d parked + %d expired + %d waiting",
			r.Exported, r.Delivered, r.Filtered, r.Parked, r.Expired, r.Waiting), "guarantee", p.Guarantee)
	for _, s := range p.Steps {
		t.row("step "+s.Step, fmt.Sprintf("%d in = %d out + %d filtered + %d parked + %d merged - %d created, difference %d",
			s.In, s.Out, s.Filtered, s.Parked, s.Merged, s.Created, s.Difference))
	}
	for _, ch := range p.Chains {
		t.row("chain "+ch.Chain, fmt.Sprintf("%d pages, %d settled, end marker: %d pages, %d records",
			ch.Pages, ch.Settled, ch.TotalPages, ch.TotalRecords))
	}
	for _, finding := range p.Findings {
		t.row("finding", finding)
	}
	return t
}

// progress shows a job on one line of a terminal.
type progress struct {
	app  *app
	live bool
	used bool
}

func (a *app) progress() *progress { return &progress{app: a, live: !a.quiet && terminal(a.Err)} }

func (p *progress) show(j model.Job) {
	if !p.live {
		return
	}
	p.used = true
	line := fmt.Sprintf("%s: %d exported, %d delivered, %d filtered, %d parked", j.State,
		j.Records.Exported, j.Records.Delivered, j.Records.Filtered, j.Records.Parked)
	if j.Cause != nil {
		line += " (" + printable(j.Cause.Sentence) + ")"
	}
	fmt.Fprintf(p.app.Err, "\r%-100.100s", line)
}

func (p *progress) end() {
	if p.used {
		fmt.Fprintf(p.app.Err, "\r%-100s\r", "")
	}
}
