package access

import (
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Role says what a caller may do. Each role may do what those after it may.
type Role string

// The roles.
const (
	Admin    Role = "admin"    // everything of the tenant: tokens, agents, audit
	Builder  Role = "builder"  // objects and secrets, and all an operator may
	Operator Role = "operator" // runs, pauses, retries; sees records
	Viewer   Role = "viewer"   // states and counts, never records
)

// Action is a kind of thing that callers do.
type Action string

// The actions.
const (
	View          Action = "view"           // objects, jobs, queues, states
	ViewRecords   Action = "view records"   // the contents of parked records
	Operate       Action = "operate"        // run, cancel, pause, resume, ping
	EditRecords   Action = "edit records"   // edit, retry and ignore parked records
	Build         Action = "build"          // apply and delete objects
	SetSecrets    Action = "set secrets"    // write, never read, credentials
	ManageAgents  Action = "manage agents"  // enrollment tokens, revoke
	ManageTokens  Action = "manage tokens"  // API tokens
	ReadAudit     Action = "read audit"     // the audit log
	UseRoutes     Action = "use routes"     // connect to what is behind an agent
	ManageTenants Action = "manage tenants" // never by token: the local socket only
)

// allowed is the table of roles. What is not in it is refused.
var allowed = map[Role]map[Action]bool{
	Admin: set(View, ViewRecords, Operate, EditRecords, UseRoutes, Build, SetSecrets,
		ManageAgents, ManageTokens, ReadAudit),
	Builder:  set(View, ViewRecords, Operate, EditRecords, UseRoutes, Build, SetSecrets),
	Operator: set(View, ViewRecords, Operate, EditRecords, UseRoutes),
	Viewer:   set(View),
}

func set(actions ...Action) map[Action]bool {
	out := make(map[Action]bool, len(actions))
	for _, a := range actions {
		out[a] = true
	}
	return out
}

// Known reports whether r is one of the roles.
func (r Role) Known() bool { return allowed[r] != nil }

func roleNames() []string {
	return []string{string(Admin), string(Builder), string(Operator), string(Viewer)}
}

// Can reports whether the caller's role allows an action.
func Can(p Principal, a Action) bool { return allowed[p.Role][a] }

// Check refuses with E_FORBIDDEN an action that the caller's role does not allow,
// or an environment that its token is not for. A zero environment means the
// tenant as a whole: only a token for all environments may act there.
func Check(p Principal, a Action, environment page.ID) error {
	if !Can(p, a) {
		return fault.Of("E_FORBIDDEN").WithSource("hub").
			WithCause("the role " + string(p.Role) + " may not " + string(a))
	}
	if !p.In(environment) {
		return fault.Of("E_FORBIDDEN").WithSource("hub").
			WithCause("the token is not for this environment")
	}
	return nil
}
