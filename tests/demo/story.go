package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ropeway/tests/rig"
)

const flowName = "orders-to-warehouse"

// story is one run of the demo.
type story struct {
	*rig.Site
	db      *databases
	rows    int
	started time.Time
	peak    map[string]int64 // most memory seen, by program

	terminal bool
	last     string // line of progress
}

// prepare builds the site: databases, hub, agent, connections and flow.
func (c settings) prepare(ctx context.Context) (*story, error) {
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	bins, err := filepath.Abs("bin")
	if err != nil {
		return nil, err
	}
	site, err := rig.NewSite(rig.At(bins), dir)
	if err != nil {
		return nil, err
	}
	// The database runs as its own user and must pass through; what is secret lies deeper.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	s := &story{Site: site, rows: c.rows, peak: map[string]int64{}, terminal: isTerminal(os.Stdout)}
	say("starting %s and %s", c.db, "the hub")
	if c.db == "sqlite" {
		s.db, err = openSQLite(dir)
	} else {
		s.db, err = openPostgres(ctx, filepath.Join(dir, "postgres"))
	}
	if err != nil {
		return s, err
	}
	for _, step := range []func(context.Context) error{s.fill, s.StartHub, s.configure, s.join} {
		if err := step(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *story) fill(ctx context.Context) error {
	say("filling %d orders into the database behind the agent", s.rows)
	return s.db.fill(ctx, s.rows)
}

// configure applies the manifests and sets the secret.
func (s *story) configure(ctx context.Context) error {
	credential, use := "", ""
	if s.db.credential != "" {
		credential = "kind: Credential\nname: database\ncustody: vault\n---\n"
		use = "credential: database\n"
	}
	text := fmt.Sprintf(`kind: AgentGroup
name: plant-7
---
%[1]skind: Connection
name: erp
connector: %[2]s
agentGroup: plant-7
%[3]ssettings: %[4]s
concurrency: 2
---
kind: Connection
name: warehouse
connector: %[2]s
agentGroup: plant-7
%[3]ssettings: %[5]s
concurrency: 2
---
kind: Flow
name: %[6]s
export:
  connection: erp
  table: orders
  key: [id]
  pageSize: 250
steps:
  - filter: record.status == "paid"
  - map:
      id: record.id
      customer: record.customer_id
      total_cents: int(record.total * 100)
      total: record.total
      note: record.note
  - import: {connection: warehouse, table: orders, mode: insert}
    name: load
`, credential, s.db.connector, use, s.db.settings[0], s.db.settings[1], flowName)
	if s.db.connector == "postgres" {
		// The cloud side of the story: the warehouse is reached by the hub itself.
		text = strings.Replace(text, "name: warehouse\nconnector: postgres\nagentGroup: plant-7\n",
			"name: warehouse\nconnector: postgres\n", 1)
	}
	if err := s.Write("manifests/demo.yaml", text); err != nil {
		return err
	}
	if _, err := s.Client(ctx, "", "apply", "-f", s.Path("manifests")); err != nil {
		return err
	}
	if s.db.credential == "" {
		return nil
	}
	_, err := s.Client(ctx, s.db.credential, "secret", "set", "database", "--file", "-")
	return err
}

// join enrolls the agent with a one-time token and starts it.
func (s *story) join(ctx context.Context) error {
	policy := "rules:\n"
	for i, name := range []string{"erp read-only", "warehouse"} {
		allow := []string{"[export, ping]", "[import, ping]"}[i]
		policy += fmt.Sprintf("  - name: %s\n    connector: %s\n    target: %q\n    allow: %s\n",
			name, s.db.connector, s.db.targets[i], allow)
		if s.db.connector == "postgres" {
			break // the warehouse is not the agent's business
		}
	}
	if err := s.Write("policy.yaml", policy); err != nil {
		return err
	}
	say("enrolling the agent with a one-time token")
	if err := s.Enroll(ctx, "plant-7"); err != nil {
		return err
	}
	return s.StartAgent(ctx, true)
}

// fault is something that happens on the way, once so many rows are exported.
type fault struct {
	at   int64
	name string
	do   func(context.Context) error
}

func (s *story) faults() []fault {
	part := func(percent int) int64 { return int64(s.rows) * int64(percent) / 100 }
	return []fault{
		{part(15), "cutting the tunnel for 3 seconds", func(ctx context.Context) error {
			s.Relay.Cut()
			defer s.Relay.Mend()
			return pause(ctx, 3*time.Second)
		}},
		{part(40), "kill -9 of the agent", func(ctx context.Context) error {
			s.remember()
			s.Agent.Kill()
			return s.StartAgent(ctx, false)
		}},
		{part(65), "kill -9 of the hub", func(ctx context.Context) error {
			s.remember()
			s.Hub.Kill()
			return s.StartHub(ctx)
		}},
	}
}

// play runs the flow with its faults and judges the result.
func (s *story) play(ctx context.Context) (verdict, error) {
	s.started = time.Now()
	id, err := s.RunFlow(ctx, flowName)
	if err != nil {
		return verdict{}, err
	}
	say("job %s runs: %s → filter → map → %[2]s", id, map[string]string{"postgres": "PostgreSQL", "sqlite": "SQLite"}[s.db.connector])
	faults := s.faults()
	var job rig.Job
	for !rig.Ended(job.State) {
		if now, err := s.JobOf(ctx, id); err == nil {
			job = now
			s.progress(job)
		}
		if len(faults) > 0 && job.Records.Exported >= faults[0].at && !rig.Ended(job.State) {
			s.say("%s", faults[0].name)
			if err := faults[0].do(ctx); err != nil {
				return verdict{}, err
			}
			faults = faults[1:]
		}
		if err := pause(ctx, 150*time.Millisecond); err != nil {
			return verdict{}, fmt.Errorf("job %s did not end in time: %w", id, err)
		}
	}
	if len(faults) > 0 {
		return verdict{}, fmt.Errorf("the job ended before %q could happen; try more rows (DEMO_ROWS)", faults[0].name)
	}
	s.remember()
	took := time.Since(s.started)
	v, err := s.db.judge(ctx)
	if err != nil {
		return v, err
	}
	s.table(job, took)
	return v, s.prove(ctx, id)
}

// progress shows where the job is: in place on a terminal, else a line for each
// change.
func (s *story) progress(job rig.Job) {
	line := fmt.Sprintf("  %-9s exported %7d  delivered %7d", job.State, job.Records.Exported, job.Records.Delivered)
	switch {
	case line == s.last:
	case s.terminal && !rig.Ended(job.State):
		fmt.Printf("\r%s\033[K", line)
	case s.terminal:
		fmt.Printf("\r%s\033[K\n", line)
	default:
		fmt.Println(line)
	}
	s.last = line
}

// say ends a line in place before it says something.
func (s *story) say(format string, args ...any) {
	if s.terminal && s.last != "" {
		fmt.Println()
		s.last = ""
	}
	say(format, args...)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// table prints the short report.
func (s *story) table(job rig.Job, took time.Duration) {
	r := job.Records
	fmt.Printf("\n  %-11s %12s\n", "records", "")
	for _, row := range []struct {
		name  string
		count int64
	}{{"exported", r.Exported}, {"delivered", r.Delivered}, {"filtered", r.Filtered}, {"parked", r.Parked}} {
		fmt.Printf("  %-11s %12d\n", row.name, row.count)
	}
	fmt.Printf("  %-11s %12.0f  (faults and restarts included)\n", "rows/s", float64(r.Exported)/took.Seconds())
	for _, name := range []string{"hub", "agent"} {
		fmt.Printf("  %-11s %9d MB  peak memory\n", name, s.peak[name]>>20)
	}
	fmt.Println()
}

// prove asks the hub for its own account, which must close too.
func (s *story) prove(ctx context.Context, id string) error {
	out, err := s.Client(ctx, "", "prove", id, "-o", "json")
	if err != nil {
		return err
	}
	var proof struct {
		Closed   bool
		Findings []string
	}
	if err := json.Unmarshal([]byte(out), &proof); err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	if !proof.Closed {
		return fmt.Errorf("the job's sum is open: %v", proof.Findings)
	}
	return nil
}

// remember notes the memory of the programs before one of them ends.
func (s *story) remember() {
	s.peak["hub"] = max(s.peak["hub"], s.Hub.PeakRSS())
	s.peak["agent"] = max(s.peak["agent"], s.Agent.PeakRSS())
}

// invite says how to go on by hand.
func (s *story) invite() {
	fmt.Printf(`The demo stays up until Ctrl-C. In another terminal:

  export ROPEWAY_URL=https://%s ROPEWAY_CA=%s ROPEWAY_TOKEN_FILE=%s
  bin/ropeway error list --flow %s
  bin/ropeway agent list

  API       https://%s/api/docs
  sign-in   the token in %s

`, s.Listen, s.Path("hub", "ca.pem"), s.Path("hub", "admin.token"), flowName, s.Listen, s.Path("hub", "admin.token"))
}

func (s *story) close() {
	s.Site.Close()
	if s.db != nil {
		s.db.close()
	}
}

func say(format string, args ...any) { fmt.Printf("▸ "+format+"\n", args...) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
