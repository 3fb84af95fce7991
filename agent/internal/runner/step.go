package runner

import (
	"encoding/json"
	"errors"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// step is a RunStep that was read and checked.
type step struct {
	kind    control.Kind
	name    string
	claim   page.Claim
	header  page.Header // template of a read's pages
	step    string
	request uint64
	timeout time.Duration
	join    bool // only join, never begin

	connector  *connectors.Type
	settings   connectors.Settings
	target     string
	connection connection

	query connectors.Query      // of a read
	spec  connectors.ImportSpec // of an import
}

// parse reads a RunStep, which comes from outside.
func (r *Runner) parse(m *control.RunStep) (*step, error) {
	s := &step{kind: m.GetKind(), name: m.GetName(), claim: control.ToClaim(m.GetClaim()),
		step: m.GetStep(), request: m.GetRequest(), join: m.GetJoinOnly(), timeout: defaultTimeout}
	if ms := m.GetTimeoutMs(); ms > 0 {
		s.timeout = min(time.Duration(min(ms, maxTimeout.Milliseconds()))*time.Millisecond, maxTimeout)
	}
	if err := s.readIDs(m); err != nil {
		return nil, err
	}
	if err := r.readConnection(s, m.GetConnection()); err != nil {
		return nil, err
	}
	switch s.kind {
	case control.KindPing:
		return s, nil
	case control.KindRead:
		if err := decode(m.GetSpecJson(), &s.query); err != nil {
			return nil, err
		}
		return s, s.query.Validate()
	case control.KindImport:
		if err := decode(m.GetSpecJson(), &s.spec); err != nil {
			return nil, err
		}
		spec, err := s.spec.Normal()
		s.spec = spec
		return s, err
	}
	return nil, fault.Of("E_UNSUPPORTED").WithSource("agent").
		WithSentence("this agent cannot do a step of kind " + s.kind.String()).WithFix("update the agent")
}

func decode(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return badStep("its spec cannot be read: " + err.Error())
	}
	return nil
}

func badStep(cause string) error {
	return fault.New(fault.Internal, "E_REQUEST", "the hub's step cannot be read").
		WithSource("agent").WithCause(cause)
}

func (s *step) readIDs(m *control.RunStep) error {
	tenant, ok1 := control.ToID(m.GetTenant())
	environment, ok2 := control.ToID(m.GetEnvironment())
	if !ok1 || !ok2 {
		return badStep("it names no tenant or environment")
	}
	if s.kind == control.KindPing {
		return nil
	}
	if s.name == "" || len(s.name) > page.MaxPath {
		return badStep("it has no name")
	}
	if s.kind != control.KindRead {
		return nil
	}
	job, ok3 := control.ToID(m.GetJob())
	flow, ok4 := control.ToID(m.GetFlow())
	if !ok3 || !ok4 {
		return badStep("it names no job or flow")
	}
	s.header = page.Header{Tenant: tenant, Environment: environment, Flow: flow, FlowVersion: m.GetFlowVersion(),
		Chain: page.Chain{Job: job, Step: s.step}}
	if s.name != page.ReadName(s.header.Chain, s.request) {
		return badStep("its name does not belong to its chain")
	}
	return nil
}

func (r *Runner) readConnection(s *step, m *control.Connection) error {
	id, ok := control.ToID(m.GetId())
	if !ok {
		return badStep("it names no connection")
	}
	t, ok := r.config.Types(m.GetConnector())
	if !ok {
		return fault.Of("E_UNSUPPORTED").WithSource("agent").
			WithSentence("this agent has no such connector").WithCause(m.GetConnector()).WithFix("update the agent")
	}
	settings, err := t.Settings.Decode(m.GetSettingsJson())
	if err != nil {
		return err
	}
	s.connector, s.settings = t, settings
	if s.target, err = t.Target(settings); err != nil {
		return err
	}
	s.connection, err = newConnection(id, m)
	return err
}

// credential is where a connection's secret comes from. Its values live in
// memory only.
type credential struct {
	site   string            // name of one that is kept at the site
	fields map[string]string // as the hub sent it
}

var errCustody = errors.New("this agent does not know the credential's custody")

func newCredential(m *control.Credential) (credential, error) {
	switch m.GetCustody() {
	case "":
		return credential{}, nil
	case "site":
		if m.GetSiteName() == "" {
			return credential{}, badStep("it names no site credential")
		}
		return credential{site: m.GetSiteName()}, nil
	case "hub", "vault":
		var c credential
		if err := json.Unmarshal(m.GetFieldsJson(), &c.fields); err != nil {
			return c, badStep("its credential cannot be read") // the cause might show it
		}
		return c, nil
	}
	return credential{}, fault.Of("E_NO_CREDENTIAL").WithSource("agent").WithCause(errCustody)
}
