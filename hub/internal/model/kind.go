package model

import "strings"

// Kind names what a manifest describes.
type Kind string

// The kinds a manifest may have. Route and Listener are accepted and stored.
const (
	KindAgentGroup Kind = "AgentGroup"
	KindCredential Kind = "Credential"
	KindConnection Kind = "Connection"
	KindFlow       Kind = "Flow"
	KindRoute      Kind = "Route"
	KindListener   Kind = "Listener"
)

// Kinds returns every kind in the order of reference: a kind refers only to
// kinds before it, except that a Listener names the Flow it starts.
func Kinds() []Kind {
	return []Kind{KindAgentGroup, KindCredential, KindConnection, KindFlow, KindRoute, KindListener}
}

// ParseKind finds a kind by its name in any case, in the singular or the plural,
// and with or without a dash: "flow", "Flows", "agent-groups", "agentgroup".
func ParseKind(name string) (Kind, bool) {
	plain := strings.ToLower(strings.ReplaceAll(name, "-", ""))
	for _, k := range Kinds() {
		if one := strings.ToLower(string(k)); plain == one || plain == one+"s" {
			return k, true
		}
	}
	return "", false
}
