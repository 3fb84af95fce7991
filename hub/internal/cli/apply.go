package cli

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
)

func (a *app) applyCommand() *cobra.Command {
	var files []string
	var dryRun bool
	c := a.command("apply -f FILE|DIR", "Create or change objects from manifests, all or none",
		"  ropeway apply -f manifests/\n  ropeway apply -f flow.yaml --dry-run\n  cat flow.yaml | ropeway apply -f -", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			text, err := a.manifests(files)
			if err != nil {
				return err
			}
			result, err := c.Apply(ctx, text, dryRun)
			if err != nil {
				return err
			}
			for _, w := range result.Warnings {
				a.note("warning: %s", w)
			}
			t := table{head: []string{"KIND", "NAME", "ACTION", "VERSION"}}
			for _, ch := range result.Changes {
				t.row(string(ch.Kind), ch.Name, would(ch.Action, dryRun), version(ch.Version))
			}
			return a.print(result, t)
		})
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "file, directory or - (may be given more than once)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check and tell, change nothing")
	required(c, "file")
	return c
}

// required marks a flag that must be given.
func required(c *cobra.Command, flag string) {
	if err := c.MarkFlagRequired(flag); err != nil {
		panic(err) // the flag is not there: a mistake in this package
	}
}

func would(action string, dryRun bool) string {
	if dryRun && action != "unchanged" {
		return "would be " + action
	}
	return action
}

func version(v uint64) string {
	if v == 0 {
		return ""
	}
	return number(int64(v))
}

// manifests reads files and directories into one set. Each file is checked here
// first, so that messages name file and line.
func (a *app) manifests(paths []string) ([]byte, error) {
	var all bytes.Buffer
	var faults model.Faults
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := a.readInput(file)
		if err != nil {
			return nil, err
		}
		if _, err := model.ParseManifests(bytes.NewReader(text), file); err != nil {
			if more, ok := err.(model.Faults); ok {
				faults = append(faults, more...)
				continue
			}
			return nil, err
		}
		all.WriteString("---\n")
		all.Write(text)
		all.WriteString("\n")
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return all.Bytes(), nil
}

// expand lists the manifests of directories, in the order of their names.
func expand(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if path == "-" || err == nil && !info.IsDir() {
			out = append(out, path)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		before := len(out)
		err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(p))) {
				out = append(out, p)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if len(out) == before {
			return nil, fmt.Errorf("read manifests: there is no .yaml, .yml or .json file in %s", path)
		}
	}
	return out, nil
}
