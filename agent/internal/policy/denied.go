package policy

import (
	"fmt"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"ropeway/protocol/fault"
)

const source = "policy"

// what says in words what a request wants.
func (r Request) what() string {
	if r.Route != "" {
		return "route " + r.Route
	}
	verb := string(r.Verb)
	if verb == "" {
		verb = "a connection"
	}
	what := fmt.Sprintf("%s on %s %s", verb, r.Connector, r.Target)
	if r.Table != "" {
		what += ", table " + r.Table
	}
	return what
}

// denied refuses r and shows the rule that would allow it.
func denied(r Request, cause string) *fault.Error {
	return fault.New(fault.Policy, "E_POLICY_DENIED", "the site's policy does not allow "+r.what()).
		WithCause(cause).WithSource(source).
		WithFix("the administrator of the agent's machine can add to rules in its policy file: " + Suggest(r))
}

// unapproved refuses a free statement under a rule that names tables.
func unapproved(r Request, rule *Rule) *fault.Error {
	e := denied(r, fmt.Sprintf("rule %q names tables, so a free statement needs the site's approval",
		rule.title()))
	if r.SQL == "" {
		return e
	}
	return e.WithFix("use table and columns instead of a statement, or approve it at the site: " +
		"ropeway-agent policy approve " + StatementHash(r))
}

// limited refuses r for now.
func limited(r Request, cause string, wait time.Duration, rule *Rule) *fault.Error {
	e := fault.New(fault.Policy, "E_POLICY_DENIED", "the site's policy does not allow "+r.what()+" now").
		WithCause(cause).WithSource(source).
		WithFix(fmt.Sprintf("wait %s, or change limits of the rule at line %d of the policy file",
			wait.Round(time.Minute), rule.Line))
	e.RetryAfter = wait
	return e
}

// Suggest is the rule, as one line of YAML, that would allow exactly r.
func Suggest(r Request) string {
	if r.Route != "" {
		return "- {route: " + scalar(r.Route) + "}"
	}
	verb := r.Verb
	if verb == "" || verb == Ping {
		verb = Export
	}
	b := fmt.Sprintf("- {connector: %s, target: %s, allow: [%s]", scalar(r.Connector), scalar(r.Target), verb)
	if r.Table != "" && r.SQL == "" {
		b += ", tables: {" + scalar(r.Table) + ": " + columns(r.Columns) + "}"
	}
	return b + "}"
}

func columns(list []string) string {
	if len(list) == 0 {
		return `"*"`
	}
	quoted := make([]string, len(list))
	for i, c := range list {
		quoted[i] = scalar(c)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// scalar writes s so that it reads back as the same text inside a flow mapping.
func scalar(s string) string {
	n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsAny(s, ",:{}[]#&*!|>'\"%@`\\ \n") || s == "" {
		n.Style = yaml.DoubleQuotedStyle
	}
	b, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	return strings.TrimRight(string(b), "\n")
}
