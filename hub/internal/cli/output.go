package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"gopkg.in/yaml.v3"
)

// maxInput bounds what is read from a file or standard input.
const maxInput = 8 << 20

// table is what a command prints for people.
type table struct {
	head []string
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes v as JSON or YAML, or the table.
func (a *app) print(v any, t table) error {
	switch a.output {
	case "json":
		return writeJSON(a.Out, v)
	case "yaml":
		return writeYAML(a.Out, v)
	}
	w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', 0)
	if len(t.head) > 0 && !a.quiet {
		fmt.Fprintln(w, strings.Join(t.head, "\t"))
	}
	for _, row := range t.rows {
		for i := range row {
			row[i] = strings.NewReplacer("\t", " ", "\n", " ").Replace(printable(row[i]))
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t "))
	}
	return w.Flush()
}

// fields prints one object for people: a name and a value per line.
func fields(pairs ...string) table {
	var t table
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			t.row(pairs[i], pairs[i+1])
		}
	}
	return t
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeYAML writes what writeJSON would, in the same order, as YAML.
func writeYAML(w io.Writer, v any) error {
	var text bytes.Buffer
	if err := writeJSON(&text, v); err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &n); err != nil {
		return fmt.Errorf("write yaml: %w", err)
	}
	plain(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return fmt.Errorf("write yaml: %w", err)
	}
	return e.Close()
}

// plain takes the JSON look from a node.
func plain(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode && len(n.Content) > 0 {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && !slices.Contains(switches(), strings.ToLower(n.Value)) {
		n.Style = 0
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// switches are the texts that older readers of YAML take for true or false.
func switches() []string { return []string{"y", "n", "yes", "no", "on", "off", "true", "false"} }

func number(n int64) string { return strconv.FormatInt(n, 10) }

func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func at(t time.Time) string { return when(&t) }

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d > time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// readInput reads a file, or standard input for "-".
func (a *app) readInput(file string) ([]byte, error) {
	var r io.Reader = a.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read input: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("read %s: it is larger than %d MiB", file, maxInput>>20)
	}
	return bytes.TrimPrefix(b, []byte("\ufeff")), nil
}
