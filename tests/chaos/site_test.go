package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"testing"
	"time"

	"ropeway/tests/rig"
)

// atSite rewrites a plant's flow before it is brought up: the export has no key
// unless keyed, and the target is behind the agent as well if far.
func (p *plant) atSite(t *testing.T, keyed, far bool) {
	t.Helper()
	var source, target string
	must(t, p.source.QueryRow(`SELECT current_database()`).Scan(&source))
	must(t, p.target.QueryRow(`SELECT current_database()`).Scan(&target))
	host, port, err := net.SplitHostPort(p.drop.target)
	must(t, err)
	key, group := "", ""
	if keyed {
		key = "key: [id], "
	}
	if far {
		group = "agentGroup: plant\n"
	}
	must(t, p.Write("manifests/flow.yaml", fmt.Sprintf(`kind: AgentGroup
name: plant
---
kind: Credential
name: database
custody: vault
---
kind: Connection
name: erp
connector: postgres
agentGroup: plant
credential: database
settings: {host: %[1]s, port: %[2]s, database: %[3]s, tls: disable}
concurrency: 2
---
kind: Connection
name: warehouse
connector: postgres
%[6]scredential: database
settings: {host: 127.0.0.1, port: %[4]d, database: %[5]s, tls: disable}
concurrency: 3
---
kind: Flow
name: orders
export: {connection: erp, table: orders, %[7]spageSize: 100}
steps:
  - filter: record.status == "paid"
  - map: {id: record.id, cents: int(record.total * 100)}
  - import: {connection: warehouse, table: orders, mode: insert}
    name: load
`, host, port, source, p.drop.port(), target, group, key)))
	must(t, p.Write("policy.yaml", fmt.Sprintf(`rules:
  - {name: erp, connector: postgres, target: "%[1]s:%[2]s", allow: [export, ping]}
  - {name: warehouse, connector: postgres, target: "127.0.0.1:%[3]d", allow: [import, ping]}
`, host, port, p.drop.port())))
}

// pagesOf waits until a job has taken n pages; false when it has ended before.
func (p *plant) pagesOf(ctx context.Context, t *testing.T, id string, n int64) bool {
	t.Helper()
	for {
		job, err := p.JobOf(ctx, id)
		if err == nil && rig.Ended(job.State) {
			return false
		}
		if err == nil && job.Pages >= n {
			return true
		}
		select {
		case <-ctx.Done():
			t.Fatalf("job %s has %d of %d pages: %v", id, job.Pages, n, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// buffered is what `ropeway-agent buffer status` says.
func (p *plant) buffered(ctx context.Context, t *testing.T) (s struct{ Pages, Unacked int }) {
	t.Helper()
	out, err := p.AgentCommand(ctx, "", "buffer", "status", "-o", "json")
	must(t, err)
	must(t, json.Unmarshal([]byte(out), &s))
	return s
}

// TestDelivery_1_4_UnkeyedThroughTheBuffer reads without a key while the tunnel is
// cut and the hub is killed: the request is joined again, nothing is lost or
// doubled, and the agent's buffer is empty in the end.
func TestDelivery_1_4_UnkeyedThroughTheBuffer(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := layPlant(t, "auto", 5, seed)
	p.atSite(t, false, false)
	p.bringUp(t)
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Minute)
	defer stop()
	id, err := p.RunFlow(ctx, "orders")
	must(t, err)
	for i, trouble := range []func(){
		func() { p.Relay.Cut(); <-time.After(2 * time.Second); p.Relay.Mend() },
		func() { p.Hub.Kill(); must(t, p.StartHub(ctx)) },
		func() { p.Relay.Cut(); <-time.After(500 * time.Millisecond); p.Relay.Mend() },
		func() { p.Hub.Kill(); must(t, p.StartHub(ctx)) },
		func() { must(t, p.applyLevel(ctx, 5)) },
	} {
		if !p.pagesOf(ctx, t, id, int64(20*(i+1))) {
			t.Logf("the job ended before trouble %d", i)
			break
		}
		trouble()
	}
	job, err := p.WaitJob(ctx, id)
	must(t, err)
	c := p.count(t)
	if job.State != "completed" || c.lost != 0 || c.doubled != 0 || job.Records.Delivered != int64(c.rows) {
		t.Fatalf("seed %d: job %+v (%+v), target %+v\nhub:\n%s\nagent:\n%s", seed, job, job.Cause, c,
			rig.Tail(p.Path("hub.log"), 40), rig.Tail(p.Path("agent.log"), 40))
	}
	mustRun(t, p, "", "prove", id)
	for p.buffered(ctx, t).Pages > 0 {
		select {
		case <-ctx.Done():
			t.Fatalf("settled pages stay in the buffer: %+v", p.buffered(context.Background(), t))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// applyLevel changes the level of both connections under load.
func (p *plant) applyLevel(ctx context.Context, level int) error {
	text, err := os.ReadFile(p.Path("manifests/flow.yaml"))
	if err != nil {
		return err
	}
	changed := regexp.MustCompile(`concurrency: \d+`).ReplaceAll(text, fmt.Appendf(nil, "concurrency: %d", level))
	if err := p.Write("manifests/flow.yaml", string(changed)); err != nil {
		return err
	}
	_, err = p.Client(ctx, "", "apply", "-f", p.Path("manifests"))
	return err
}

// TestDelivery_1_4_UnkeyedEndsWithItsProcess kills the agent in the middle: the job
// fails loudly, what was delivered stays, and nothing is left in the buffer.
func TestDelivery_1_4_UnkeyedEndsWithItsProcess(t *testing.T) {
	p := layPlant(t, "auto", 0, 1)
	p.atSite(t, false, false)
	p.bringUp(t)
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute)
	defer stop()
	id, err := p.RunFlow(ctx, "orders")
	must(t, err)
	if !p.pagesOf(ctx, t, id, 30) {
		t.Fatal("the job was too quick to test anything")
	}
	p.Agent.Kill()
	must(t, p.StartAgent(ctx, true))
	job, err := p.WaitJob(ctx, id)
	must(t, err)
	if job.State != "failed" || job.Cause == nil || job.Cause.Code != "E_NOT_RESUMABLE" {
		t.Fatalf("job %+v, %+v\n%s", job, job.Cause, rig.Tail(p.Path("hub.log"), 30))
	}
	c := p.count(t)
	if c.rows == 0 || c.doubled != 0 || int64(c.rows) < job.Records.Delivered {
		t.Errorf("job %+v, target %+v", job.Records, c)
	}
	for p.buffered(ctx, t).Pages > 0 {
		select {
		case <-ctx.Done():
			t.Fatal("pages of the dead read stay in the buffer")
		case <-time.After(200 * time.Millisecond):
		}
	}
	execute(t, p.target, `TRUNCATE orders`)
	id, err = p.RunFlow(ctx, "orders") // and the next one runs
	must(t, err)
	if job, err = p.WaitJob(ctx, id); err != nil || job.State != "completed" {
		t.Errorf("the next job is %s, %v", job.State, err)
	}
	if c := p.count(t); c.lost != 0 || c.doubled != 0 {
		t.Errorf("target %+v", c)
	}
}

// TestDelivery_3_4_ImportAtTheSiteWhoseAnswerIsLost imports through the agent while
// the tunnel is cut for a moment again and again, a third of the answers to COMMIT
// is lost, and the agent is killed between commit and answer.
func TestDelivery_3_4_ImportAtTheSiteWhoseAnswerIsLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 6))
	p := layPlant(t, "auto", 30, seed)
	p.atSite(t, true, true)
	p.bringUp(t)
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Minute)
	defer stop()
	id, err := p.RunFlow(ctx, "orders")
	must(t, err)
	troubles := 0
	for ; troubles < 14; troubles++ {
		<-time.After(time.Duration(100+rnd.IntN(400)) * time.Millisecond)
		if job, err := p.JobOf(ctx, id); err == nil && rig.Ended(job.State) {
			break
		}
		if troubles%3 == 2 {
			p.Agent.Kill()
			must(t, p.StartAgent(ctx, false))
			continue
		}
		p.Relay.Cut()
		<-time.After(time.Duration(rnd.IntN(900)) * time.Millisecond) // gone for less than a second
		p.Relay.Mend()
	}
	mended := time.Now()
	job, err := p.WaitJob(ctx, id)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, rig.Tail(p.Path("hub.log"), 40))
	}
	c := p.count(t)
	t.Logf("%d troubles, %d answers dropped, %s after the last; job %+v, target %+v", troubles, p.drop.dropped.Load(),
		time.Since(mended).Round(time.Millisecond), job.Records, c)
	if c.lost != 0 || c.doubled != 0 || job.Records.Delivered != int64(c.rows) {
		t.Fatalf("seed %d: lost %d, doubled %d, job %+v", seed, c.lost, c.doubled, job)
	}
	if p.drop.dropped.Load() == 0 || troubles < 2 {
		t.Error("no answer was lost: nothing was tested")
	}
	mustRun(t, p, "", "prove", id)
}
