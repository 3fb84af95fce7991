package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"ropeway/hub/internal/client"
	"ropeway/hub/internal/model"
)

// kindOf reads a kind from the command line, in any case.
func kindOf(word string) (model.Kind, error) {
	if k, ok := model.ParseKind(word); ok {
		return k, nil
	}
	var names []string
	for _, k := range model.Kinds() {
		names = append(names, strings.ToLower(string(k)))
	}
	if near := model.Nearest(word, names); near != "" {
		return "", usageError{fmt.Errorf("unknown kind %q, did you mean %s?", word, near)}
	}
	return "", usageError{fmt.Errorf("unknown kind %q; use one of %s", word, strings.Join(names, ", "))}
}

func (a *app) getCommand() *cobra.Command {
	var label string
	c := a.command("get KIND [NAME]", "Show objects of a kind, or one of them",
		"  ropeway get flows\n  ropeway get connection erp -o yaml", cobra.RangeArgs(1, 2),
		func(ctx context.Context, c *client.Client, args []string) error {
			kind, err := kindOf(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				o, err := c.Object(ctx, kind, args[1])
				if err != nil {
					return err
				}
				return a.printObjects(a.shown(o), o)
			}
			objects, err := c.Objects(ctx, kind, label)
			if err != nil {
				return err
			}
			list := make([]json.RawMessage, 0, len(objects))
			for _, o := range objects {
				list = append(list, a.shown(o))
			}
			return a.printObjects(list, objects...)
		})
	c.Flags().StringVarP(&label, "label", "l", "", "only objects with this label: key or key=value")
	return c
}

func (a *app) printObjects(v any, objects ...model.Object) error {
	t := table{head: []string{"NAME", "VERSION", "UPDATED", "WHAT"}}
	for _, o := range objects {
		t.row(o.Name, version(o.Version), at(o.Updated), summary(o))
	}
	return a.print(v, t)
}

// summary is a few words about an object.
func summary(o model.Object) string {
	spec, err := model.DecodeSpec(o.Kind, o.Spec)
	if err != nil {
		return ""
	}
	switch s := spec.(type) {
	case *model.Credential:
		return "custody " + string(s.Custody)
	case *model.Connection:
		place := "in the hub"
		if s.AgentGroup != "" {
			place = "at " + s.AgentGroup
		}
		return s.Connector + " " + place
	case *model.Flow:
		return strings.Join(s.Connections(), " → ")
	case *model.Route:
		return s.Target + " at " + s.AgentGroup
	case *model.Listener:
		return "starts " + s.Flow
	}
	return ""
}

// shown is an object as its manifest; as JSON with what the hub adds to it.
func (a *app) shown(o model.Object) json.RawMessage {
	var out bytes.Buffer
	out.WriteByte('{')
	field := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			return
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:%s", name, b)
	}
	field("kind", o.Kind)
	field("name", o.Name)
	if len(o.Labels) > 0 {
		field("labels", o.Labels)
	}
	if inner := bytes.TrimSpace(o.Spec); len(inner) > 2 {
		out.WriteByte(',')
		out.Write(inner[1 : len(inner)-1])
	}
	if a.output == "json" {
		field("id", o.ID)
		field("version", o.Version)
		field("created", o.Created)
		field("updated", o.Updated)
	}
	out.WriteByte('}')
	return out.Bytes()
}

func (a *app) describeCommand() *cobra.Command {
	return a.command("describe KIND NAME", "Show one object with what belongs to it",
		"  ropeway describe connection erp\n  ropeway describe flow orders-to-warehouse", cobra.ExactArgs(2),
		func(ctx context.Context, c *client.Client, args []string) error {
			kind, err := kindOf(args[0])
			if err != nil {
				return err
			}
			o, err := c.Object(ctx, kind, args[1])
			if err != nil {
				return err
			}
			out := map[string]any{"object": a.shown(o)}
			if err := belongings(ctx, c, o, out); err != nil {
				return err
			}
			if a.output == "table" {
				return writeYAML(a.Out, out)
			}
			return a.print(out, table{})
		})
}

// belongings adds what runs on an object.
func belongings(ctx context.Context, c *client.Client, o model.Object, out map[string]any) (err error) {
	switch o.Kind {
	case model.KindConnection:
		out["queue"], err = c.Queue(ctx, o.Name)
	case model.KindFlow:
		out["jobs"], err = c.Jobs(ctx, o.Name, "", 5)
	case model.KindAgentGroup:
		agents, err := c.Agents(ctx)
		if err != nil {
			return err
		}
		mine := []model.Agent{}
		for _, a := range agents {
			if a.GroupName == o.Name {
				mine = append(mine, a)
			}
		}
		out["agents"] = mine
	case model.KindCredential:
		secrets, err := c.Secrets(ctx)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			if s.Name == o.Name {
				out["secret"] = s
			}
		}
	}
	return err
}

func (a *app) deleteCommand() *cobra.Command {
	var purge, yes bool
	c := a.command("delete KIND NAME", "Delete one object",
		"  ropeway delete flow orders-to-warehouse\n  ropeway delete flow old --purge", cobra.ExactArgs(2),
		func(ctx context.Context, c *client.Client, args []string) error {
			kind, err := kindOf(args[0])
			if err != nil {
				return err
			}
			if !yes && terminal(a.In) && !a.confirm(fmt.Sprintf("Delete %s %s?", kind, args[1])) {
				return fmt.Errorf("nothing was deleted")
			}
			if err := c.Delete(ctx, kind, args[1], purge); err != nil {
				return err
			}
			return a.print(map[string]string{"kind": string(kind), "name": args[1], "action": "deleted"},
				table{rows: [][]string{{string(kind), args[1], "deleted"}}})
		})
	c.Flags().BoolVar(&purge, "purge", false, "also drop its queued pages and parked records")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) confirm(question string) bool {
	fmt.Fprintf(a.Err, "%s [y/N] ", printable(question))
	answer, err := bufio.NewReader(a.In).ReadString('\n')
	return err == nil && strings.EqualFold(strings.TrimSpace(answer), "y")
}

func (a *app) secretCommand() *cobra.Command {
	var file string
	set := a.command("set NAME --file FILE|-", "Set the value of a credential; it cannot be read back",
		"  ropeway secret set erp-login --file - <<< '{\"username\":\"erp\",\"password\":\"…\"}'", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) error {
			value, err := a.readInput(file)
			if err != nil {
				return err
			}
			info, err := c.SetSecret(ctx, args[0], value)
			if err != nil {
				return err
			}
			return a.print(info, table{rows: [][]string{{info.Name, "version " + version(info.Version), "set"}}})
		})
	set.Flags().StringVarP(&file, "file", "f", "", "file with one JSON object, or - for standard input")
	required(set, "file")
	list := a.command("list", "List which credentials have a value", "  ropeway secret list", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) error {
			secrets, err := c.Secrets(ctx)
			if err != nil {
				return err
			}
			sort.Slice(secrets, func(i, j int) bool { return secrets[i].Name < secrets[j].Name })
			t := table{head: []string{"NAME", "CUSTODY", "SET", "VERSION"}}
			for _, s := range secrets {
				t.row(s.Name, string(s.Custody), fmt.Sprint(s.Set), version(s.Version))
			}
			return a.print(secrets, t)
		})
	return a.group("secret", "Set the values of credentials", "  ropeway secret set erp-login --file value.json", set, list)
}
