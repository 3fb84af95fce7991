package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"ropeway/tests/rig"
)

// site is a hub and an agent that dials it straight: the work of the rig's relay
// would be the bench's.
type site struct{ *rig.Site }

// manifests take host and port of the server.
const manifests = `{kind: AgentGroup, name: plant}
---
{kind: Credential, name: database, custody: vault}
---
{kind: Connection, name: erp, connector: postgres, agentGroup: plant, credential: database,
 settings: {host: %[1]s, port: %[2]d, database: erp, tls: disable}}
---
{kind: Connection, name: warehouse, connector: postgres, credential: database, concurrency: 4,
 settings: {host: %[1]s, port: %[2]d, database: warehouse, tls: disable}}
---
kind: Flow
name: plain
export: {connection: erp, table: orders, key: [id]}
steps:
  - import: {connection: warehouse, table: orders, mode: insert}
---
kind: Flow
name: steps # beside stepsSQL
export: {connection: erp, table: orders, key: [id]}
steps:
  - filter: record.status == "paid"
  - map: {id: record.id, customer_id: record.customer_id, status: upper(record.status),
      total_cents: int(record.total * 100), quantity: record.quantity, email: record.email, note: record.note,
      express: record.express, ordered_on: record.ordered_on, updated_at: record.updated_at}
  - import: {connection: warehouse, table: paid_orders, mode: upsert, key: [id]}
`

const policy = `rules:
  - {name: erp read-only, connector: postgres, target: "%s:%d", allow: [export, ping]}
`

func startSite(ctx context.Context, bins rig.Bins, dir string, e *ends) (*site, error) {
	s, err := rig.NewSite(bins, dir)
	if err != nil {
		return nil, err
	}
	if err := configure(ctx, s, e); err != nil {
		s.Close()
		return nil, fmt.Errorf("start hub and agent: %w", err)
	}
	return &site{s}, nil
}

func configure(ctx context.Context, s *rig.Site, e *ends) error {
	for name, text := range map[string]string{"manifests/bench.yaml": manifests, "policy.yaml": policy} {
		if err := s.Write(name, fmt.Sprintf(text, e.pg.Host, e.pg.Port)); err != nil {
			return err
		}
	}
	if err := s.StartHub(ctx); err != nil {
		return err
	}
	secret := fmt.Sprintf(`{"username":%q,"password":%q}`, e.pg.User, e.pg.Password)
	for _, c := range []struct {
		run   func(context.Context, string, ...string) (string, error)
		stdin string
		args  []string
	}{
		{s.Client, "", []string{"apply", "-f", s.Path("manifests")}},
		{s.Client, secret, []string{"secret", "set", "database", "--file", "-"}},
		{s.Client, "", []string{"agent", "token", "--group", "plant", "--out", s.Path("token")}},
		{s.AgentCommand, "", []string{"enroll", "--token-file", s.Path("token"), "--hub", "https://" + s.Listen}},
	} {
		if _, err := c.run(ctx, c.stdin, c.args...); err != nil {
			return err
		}
	}
	return s.StartAgent(ctx, true)
}

func (s *site) plain(ctx context.Context, e *ends) (cost, error) {
	return s.flow(ctx, "plain", e.want["orders"])
}

func (s *site) steps(ctx context.Context, e *ends) (cost, error) {
	return s.flow(ctx, "steps", e.want["paid_orders"])
}

// flow runs a flow to its end and reads what it cost hub and agent.
func (s *site) flow(ctx context.Context, name string, want sum) (cost, error) {
	for _, p := range []*rig.Process{s.Hub, s.Agent} { // measure peak memory anew: proc(5), clear_refs
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0)
	}
	begun, hub, agent := time.Now(), s.Hub.CPU(), s.Agent.CPU()
	out, err := s.Client(ctx, "", "flow", "run", name, "--wait", "-o", "json")
	c := cost{wall: time.Since(begun), hubCPU: s.Hub.CPU() - hub}
	c.cpu = c.hubCPU + s.Agent.CPU() - agent
	c.rss = [2]int64{s.Hub.PeakRSS(), s.Agent.PeakRSS()}
	var job rig.Job
	if err == nil {
		err = json.Unmarshal([]byte(out), &job)
	}
	if err == nil && (job.State != "completed" || job.Records.Delivered != want.rows) {
		err = fmt.Errorf("the job is %s with %+v, not completed with %d delivered", job.State, job.Records, want.rows)
	}
	if err != nil {
		err = fmt.Errorf("%w\nhub: %s\nagent: %s", err, rig.Tail(s.Path("hub.log"), 5), rig.Tail(s.Path("agent.log"), 5))
	}
	return c, err
}
