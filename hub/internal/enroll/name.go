package enroll

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	wire "ropeway/certs/enroll"
	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
)

// nameRule keeps names apart that look alike: no case, no other scripts.
var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// wishes are how an agent wants to be called. A bound token and an explicit wish
// are taken as they are or refused; a host name is bent until it fits.
type wishes struct {
	name  string // explicit, "" = none
	bound string // by the token, "" = none
	host  string
}

func wish(a wire.Application, won store.Redemption) wishes {
	return wishes{a.Name, won.Token.AgentName, a.Hostname}
}

// keep names the agent and writes it.
func (i *Issuer) keep(ctx context.Context, agent *model.Agent, known bool, w wishes, keyHash [32]byte) error {
	free, err := w.choose(agent, known)
	if err != nil {
		return err
	}
	if !free {
		return taken(i.agents.PutAgent(ctx, *agent, keyHash[:]), agent.Name)
	}
	base := agent.Name
	for n := 2; ; n++ {
		err := i.agents.PutAgent(ctx, *agent, keyHash[:])
		if !errors.Is(err, fault.Of("E_EXISTS")) || n > 999 {
			return taken(err, agent.Name)
		}
		agent.Name = strings.TrimRight(base[:min(len(base), 58)], "-") + "-" + strconv.Itoa(n)
	}
}

// choose sets the name to try; free says that another will do when it is taken.
func (w wishes) choose(agent *model.Agent, known bool) (free bool, err error) {
	switch {
	case w.bound != "" && w.name != "" && w.name != w.bound:
		return false, fault.Of("E_FORBIDDEN").WithSource("hub").
			WithCause(fmt.Sprintf("the token is for an agent named %s only", w.bound)).
			WithFix("leave --name out, or ask for a token of that name")
	case w.bound != "":
		agent.Name = w.bound
	case w.name != "" && !nameRule.MatchString(w.name):
		return false, badName(w.name)
	case w.name != "":
		agent.Name = w.name
	case known:
		return false, nil
	default:
		agent.Name = fromHost(w.host)
		return true, nil
	}
	return false, nil
}

// fromHost makes a name of the first label of a host name.
func fromHost(host string) string {
	label, _, _ := strings.Cut(strings.ToLower(host), ".")
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r == '-' || r == '_' || r == ' ':
			return '-'
		}
		return -1
	}, label)
	if name = strings.Trim(name[:min(len(name), 63)], "-"); name == "" {
		return "agent"
	}
	return name
}

func badName(name string) error {
	return fault.Of("E_REQUEST").WithSource("hub").WithField("name").
		WithCause(fmt.Sprintf("%.80q is no name of an agent", printable(name))).
		WithFix("use 1 to 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit")
}

func taken(err error, name string) error {
	if !errors.Is(err, fault.Of("E_EXISTS")) {
		return err
	}
	return fault.Of("E_EXISTS").WithSource("hub").WithCause("another agent of this environment is named " + name).
		WithFix("enroll again with the same token and another --name, or leave --name out")
}

// printable keeps what a stranger says about itself fit for logs and lists.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}
