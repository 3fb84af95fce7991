package cli

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func base64Lines(b []byte) string {
	text := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(text) > 64 {
		out.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	out.WriteString(text + "\n")
	return out.String()
}

// TestSurface_1_EveryCommandHasHelpAndExample walks the whole command tree.
func TestSurface_1_EveryCommandHasHelpAndExample(t *testing.T) {
	a := &app{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no help or no example", c.CommandPath())
		}
		if c.RunE == nil {
			t.Errorf("%s does nothing", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.root())
}

func TestPrintableKeepsEscapesOut(t *testing.T) {
	if got := printable("a\x1b[31mb\u202ec\u009bd"); strings.ContainsAny(got, "\x1b\u009b\u202e") {
		t.Errorf("%q", got)
	}
}

func TestYAMLKeepsTheOrder(t *testing.T) {
	var out bytes.Buffer
	v := struct {
		B string         `json:"b"`
		A []int          `json:"a"`
		C map[string]any `json:"c"`
		D []string       `json:"d"`
	}{"yes", []int{1, 2}, map[string]any{"k": "12"}, []string{}}
	if err := writeYAML(&out, v); err != nil {
		t.Fatal(err)
	}
	want := "b: \"yes\"\na:\n  - 1\n  - 2\nc:\n  k: \"12\"\nd: []\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}
