package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ropeway/agent"
	"ropeway/agent/internal/credential"
	"ropeway/agent/internal/identity"
	"ropeway/protocol/fault"
)

const maxCredential = 1 << 20

func (a *app) credentials() *cobra.Command {
	c := &cobra.Command{
		Use:   "credentials",
		Short: "Keep secrets at this site; the hub knows only their names",
		Example: "  ropeway-agent credentials set erp-site --file - --state agent <<< '{\"username\": \"erp\", \"password\": \"…\"}'\n" +
			"  ropeway-agent credentials list --state agent",
	}
	c.AddCommand(a.credentialSet(), a.credentialList(), a.credentialRemove())
	return c
}

// credentialStore opens the credentials of the state directory, made when missing.
func (a *app) credentialStore() (*credential.Store, error) {
	cfg, err := a.settings()
	if err != nil {
		return nil, err
	}
	if err := identity.Prepare(cfg.State); err != nil {
		return nil, err
	}
	return credential.Open(cfg.State), nil
}

func (a *app) credentialSet() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "set NAME",
		Short:   "Create or replace a credential from a JSON object of text fields",
		Example: "  ropeway-agent credentials set erp-site --file secret.json --state agent",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&file, "file", "", "`file` with a JSON object, - for standard input")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if file == "" {
			return usage("--file is missing: name a file with a JSON object, or - for standard input")
		}
		text, err := a.readSecret("the credential", file, maxCredential)
		if err != nil {
			return err
		}
		fields, err := parseFields(text)
		if err != nil {
			return err
		}
		store, err := a.credentialStore() // may give up the right to read the file
		if err != nil {
			return err
		}
		if err := store.Set(args[0], fields, time.Now()); err != nil {
			return err
		}
		a.say("credential %s is kept, with %d fields", args[0], len(fields))
		return nil
	}
	return c
}

// parseFields reads one JSON object of texts. Errors never quote the input.
func parseFields(text []byte) (map[string]string, error) {
	bad := func(cause string) error {
		return fault.Of("E_REQUEST").WithSentence("the credential is not valid").WithCause(cause).
			WithFix(`write one JSON object of texts, such as {"username": "…", "password": "…"}`)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad("it is not a JSON object")
	}
	fields := map[string]string{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, bad("it is not valid JSON")
		}
		value, err := d.Token()
		if err != nil {
			return nil, bad("it is not valid JSON")
		}
		key, _ := name.(string)
		content, isText := value.(string)
		if _, twice := fields[key]; twice || !isText {
			return nil, bad("a field is there twice or is not a text")
		}
		fields[key] = content
	}
	if _, err := d.Token(); err != nil {
		return nil, bad("it is not valid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("something follows the JSON object")
	}
	return fields, nil
}

func (a *app) credentialList() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "list", Short: "List the credentials kept here, without their values",
		Example: "  ropeway-agent credentials list --state agent -o json",
	})
	c.RunE = func(*cobra.Command, []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		store, err := a.credentialStore()
		if err != nil {
			return err
		}
		list, err := store.List()
		if err != nil {
			return err
		}
		return a.print(list, func() table {
			t := table{head: []string{"NAME", "FIELDS", "UPDATED"}}
			for _, info := range list {
				t.rows = append(t.rows, []string{info.Name, strings.Join(info.Fields, ", "), moment(info.Updated)})
			}
			return t
		})
	}
	return c
}

func (a *app) credentialRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Delete a credential", Args: cobra.ExactArgs(1),
		Example: "  ropeway-agent credentials remove erp-site --state agent",
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := a.credentialStore()
			if err != nil {
				return err
			}
			if err := store.Remove(args[0]); err != nil {
				return err
			}
			a.say("credential %s is removed", args[0])
			return nil
		},
	}
}

// versionResult is what `version` prints.
type versionResult struct {
	Version string `json:"version"`
}

func (a *app) version() *cobra.Command {
	c := a.outputFlag(&cobra.Command{
		Use: "version", Short: "Print the version of this program", Example: "  ropeway-agent version",
	})
	c.RunE = func(*cobra.Command, []string) error {
		if err := a.checkOutput(); err != nil {
			return err
		}
		if a.flags.output == "table" {
			_, err := fmt.Fprintln(a.Out, "ropeway-agent", agent.Version())
			return err
		}
		return a.print(versionResult{agent.Version()}, nil)
	}
	return c
}
