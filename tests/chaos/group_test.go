package chaos

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"ropeway/tests/rig"
)

// TestPromise_T6_TwoAgentsOfOneGroupTakeTurns kills whichever agent has just
// started, so that one export goes back and forth between two machines while the
// table changes under it. A name that two executions could share would show as a
// lost or doubled row.
func TestPromise_T6_TwoAgentsOfOneGroupTakeTurns(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	p := newPlant(t, "auto", 0, seed)
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Minute)
	defer stop()
	go p.churn(ctx, seed)

	_, err := p.Client(ctx, "", "agent", "token", "--group", "plant", "--out", p.Path("token2"))
	must(t, err)
	_, err = p.AgentAt(ctx, p.Path("second"), "enroll", "--token-file", p.Path("token2"), "--hub", "https://"+p.Relay.Addr())
	must(t, err)
	second := func() *rig.Process {
		a, err := rig.Start("second agent", p.Path("second.log"), p.Bins.Agent, nil,
			"run", "--state", p.Path("second"), "--policy", p.Path("policy.yaml"))
		must(t, err)
		return a
	}
	other := second()
	defer func() { other.Kill() }()

	id, err := p.RunFlow(ctx, "orders")
	must(t, err)
	turns := 0
	for ; turns < 8; turns++ {
		<-time.After(time.Duration(200+rnd.IntN(400)) * time.Millisecond)
		if job, err := p.JobOf(ctx, id); err == nil && rig.Ended(job.State) {
			break
		}
		if turns%2 == 0 {
			p.Agent.Kill()
			must(t, p.StartAgent(ctx, true))
		} else {
			other.Kill()
			other = second()
			_, err := other.Ready(ctx, "ready")
			must(t, err)
		}
	}
	job, err := p.WaitJob(ctx, id)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, rig.Tail(p.Path("hub.log"), 40))
	}
	c := p.count(t)
	t.Logf("%d turns, job %+v, target %+v", turns, job.Records, c)
	if c.lost != 0 || c.doubled != 0 || job.Records.Delivered != int64(c.rows) {
		t.Fatalf("seed %d: lost %d, doubled %d, delivered %d of %d rows", seed, c.lost, c.doubled, job.Records.Delivered, c.rows)
	}
	if turns < 2 {
		t.Fatalf("only %d turns were taken: the job was too quick to test anything", turns)
	}
}
