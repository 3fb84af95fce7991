package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"gopkg.in/yaml.v3"
)

// table is what -o table prints: a head, which may be empty, and rows.
type table struct {
	head []string
	rows [][]string
}

// checkOutput refuses an unknown format before anything is done.
func (a *app) checkOutput() error {
	switch a.flags.output {
	case "table", "json", "yaml":
		return nil
	}
	return usage("output format " + quote(a.flags.output) + " is none of table, json and yaml")
}

// print writes v, which has JSON tags, in the chosen format.
func (a *app) print(v any, asTable func() table) error {
	if a.flags.output == "table" {
		return a.printTable(asTable())
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	if a.flags.output == "yaml" {
		if text, err = toYAML(text); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(a.Out, strings.TrimRight(string(text), "\n"))
	return err
}

// toYAML rewrites JSON, which is YAML, in block style: order and numbers stay.
func toYAML(text []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return nil, fmt.Errorf("print as yaml: %w", err)
	}
	blockStyle(&node)
	return yaml.Marshal(&node)
}

func blockStyle(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode && len(n.Content) > 0 {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0 // quoted again where it must be
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

func (a *app) printTable(t table) error {
	w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	if len(t.head) > 0 {
		fmt.Fprintln(w, strings.Join(t.head, "\t"))
	}
	for _, row := range t.rows {
		for i := range row {
			row[i] = oneLine(row[i])
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// say tells a person what was done; --quiet leaves it out.
func (a *app) say(format string, args ...any) {
	if !a.flags.quiet {
		fmt.Fprintln(a.Err, oneLine(fmt.Sprintf(format, args...)))
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.RFC3339)
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
