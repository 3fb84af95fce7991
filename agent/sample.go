package agent

import (
	"fmt"
	"strings"
)

//go:generate go test -run TestSampleFile -update

// Sample is the documented configuration file; it says what the defaults say.
func Sample() string {
	c := DefaultConfig("")
	var b strings.Builder
	b.WriteString("# Ropeway agent. Every key may be left out; what stands here is the default.\n" +
		"# Environment variables (ROPEWAY_AGENT_STATE, ROPEWAY_AGENT_POLICY, …) and flags win over this file.\n")
	for _, setting := range []struct{ about, key, value string }{
		{"Directory of key, certificate, buffer and site credentials; made 0700 when missing.", "state", c.State},
		{"The site's policy. Without this file everything is denied. Read again when it changes.", "policy", c.Policy},
		{"Transport of the tunnel: tcp, quic (UDP on the same port), or auto: tcp first, quic where it works.", "transport", c.Transport},
		{"Name this agent asks for when it enrolls; empty lets the hub choose.", "name", `""`},
		{"Where it enrolls, https://host[:port]; empty = where the token says.", "hub", `""`},
		{"Unix socket of the local API; empty = agent.sock in /run/ropeway-agent for the packaged\n" +
			"# service, and in the state directory for any other.", "socket", `""`},
	} {
		fmt.Fprintf(&b, "\n# %s\n%s: %s\n", setting.about, setting.key, setting.value)
	}
	b.WriteString("\nbuffer:\n" +
		"  # The most that may wait on disk, such as 512MiB or 20GiB;\n" +
		"  # empty = 2 GiB or a tenth of the disk, whichever is smaller.\n" +
		"  quota: \"\"\n")
	fmt.Fprintf(&b, "\n# Least level written to standard error: debug, info, warn or error.\nlog: %s\n", c.Log)
	return b.String()
}
