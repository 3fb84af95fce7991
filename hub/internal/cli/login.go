package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/protocol/fault"
)

func (a *app) loginCommand() *cobra.Command {
	var file string
	c := &cobra.Command{Use: "login --url URL --token-file FILE|-", Short: "Check a token and note hub and token as a profile",
		Example: "  ropeway login --url https://127.0.0.1:18443 --ca hub/ca.pem --token-file hub/admin.token\n" +
			"  ropeway login --profile prod --url https://hub.example --token-file -", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd, file) }}
	c.Flags().StringVar(&file, "token-file", "", "file with the API token, or - for standard input")
	required(c, "token-file")
	return c
}

func (a *app) login(cmd *cobra.Command, file string) error {
	a.started = true
	text, err := a.readInput(file)
	if err != nil {
		return err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return fault.Of("E_CONFIG").WithCause("the token is empty")
	}
	name := a.profile
	if name == "" {
		name = "default"
	}
	config, err := client.Resolve(a.config, "", os.Getenv)
	if err != nil {
		return err
	}
	config.Token, config.TokenFile, config.Version = token, "", a.version
	if config.CA != "" {
		if config.CA, err = filepath.Abs(config.CA); err != nil {
			return fmt.Errorf("find authority file: %w", err)
		}
	}
	c, err := client.New(config)
	if err != nil {
		return err
	}
	who, err := c.WhoAmI(cmd.Context())
	if err != nil {
		return err
	}
	profile := client.Profile{URL: config.URL, CA: config.CA, Environment: config.Environment}
	if err := client.SaveProfile(client.ProfileDir(), name, profile, token); err != nil {
		return err
	}
	return a.print(map[string]any{"profile": name, "url": config.URL, "name": who.Name, "role": who.Role, "environments": who.Environments},
		fields("profile", name, "hub", config.URL, "you are", who.Name+" ("+who.Role+")",
			"environments", strings.Join(who.Environments, ", ")))
}
