package fault

import (
	"maps"
	"slices"
)

// A Code describes one error that people may meet.
type Code struct {
	Code     string
	Class    Class
	Sentence string
	Fix      string
}

// Codes lists every code in alphabetical order, for the reference pages.
func Codes() []Code {
	codes := make([]Code, 0, len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		c := table[name]
		c.Code = name
		codes = append(codes, c)
	}
	return codes
}

// table never changes at run time.
var table = map[string]Code{
	// pages and delivery
	"E_CHECKSUM": {Class: Internal, Sentence: "the stored or received bytes do not match their checksum",
		Fix: "check the disk and the memory of the machine named in the source; the page is sent again where its origin still has it"},
	"E_FORMAT_VERSION": {Class: Internal, Sentence: "the other side speaks a format version that this program does not know",
		Fix: "update the older of the two programs"},
	"E_PAGE_FORMAT": {Class: Internal, Sentence: "the bytes are not a page of this format",
		Fix: "check that both sides run a released version, and report it with the log if they do"},
	"E_PAGE_CONFLICT": {Class: Internal, Sentence: "a page of this name exists with other contents",
		Fix: "stop the second writer; nothing was overwritten"},
	"E_SUPERSEDED": {Class: Internal, Sentence: "a newer execution of this request has taken over",
		Fix: "nothing; the newer execution continues from the last accepted page"},
	"E_PAGE_GAP": {Class: Internal, Sentence: "a page came before the page it follows",
		Fix: "nothing; the read goes on from the last accepted page"},
	"E_PAGE_FOREIGN": {Class: Internal, Sentence: "the agent sent a page that was not asked for",
		Fix: "quarantine the agent and look at its machine: a sound agent never does this"},
	"E_TOTALS": {Class: Internal, Sentence: "the end of an export counts other pages or records than were accepted",
		Fix: "run the flow again, and report it with the log"},
	"E_SUM_OPEN": {Class: Internal, Sentence: "every page is settled but the sum does not close",
		Fix: "look at `ropeway prove`, and report it with the log"},
	"E_STOPPED": {Class: Internal, Sentence: "the job stopped at its first parked record, as the step asks",
		Fix: "fix and retry the parked record, then resume the flow"},
	"E_FOREIGN_LINK": {Class: Internal, Sentence: "the endpoint's answer points to another host",
		Fix: "let the endpoint name itself as the connection does; behind a proxy, forward its host name"},
	"E_TUNNEL_CUT": {Class: Connection, Sentence: "the tunnel broke while a step ran",
		Fix: "nothing; the step is taken up again when the agent is back"},
	"E_HELLO": {Class: Connection, Sentence: "the other side does not say hello as it should",
		Fix: "check that hub and agent run released versions"},
	"E_AGENT_DOWN": {Class: Connection, Sentence: "no agent is running here",
		Fix: "start it with `ropeway-agent run`, or name its state directory with --state"},
	"E_CERT_EXPIRED": {Class: Auth, Sentence: "the agent's certificate has expired",
		Fix: "within 90 days it renews itself; later enroll again with a new token"},
	"E_OFFLINE": {Class: Connection, Sentence: "the connection was taken offline by hand",
		Fix: "run `ropeway connection resume NAME`"},
	"E_UNKNOWN_CONNECTOR": {Class: Internal, Sentence: "this program does not know the connector",
		Fix: "correct its name, or update the program"},
	"E_AUDIT": {Class: Internal, Sentence: "the audit log was changed behind the hub",
		Fix: "keep a copy of the data, and find out who could write to it"},
	"E_SECRETS_UNREACHABLE": {Class: Intermittent, Sentence: "Vault does not serve the hub's secrets",
		Fix: "check that Vault runs, is unsealed and can be reached; pages wait until then"},
	"E_SECRETS_DENIED": {Class: Intermittent, Sentence: "Vault does not let the hub do this",
		Fix: "check the hub's role and its policies in Vault; pages wait until then"},
	"E_SPILL": {Class: Internal, Sentence: "a read without a key filled the buffer before its pages were taken",
		Fix: "give the export a key, or raise the buffer quota"},
	"E_NOT_RESUMABLE": {Class: Internal, Sentence: "a read without a key was interrupted and cannot continue where it stopped",
		Fix: "give the export a key, or start the job again knowing that delivered pages stay"},
	"E_BUFFER_FULL": {Class: Intermittent, Sentence: "the agent's buffer is full",
		Fix: "raise the buffer quota, or see why the hub does not take pages"},
	"E_QUOTA": {Class: RateLimit, Sentence: "the quota of this tenant is used up",
		Fix: "wait until queued pages are delivered, or raise the quota"},
	"E_EXPIRED": {Class: Internal, Sentence: "the data passed its retention limit before it was delivered",
		Fix: "raise the retention limit or deliver earlier; the count is in the job's sum"},

	// records
	"E_VALUE": {Class: Value, Sentence: "the target refuses a value",
		Fix: "correct the value or map the field, then retry the record"},
	"E_MISSING": {Class: Missing, Sentence: "something that the record needs is not there",
		Fix: "create what is missing or correct the reference, then retry the record"},
	"E_DUPLICATE": {Class: Duplicate, Sentence: "a record with this key exists already",
		Fix: "use mode upsert, or ignore the record"},
	"E_PARSE": {Class: Parse, Sentence: "the data cannot be read",
		Fix: "correct the data at its source, then retry"},
	"E_TOO_LARGE": {Class: TooLarge, Sentence: "the record or value is larger than the limit",
		Fix: "leave out or shorten the large field, or raise the limit"},

	// endpoints
	"E_AUTH_REJECTED": {Class: Auth, Sentence: "the endpoint rejects the credential",
		Fix: "correct the credential; the connection comes back by itself"},
	"E_UNREACHABLE": {Class: Connection, Sentence: "the endpoint cannot be reached",
		Fix: "check host, port, firewall and that the service runs"},
	"E_TLS": {Class: Connection, Sentence: "no trusted TLS connection to the endpoint is possible",
		Fix: "check the certificate, its name and the trusted authority"},
	"E_TIMEOUT": {Class: Intermittent, Sentence: "the time allowed for this work is over",
		Fix: "raise the time-out, or make the request smaller"},
	"E_INTERMITTENT": {Class: Intermittent, Sentence: "the endpoint could not do it now",
		Fix: "nothing; it is tried again"},
	"E_RATE_LIMIT": {Class: RateLimit, Sentence: "the endpoint asks to slow down",
		Fix: "nothing; the connection waits and goes on"},
	"E_TABLE_MISSING": {Class: SchemaDrift, Sentence: "the table does not exist",
		Fix: "create the table or correct its name, then resume the job"},
	"E_COLUMN_MISSING": {Class: SchemaDrift, Sentence: "the column does not exist",
		Fix: "create the column or correct the mapping, then resume the job"},
	"E_SCHEMA_DRIFT": {Class: SchemaDrift, Sentence: "the structure of the endpoint has changed",
		Fix: "adjust the flow to the new structure, then resume the job"},
	"E_PERMISSION": {Class: SchemaDrift, Sentence: "the endpoint's role may not do this",
		Fix: "grant the role what it needs, then resume the job"},
	"E_QUERY": {Class: SchemaDrift, Sentence: "the endpoint refuses the query",
		Fix: "correct the query, then resume the job"},
	"E_UNSUPPORTED": {Class: Internal, Sentence: "this connector cannot do that",
		Fix: "use another connector or another step"},

	// agents
	"E_AGENT_OFFLINE": {Class: Connection, Sentence: "no agent of the group is connected",
		Fix: "start the agent and check that it reaches the hub"},
	"E_NO_CREDENTIAL": {Class: Auth, Sentence: "the credential is not there",
		Fix: "create the credential, or place it at the site as the policy says"},
	"E_POLICY_DENIED": {Class: Policy, Sentence: "the local policy of the agent does not allow this",
		Fix: "ask the administrator of the agent's machine to add a rule"},
	"E_POLICY_INVALID": {Class: Policy, Sentence: "the policy file cannot be used",
		Fix: "correct the file; until then everything is denied"},
	"E_STATE_LOCKED": {Class: Internal, Sentence: "another agent uses this state directory",
		Fix: "stop the other agent or choose another directory"},
	"E_STATE": {Class: Internal, Sentence: "the state directory cannot be used",
		Fix: "check that it exists, has space and belongs to the user that runs the program"},
	"E_NOT_ENROLLED": {Class: Internal, Sentence: "this agent has no identity yet",
		Fix: "enroll it with a token from the hub"},
	"E_REVOKED": {Class: Auth, Sentence: "the identity of this agent was revoked",
		Fix: "enroll it again with a new token if that was not meant"},
	"E_DRAINING": {Class: Intermittent, Sentence: "the process is going down and starts nothing new",
		Fix: "nothing; the work goes on elsewhere or after the restart"},

	// enrollment
	"E_TOKEN_INVALID": {Class: Auth, Sentence: "the token is not valid",
		Fix: "copy the whole token, or make a new one"},
	"E_TOKEN_USED": {Class: Auth, Sentence: "the token was used already",
		Fix: "make a new token"},
	"E_TOKEN_EXPIRED": {Class: Auth, Sentence: "the token has expired",
		Fix: "make a new token"},
	"E_TOKEN_FOREIGN": {Class: Auth, Sentence: "the token belongs to another hub",
		Fix: "check the hub's address, or make a token at the hub you want"},
	"E_HUB_IDENTITY": {Class: Auth, Sentence: "the server does not prove that it is the hub of this token",
		Fix: "check that nothing between agent and hub ends the TLS connection"},
	"E_CSR": {Class: Auth, Sentence: "the certificate request is not acceptable",
		Fix: "use a P-256, P-384, Ed25519 or RSA 2048 to 4096 key and sign the request with it"},

	// objects and the interface
	"E_MANIFEST": {Class: Value, Sentence: "the manifest is not valid",
		Fix: "correct the line that is named"},
	"E_UNKNOWN_KIND": {Class: Value, Sentence: "this kind of object does not exist",
		Fix: "use one of the kinds that are listed"},
	"E_REFERENCE": {Class: Value, Sentence: "the object refers to something that does not exist",
		Fix: "create it first, or correct the name"},
	"E_NOT_FOUND": {Class: Missing, Sentence: "there is no such object",
		Fix: "check the name or id, and the tenant and environment"},
	"E_IN_USE": {Class: Value, Sentence: "the object is in use",
		Fix: "remove what uses it first"},
	"E_EXISTS": {Class: Duplicate, Sentence: "an object of this name exists already",
		Fix: "choose another name, or change the existing object"},
	"E_CONFLICT": {Class: Value, Sentence: "the object was changed by someone else in the meantime",
		Fix: "read it again and repeat the change"},
	"E_STATE_CONFLICT": {Class: Value, Sentence: "this is not possible in the present state",
		Fix: "look at the state of the object first"},
	"E_FORBIDDEN": {Class: Auth, Sentence: "the caller may not do this",
		Fix: "ask an administrator of the tenant for a role that may"},
	"E_UNAUTHENTICATED": {Class: Auth, Sentence: "the caller is not known",
		Fix: "log in, or send a valid token"},
	"E_REQUEST": {Class: Value, Sentence: "the request is not valid",
		Fix: "correct the field that is named"},
	"E_EXPRESSION": {Class: Value, Sentence: "the expression is not valid",
		Fix: "correct the expression"},
	"E_EVALUATE": {Class: Value, Sentence: "the expression fails on this record",
		Fix: "correct the record or the expression, then retry"},
	"E_SETTINGS": {Class: Value, Sentence: "the settings are not valid",
		Fix: "correct the setting that is named"},
	"E_CONFIG": {Class: Internal, Sentence: "the configuration is not valid",
		Fix: "correct the key that is named"},
	"E_SEALED": {Class: Internal, Sentence: "the data cannot be opened with the keys at hand",
		Fix: "restore the key or unseal the key store"},
	"E_DISK": {Class: Intermittent, Sentence: "the disk cannot take more data",
		Fix: "free space or replace the disk"},
	"E_CANCELLED": {Class: Internal, Sentence: "the work was cancelled",
		Fix: "start it again if that was not meant"},
	"E_UNAVAILABLE": {Class: Intermittent, Sentence: "the service is not ready",
		Fix: "try again in a moment"},
	"E_INTERNAL": {Class: Internal, Sentence: "something happened that should not",
		Fix: "see the log of the process, and report it"},
}
