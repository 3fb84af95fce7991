package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"ropeway/tests/rig"
)

// agentStatus is what these tests read of `ropeway-agent status -o json`.
type agentStatus struct {
	State string
	Cause struct{ Code, Sentence, Cause, Fix string }

	Tunnels []struct{ Transport string }
}

func (w *world) agentStatus() agentStatus {
	w.t.Helper()
	out, err := w.AgentCommand(w.context(20*time.Second), "", "status", "-o", "json")
	if err != nil {
		w.t.Fatalf("%v\nagent:\n%s", err, rig.Tail(w.Path("agent.log"), 20))
	}
	return decode[agentStatus](w.t, out)
}

// tunnelOver waits until the agent's tunnel runs over transport and returns how
// long it took.
func (w *world) tunnelOver(transport string, patience time.Duration) time.Duration {
	w.t.Helper()
	start := time.Now()
	for last := (agentStatus{}); ; {
		if len(last.Tunnels) == 1 && last.Tunnels[0].Transport == transport {
			return time.Since(start)
		}
		if time.Since(start) > patience {
			w.t.Fatalf("not over %s in %s: %+v\nagent:\n%s\nhub:\n%s", transport, patience, last,
				rig.Tail(w.Path("agent.log"), 20), rig.Tail(w.Path("hub.log"), 20))
		}
		<-time.After(50 * time.Millisecond)
		last = w.agentStatus()
	}
}

const copySteps = "  - import: {connection: warehouse, table: orders, mode: insert}\n"

// udpWorld is a site whose agent can reach the hub by UDP too, with so many
// rows in its source. The agent's transport is as given.
func udpWorld(t *testing.T, transport string, rows int) (*world, *rig.UDPRelay) {
	t.Helper()
	w := newWorld(t)
	udp, err := rig.NewUDPRelay(w.Relay.Addr(), w.Listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(udp.Close)
	w.Env = append(w.Env, "ROPEWAY_AGENT_TRANSPORT="+transport)
	w.sql(w.source, `CREATE TABLE orders (id bigint PRIMARY KEY, note text)`)
	w.sql(w.source, fmt.Sprintf(`INSERT INTO orders SELECT i, repeat('x', 200) FROM generate_series(1, %d) i`, rows))
	w.sql(w.target, `CREATE TABLE orders (id bigint, note text)`)
	w.up(copySteps)
	small := strings.Replace(w.manifests(copySteps), "key: [id]}", "key: [id], pageSize: 100}", 1)
	w.write("small.yaml", small) // so that a job lasts
	w.run("", "apply", "-f", w.Path("small.yaml"))
	return w, udp
}

// exact checks that the target holds each row once.
func (w *world) exact(job rig.Job) {
	w.t.Helper()
	want := w.number(w.source, `SELECT count(*) FROM orders`)
	rows, different := w.number(w.target, `SELECT count(*) FROM orders`), w.number(w.target, `SELECT count(DISTINCT id) FROM orders`)
	if job.State != "completed" || rows != want || different != want {
		w.t.Errorf("job %+v, %d of %d rows in the target, %d different ones\nhub:\n%s", job, rows, want, different, rig.Tail(w.Path("hub.log"), 30))
	}
}

func TestQUIC_AutoGoesOverUnderAFlowAndCutsNothing(t *testing.T) {
	w, _ := udpWorld(t, "auto", 100_000)
	if s := w.agentStatus(); len(s.Tunnels) != 1 || s.State != "online" {
		t.Fatalf("not online at first: %+v", s)
	}
	ctx := w.context(2 * time.Minute)
	id, err := w.RunFlow(ctx, "orders-to-warehouse")
	w.must(err)
	t.Logf("over quic %s after the first look", w.tunnelOver("quic", 20*time.Second).Round(time.Millisecond))
	moved, err := w.JobOf(ctx, id)
	w.must(err)
	t.Logf("the job at the move: %s, %+v", moved.State, moved.Records)
	if rig.Ended(moved.State) {
		t.Log("the job was too quick: this run proves nothing about calls under way")
	}
	if out := w.run("", "agent", "list", "-o", "json"); !strings.Contains(out, `"quic"`) {
		t.Errorf("the hub does not say quic: %s", out)
	}
	job, err := w.WaitJob(ctx, id)
	w.must(err)
	w.exact(job)
	if log, err := os.ReadFile(w.Path("hub.log")); err != nil || strings.Contains(string(log), "E_TUNNEL_CUT") {
		t.Errorf("the move cut something: %v\n%s", err, rig.Tail(w.Path("hub.log"), 30))
	}
}

func TestQUIC_ForcedRunsAFlow(t *testing.T) {
	w, _ := udpWorld(t, "quic", 20_000)
	w.Relay.Cut() // nothing of it needs TCP
	if s := w.agentStatus(); s.State != "online" || s.Tunnels[0].Transport != "quic" {
		t.Fatalf("not over quic: %+v", s)
	}
	ctx := w.context(2 * time.Minute)
	id, err := w.RunFlow(ctx, "orders-to-warehouse")
	w.must(err)
	job, err := w.WaitJob(ctx, id)
	w.must(err)
	w.exact(job)
	w.Hub.Kill()
	w.must(w.StartHub(ctx)) // it knows its agents by the key of its resets
	start := time.Now()
	for !strings.Contains(w.run("", "agent", "list", "-o", "json"), `"quic"`) {
		if time.Since(start) > 15*time.Second {
			t.Fatalf("not back after a restart of the hub\nagent:\n%s", rig.Tail(w.Path("agent.log"), 20))
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("back %s after the hub", time.Since(start).Round(time.Millisecond))
	w.must(w.Agent.Stop(10 * time.Second))
	w.must(w.StartAgent(ctx, true))
	w.must(w.Hub.Stop(10 * time.Second))
}

// Promise T7: UDP dies under a running flow; TCP goes on within 5 s.
func TestPromise_T7_UDPDiesUnderAFlow(t *testing.T) {
	w, udp := udpWorld(t, "auto", 40_000)
	w.tunnelOver("quic", 20*time.Second)
	ctx := w.context(3 * time.Minute)
	id, err := w.RunFlow(ctx, "orders-to-warehouse")
	w.must(err)
	for w.number(w.target, `SELECT count(*) FROM orders`) == 0 {
		<-time.After(10 * time.Millisecond)
	}
	udp.Drop()
	// A session over QUIC shows until its death is noticed.
	took := w.tunnelOver("tcp", 10*time.Second)
	t.Logf("back on tcp after %s", took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	job, err := w.WaitJob(ctx, id)
	w.must(err)
	w.exact(job)
	if s := w.agentStatus(); s.Tunnels[0].Transport != "tcp" {
		t.Errorf("it has flapped: %+v", s)
	}
}

func TestQUIC_ForcedAndBlockedSaysSo(t *testing.T) {
	w, udp := udpWorld(t, "quic", 0)
	udp.Drop()
	start := time.Now()
	for {
		s := w.agentStatus()
		if s.State == "offline" && s.Cause.Code == "E_UNREACHABLE" && strings.Contains(s.Cause.Sentence, "QUIC") {
			if !strings.Contains(s.Cause.Cause, "UDP may be blocked") || !strings.Contains(s.Cause.Fix, "--transport auto") {
				t.Errorf("cause %+v", s.Cause)
			}
			break
		}
		if time.Since(start) > 40*time.Second {
			t.Fatalf("status %+v\nagent:\n%s", s, rig.Tail(w.Path("agent.log"), 20))
		}
		<-time.After(200 * time.Millisecond)
	}
	udp.Pass() // and it never gives up
	w.tunnelOver("quic", 30*time.Second)
}

func TestQUIC_HubWithoutUDPGoesOn(t *testing.T) {
	w := newWorld(t)
	taken, err := net.ListenPacket("udp", w.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w.sql(w.source, `CREATE TABLE orders (id bigint PRIMARY KEY, note text)`)
	w.sql(w.target, `CREATE TABLE orders (id bigint, note text)`)
	w.up(copySteps)
	if s := w.agentStatus(); s.State != "online" || s.Tunnels[0].Transport != "tcp" {
		t.Errorf("status %+v", s)
	}
	if log := rig.Tail(w.Path("hub.log"), 100); !strings.Contains(log, "quic is off; agents stay with tcp") {
		t.Errorf("the hub does not say so:\n%s", log)
	}
}
