package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command explains itself with an example, and none takes a secret as a flag.
func TestEveryCommandHasAnExample(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "ropeway-agent") {
			t.Errorf("%s has no description or no example", c.CommandPath())
		}
		for _, secret := range []string{"token", "password", "secret", "key"} {
			if c.Flag(secret) != nil {
				t.Errorf("%s takes a secret as --%s", c.CommandPath(), secret)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
}
