package store

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Queries stay flat with history (PERFORMANCE P16): no statement of the engine
// or of a list may walk a table that grows with it. The test collects every
// statement that a run through the methods prepared and reads its plan.
func TestPerformance_P16_NoStatementScansAGrowingTable(t *testing.T) {
	s := openInside(t)
	touchEverything(t, s)
	growing := regexp.MustCompile(`SCAN (jobs|j|chains|c|roots|receipts|parked|n|claims|epochs|audit|job_steps|job_connections)\b`)
	sorted := regexp.MustCompile(`USE TEMP B-TREE FOR ORDER BY`)
	seen := 0
	for query := range s.statements(t) {
		plan := s.plan(t, query)
		seen++
		for _, line := range plan {
			bounded := strings.Contains(line, "chains_open") || strings.Contains(line, "jobs_open") ||
				strings.Contains(line, "fixed_pages_waiting") || strings.Contains(line, "jobs_retry")
			if growing.MatchString(line) && !bounded {
				t.Errorf("%s\n  %s", query, strings.Join(plan, "\n  "))
			}
			if sorted.MatchString(line) && strings.Contains(query, "LIMIT") {
				t.Errorf("sorted before it is cut: %s\n  %s", query, strings.Join(plan, "\n  "))
			}
		}
	}
	if seen < 60 {
		t.Fatalf("only %d statements were seen", seen)
	}
}

// statements are the texts of all prepared statements.
func (s *Store) statements(t *testing.T) map[string]bool {
	out := map[string]bool{}
	s.mu.Lock()
	for q := range s.reads {
		out[q] = true
	}
	s.mu.Unlock()
	err := s.write(context.Background(), func(x *tx) error {
		for q := range x.stmts {
			out[q] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *Store) plan(t *testing.T, query string) (lines []string) {
	verb, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	switch verb {
	case "SELECT", "UPDATE", "DELETE", "INSERT":
	default:
		return nil
	}
	args := make([]any, strings.Count(query, "?"))
	rows, err := s.readDB.Query("EXPLAIN QUERY PLAN "+query, args...)
	err = each(rows, err, func(r rowScanner) error {
		var id, parent, unused int
		var detail string
		err := r.Scan(&id, &parent, &unused, &detail)
		lines = append(lines, detail)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return lines
}

// touchEverything calls the methods that engine, lists and sweeps use. Their
// answers do not matter here.
func touchEverything(t *testing.T, s *Store) {
	ctx, now := context.Background(), time.Now()
	tenant, err := s.EnsureTenant(ctx, "main", "", now)
	if err != nil {
		t.Fatal(err)
	}
	env, err := s.EnsureEnvironment(ctx, tenant.ID, "default", now)
	if err != nil {
		t.Fatal(err)
	}
	scope := Scope{Tenant: tenant.ID, Environment: env.ID}
	n := NewJob{Scope: scope, ID: page.NewID(), Flow: page.NewID(), Kind: model.JobRun,
		Steps:       []string{"read", "load"},
		Connections: []page.ID{page.NewID()}, Export: &NewChain{Step: "read", Resumable: true}, Now: now}
	chain := page.Chain{Job: n.ID, Step: "read"}
	epoch := page.NewEpoch()
	root := page.ChainedName(chain, epoch, 0)
	parked := NewParked{ID: page.NewID(), TraceHash: page.Hash{1}, Origin: page.Origin{Root: root}}
	s.CreateJob(ctx, n)
	s.Resume(ctx, ResumeRequest{Scope: scope, Chain: chain, Epoch: epoch, Now: now})
	s.CheckPage(ctx, PageCheck{Scope: scope, Root: root})
	s.Accept(ctx, Acceptance{Scope: scope, Root: root, PageHash: page.Hash{1}, Records: 1,
		Published: []string{root + "/load"}, Now: now})
	s.Admit(ctx, Admission{Scope: scope, Name: root + "/load", Job: n.ID, NeedClaim: true, Now: now})
	s.Admit(ctx, Admission{Scope: scope, Name: root + "/load", Job: n.ID, Now: now})
	s.StoreAnswer(ctx, scope, root+"/load", page.Claim{}, nil, now)
	settled, err := s.Settle(ctx, Receipt{Scope: scope, Name: root + "/load", Job: n.ID, Step: "load",
		Parked: []NewParked{parked}, Outcomes: Outcomes{Parked: 1},
		Counts: []model.StepCount{{Step: "load", In: 1, Parked: 1}}, Now: now})
	if err != nil || !settled.Settled {
		t.Fatalf("%+v, %v", settled, err)
	}
	s.EndRead(ctx, ReadEnd{Scope: scope, Chain: chain, Now: now})
	s.MarkReadPublished(ctx, scope, chain, 1, now)
	s.PendingReads(ctx, now)
	s.Watermark(ctx, scope, chain)
	s.PauseJob(ctx, scope, n.ID, Pause{}, now)
	s.TryPaused(ctx, scope, n.ID, now)
	s.DuePaused(ctx, now)
	s.OpenJobs(ctx)
	s.UsedBy(ctx, n.Connections[0])
	s.ResumeJob(ctx, scope, n.ID, now)
	s.PauseConnection(ctx, scope, n.Connections[0], now)
	s.ResumeConnection(ctx, scope, n.Connections[0], now)
	s.Prove(ctx, scope, n.ID, now)
	s.UnkeyedMarks(ctx, scope, n.Connections[0])
	s.Plan(ctx, scope, n.ID)
	touchLists(ctx, s, scope, n, parked)
	retry := n
	retry.ID, retry.Kind, retry.Export = page.NewID(), model.JobRetry, nil
	retryRoot := page.ChainedName(page.Chain{Job: retry.ID, Step: "retry"}, page.Epoch{}, 0)
	s.ParkedByID(ctx, scope, parked.ID)
	s.EditParked(ctx, scope, parked.ID, nil, "x", now)
	if _, err := s.CreateRetry(ctx, NewRetry{Job: retry, Pages: []RetryPage{{Root: retryRoot,
		Published: retryRoot + "/load",
		Records:   []page.ID{parked.ID}}}}); err != nil {
		t.Fatal(err)
	}
	s.PendingRetries(ctx, now)
	s.RetryRecords(ctx, scope, retryRoot)
	s.MarkRetryPublished(ctx, scope, retryRoot, now)
	again := parked
	again.ID = page.NewID()
	s.Settle(ctx, Receipt{Scope: scope, Name: retryRoot + "/load", Job: retry.ID, Step: "load",
		Parked: []NewParked{again}, Now: now})
	s.CancelJob(ctx, scope, retry.ID, now)
	s.CancelJob(ctx, scope, n.ID, now)
	s.Settle(ctx, Receipt{Scope: scope, Name: retryRoot + "/load", Job: retry.ID, Step: "load", Now: now})
	s.Clean(ctx, now.Add(40*24*time.Hour))
	s.Audit(ctx, model.AuditEntry{Tenant: tenant.ID})
	s.AuditEntries(ctx, tenant.ID, 10, 0)
	s.VerifyAudit(ctx, tenant.ID)
}

func touchLists(ctx context.Context, s *Store, scope Scope, n NewJob, parked NewParked) {
	cursor := cursorAt(time.Now(), page.NewID())
	waiting := []model.ParkedState{model.ParkedWaiting}
	for _, f := range []ParkedFilter{{}, {Flow: n.Flow}, {Job: n.ID}, {States: waiting}, {Flow: n.Flow,
		States: waiting},
		{Fingerprint: "x"}, {Class: fault.Value}, {Code: "E_VALUE"},
		{States: []model.ParkedState{model.ParkedWaiting, model.ParkedRetrying}},
		{IDs: []page.ID{parked.ID}}} {
		for _, c := range []string{"", cursor} {
			s.Parked(ctx, scope, f, 10, c)
		}
	}
	running := []model.JobState{model.JobRunning}
	for _, f := range []JobFilter{{}, {Flow: n.Flow}, {States: running},
		{States: []model.JobState{model.JobFailed, model.JobCompleted}}} {
		for _, c := range []string{"", cursor} {
			s.Jobs(ctx, scope, f, 10, c)
		}
	}
	s.HasParked(ctx, scope, n.Flow)
	s.ResolveByTrace(ctx, scope, n.Flow, page.NewID(), []page.Hash{{2}}, time.Now())
}

// A history of 100 k jobs and 1 M parked records must not slow the engine down.
// The history is written in one go; what is measured is a page's life after it.
func BenchmarkPerformance_P16_HistoryOf100kJobs(b *testing.B) {
	if testing.Short() {
		b.Skip("writes a long history")
	}
	s, err := Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "hub.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for name, n := range map[string]int{"jobs": 100_000, "parked": 1_000_000} {
		if err := s.write(context.Background(), func(x *tx) error {
			return history(x, name,
				n)
		}); err != nil {
			b.Fatal(err)
		}
	}
	benchmarkPages(b, s)
}

// history copies a template row n times.
func history(x *tx, table string, n int) error {
	template := map[string]string{
		"jobs": `INSERT INTO jobs SELECT 'job' || value, 't', 'e', 'f' || value % 50, 'flow', 1, 'run',
			'completed', '', '', 0, '', '',
			value, value, value, 1, 1, 0, 0, 0, 1, 1, 1 FROM generate`,
		"parked": `INSERT INTO parked SELECT 'parked' || value, 't', 'e', 'job' || value % 1000, 'f' ||
			value % 50, 'flow', 1, 'load',
			'p', 0, 'root' || value, 0, 'value', 'E_VALUE', 'print' || value % 20, x'', x'00', x'00',
			'parked', '', '', 0, 0, 1, 0,
			value, value FROM generate`,
	}
	_, err := x.exec(strings.Replace(template[table], "FROM generate",
		`FROM (WITH RECURSIVE g(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM g WHERE value < ?)
			SELECT value FROM g)`, 1), n)
	return err
}
