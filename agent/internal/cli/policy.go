package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ropeway/agent/internal/localapi"
	"ropeway/agent/internal/policy"
	"ropeway/protocol/fault"
)

func (a *app) policy() *cobra.Command {
	c := &cobra.Command{
		Use:     "policy",
		Short:   "Check, show and steer what this site allows",
		Example: "  ropeway-agent policy check policy.yaml",
	}
	c.AddCommand(a.policyCheck(), a.policyShow(), a.policySwitch("suspend", true), a.policySwitch("resume", false), a.policyApprove())
	return c
}

// policyResult is what `policy check` prints.
type policyResult struct {
	File  string        `json:"file"`
	Rules []policy.Rule `json:"rules"`
}

func (a *app) policyCheck() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Say whether a policy file is valid, and what it allows",
		Example: "  ropeway-agent policy check policy.yaml\n" +
			"  ropeway-agent policy check --policy policy.yaml -o json",
		Args: cobra.MaximumNArgs(1),
	})
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		cfg, err := a.settings()
		if err != nil {
			return err
		}
		path := cfg.Policy
		if len(args) == 1 {
			path = args[0]
		}
		p, err := readPolicy(path)
		if err != nil {
			return err
		}
		rules := p.Rules
		if rules == nil {
			rules = []policy.Rule{}
		}
		if len(rules) == 0 {
			a.say("the policy has no rules: everything is denied")
		}
		return a.print(policyResult{path, rules}, func() table { return ruleTable(rules) })
	}
	return c
}

func readPolicy(path string) (*policy.Policy, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable("the policy", path, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 2<<20))
	if err != nil {
		return nil, unreadable("the policy", path, err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, fault.Of("E_POLICY_INVALID").WithSentence(fmt.Sprintf("policy file %s is not valid", path)).WithCause(err).
			WithFix("correct the line; until then the agent denies everything")
	}
	return p, nil
}

func ruleTable(rules []policy.Rule) table {
	t := table{head: []string{"LINE", "RULE", "CONNECTOR", "TARGET", "ALLOW", "TABLES"}}
	for _, r := range rules {
		tables := "any statement"
		if r.Tables != nil {
			tables = fmt.Sprint(len(r.Tables))
		}
		target, connector := r.Target, r.Connector
		if r.Route != "" {
			target, connector, tables = r.Route, "route", "-"
		}
		t.rows = append(t.rows, []string{fmt.Sprint(r.Line), r.Name, connector, target, fmt.Sprint(r.Allow), tables})
	}
	return t
}

func (a *app) policyShow() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "show", Short: "Show the policy in force, and statements that wait for an approval",
		Example: "  ropeway-agent policy show --state agent -o yaml",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		p, err := ask(a, c.Context(), (*localapi.Client).Policy,
			source(func(s localapi.Source) call[localapi.Policy] { return s.Policy }))
		if err != nil {
			return err
		}
		return a.print(p, func() table {
			rows := [][]string{{"file", p.File}, {"state", p.State}, {"rules", fmt.Sprint(p.Rules)}, {"loaded", moment(p.Loaded)}}
			for _, text := range []struct{ key, value string }{{"error", p.Error}, {"warning", p.Warning}} {
				if text.value != "" {
					rows = append(rows, []string{text.key, text.value})
				}
			}
			for _, s := range p.Waiting {
				rows = append(rows, []string{"waits", fmt.Sprintf("%s  %s on %s: %s", s.Hash, s.Verb, s.Target, s.SQL)})
			}
			return table{rows: rows}
		})
	}
	return c
}

func (a *app) policySwitch(name string, on bool) *cobra.Command {
	about := "Let the policy decide again"
	if on {
		about = "Deny everything until `policy resume`, also after a restart"
	}
	return &cobra.Command{
		Use: name, Short: about, Example: "  ropeway-agent policy " + name + " --state agent",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := ask(a, c.Context(),
				func(client *localapi.Client, ctx context.Context) (struct{}, error) {
					return struct{}{}, client.Suspend(ctx, on)
				},
				source(func(s localapi.Source) call[struct{}] {
					return func(ctx context.Context) (struct{}, error) { return struct{}{}, s.Suspend(ctx, on) }
				}))
			if err == nil {
				a.say("policy: %s", map[bool]string{true: "everything is denied", false: "the policy decides"}[on])
			}
			return err
		},
	}
}

func (a *app) policyApprove() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "approve HASH", Short: "Let a refused statement run from now on",
		Example: "  ropeway-agent policy show --state agent\n  ropeway-agent policy approve HASH --state agent",
		Args:    cobra.ExactArgs(1),
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		_, client, err := a.connect()
		if err != nil {
			return err
		}
		defer client.Close()
		s, err := client.Approve(c.Context(), args[0])
		if err != nil {
			return err
		}
		return a.print(s, func() table {
			return table{rows: [][]string{{"approved", s.Hash}, {"target", s.Target}, {"verb", s.Verb}, {"statement", s.SQL}}}
		})
	}
	return c
}
