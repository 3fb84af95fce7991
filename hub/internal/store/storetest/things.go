package storetest

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// apply applies one object and ends the test on an error.
func (r *Rig) apply(c store.Change) store.Applied {
	r.T.Helper()
	got, err := r.S.ApplyObjects(Ctx, r.Scope, "ann", []store.Change{c}, r.Now())
	r.OK(err)
	return got[0]
}

func objects(r *Rig) {
	change := store.Change{Kind: model.KindFlow, Name: "orders", Spec: json.RawMessage(`{"steps":
		[]}`)}
	first := r.apply(change)
	if first.Action != store.ActionCreated || first.Object.Version != 1 {
		r.T.Fatalf("got %+v", first)
	}
	if again := r.apply(change); again.Action != store.ActionUnchanged || again.Object.Version != 1 {
		r.T.Fatalf("the same spec gives %+v", again)
	}
	change.Labels = map[string]string{"team": "blue"}
	if labelled := r.apply(change); labelled.Action != store.ActionChanged ||
		labelled.Object.Version != 1 {
		r.T.Fatalf("another label gives %+v", labelled)
	}
	change.Spec = json.RawMessage(`{"steps":[{"filter":"x"}]}`)
	second := r.apply(change)
	if second.Action != store.ActionChanged || second.Object.Version != 2 ||
		second.Object.ID != first.Object.ID {
		r.T.Fatalf("another spec gives %+v", second)
	}
	got, err := r.S.Object(Ctx, r.Scope, model.KindFlow, "orders")
	r.OK(err)
	byID, err := r.S.ObjectByID(Ctx, r.Scope, first.Object.ID)
	r.OK(err)
	if d := cmp.Diff(got, byID); d != "" || got.Labels["team"] != "blue" || got.Version != 2 {
		r.T.Fatalf("got %+v: %s", got, d)
	}
	for version, spec := range map[uint64]string{1: `{"steps":[]}`, 2: `{"steps":[{"filter":"x"}]}`} {
		v, err := r.S.FlowVersion(Ctx, r.Scope, got.ID, version)
		r.OK(err)
		if string(v.Spec) != spec || v.Name != "orders" {
			r.T.Fatalf("version %d is %+v", version, v)
		}
	}
	change.IfVersion = 1
	_, err = r.S.ApplyObjects(Ctx, r.Scope, "ann", []store.Change{change}, r.Now())
	r.Refused(err, "E_CONFLICT")
	r.OK(r.S.DeleteObject(Ctx, r.Scope, store.Deletion{Kind: model.KindFlow, Name: "orders",
		Actor: "ann", Now: r.Now()}))
	change.IfVersion = 0
	if made := r.apply(change); made.Object.ID == first.Object.ID || made.Object.Version != 1 {
		r.T.Fatalf("a name made again gives %+v", made)
	}
	if v, err := r.S.FlowVersion(Ctx, r.Scope, first.Object.ID, 2); err != nil || v.Name != "orders" {
		r.T.Fatalf("the versions of a deleted flow are gone: %v", err)
	}
}

func objectsAllOrNone(r *Rig) {
	_, err := r.S.ApplyObjects(Ctx, r.Scope, "ann", []store.Change{
		{Kind: model.KindCredential, Name: "good", Spec: json.RawMessage(`{}`)},
		{Kind: model.KindCredential, Name: "bad", Spec: json.RawMessage(`{`)}}, r.Now())
	if err == nil {
		r.T.Fatal("a broken spec was taken")
	}
	list, err := r.S.Objects(Ctx, r.Scope, model.KindCredential)
	r.OK(err)
	log, err := r.S.AuditEntries(Ctx, r.Scope.Tenant, 10, 0)
	r.OK(err)
	if len(list) != 0 || len(log.Items) != 0 {
		r.T.Fatalf("%d objects and %d audit rows were written", len(list), len(log.Items))
	}
}

func objectsInUse(r *Rig) {
	run, list := r.parkedRun(2)
	flow := r.apply(store.Change{Kind: model.KindFlow, Name: "f", Spec: json.RawMessage(`{}`)}).Object
	busy := &JobRun{Rig: r, Job: page.NewID(), Flow: flow.ID, Conn: page.NewID()}
	busy.Chain = page.Chain{Job: busy.Job, Step: "read"}
	_, err := r.S.CreateJob(Ctx, busy.newJob())
	r.OK(err)
	busy.Resume(0)
	a := busy.Next(4)
	busy.Accept(a)
	busy.Settle(busy.Receipt(a, 1))
	d := store.Deletion{Kind: model.KindFlow, Name: "f", Actor: "ann", Now: r.Now()}
	err = r.S.DeleteObject(Ctx, r.Scope, d)
	r.Refused(err, "E_IN_USE")
	if cause := fault.From(err).Cause; cause != "1 jobs, 1 parked records" {
		r.T.Fatalf("the refusal counts %q", cause)
	}
	d.Purge = true
	r.OK(r.S.DeleteObject(Ctx, r.Scope, d))
	if j := busy.State(); j.State != model.JobCancelled {
		r.T.Fatalf("the job of the deleted flow is %s", j.State)
	}
	if p := busy.parked(); p[0].State != model.ParkedIgnored {
		r.T.Fatalf("the record of the deleted flow is %s", p[0].State)
	}
	if p := run.parked(); p[0].State != model.ParkedWaiting || len(p) != len(list) {
		r.T.Fatal("a record of another flow was touched")
	}
	r.Refused(r.S.DeleteObject(Ctx, r.Scope, d), "E_NOT_FOUND")
}

func connectionStates(r *Rig) {
	id := page.NewID()
	state, err := r.S.ConnectionState(Ctx, r.Scope, id)
	r.OK(err)
	if state.State != model.Online || state.Connection != id {
		r.T.Fatalf("a connection without a row is %+v", state)
	}
	var wins atomic.Int64
	var wg sync.WaitGroup
	probe := start.Add(time.Minute)
	for range 16 {
		wg.Go(func() {
			_, written, err := r.S.ChangeConnection(Ctx, r.Scope, id,
				func(s model.ConnectionState) (model.ConnectionState, bool) {
					if s.State == model.Offline {
						return s, false
					}
					s.State, s.Cause, s.NextProbe, s.Fault = model.Offline, model.CauseAuth, &probe,
						fault.Of("E_AUTH_REJECTED")
					return s, true
				})
			if err != nil {
				r.T.Error(err)
			}
			if written {
				wins.Add(1)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		r.T.Fatalf("%d callers took the connection offline, want 1", wins.Load())
	}
	for now, want := range map[time.Time]int{start: 0, probe: 1} {
		due, err := r.S.DueProbes(Ctx, now)
		r.OK(err)
		if len(due) != want {
			r.T.Fatalf("%d probes are due at %s, want %d", len(due), now, want)
		}
	}
	list, err := r.S.OfflineConnections(Ctx)
	r.OK(err)
	if len(list) != 1 || list[0].Cause != model.CauseAuth || list[0].Scope != r.Scope ||
		list[0].Fault.Code != "E_AUTH_REJECTED" {
		r.T.Fatalf("offline are %+v", list)
	}
}

func apiTokens(r *Rig) {
	expires := start.Add(time.Hour)
	tok := store.APIToken{ID: page.NewID(), Tenant: r.Scope.Tenant, Name: "ci", Role: "builder",
		Environments: []page.ID{r.Scope.Environment}, Created: start, Expires: &expires}
	r.OK(r.S.CreateAPIToken(Ctx, tok, [32]byte{1}, "ann"))
	got, found, err := r.S.APITokenByHash(Ctx, [32]byte{1})
	r.OK(err)
	if d := cmp.Diff(tok, got); d != "" || !found {
		r.T.Fatal(d)
	}
	if _, found, err := r.S.APITokenByHash(Ctx, [32]byte{2}); err != nil || found {
		r.T.Fatalf("an unknown hash was found, %v", err)
	}
	r.OK(r.S.TouchAPIToken(Ctx, tok.ID, start.Add(time.Minute)))
	r.OK(r.S.RevokeAPIToken(Ctx, r.Scope.Tenant, "ci", "ann", start.Add(time.Minute)))
	r.Refused(r.S.RevokeAPIToken(Ctx, r.Scope.Tenant, "ci", "ann", start), "E_NOT_FOUND")
	list, err := r.S.APITokens(Ctx, r.Scope.Tenant)
	r.OK(err)
	if len(list) != 1 || list[0].Revoked == nil || list[0].LastUsed == nil {
		r.T.Fatalf("got %+v", list)
	}
}

func redeemOnce(r *Rig) {
	tok := store.EnrollToken{ID: page.NewID(), Scope: r.Scope, Group: page.NewID(),
		GroupName: "plant-7", Uses: 1,
		CreatedBy: "ann", Created: start, Expires: start.Add(time.Hour)}
	r.OK(r.S.CreateEnrollToken(Ctx, tok, [32]byte{1}))
	agents := make([]page.ID, 100)
	var wins atomic.Int64
	var wg sync.WaitGroup
	for i := range agents {
		wg.Go(func() {
			got, err := r.S.RedeemToken(Ctx, [32]byte{1}, [32]byte{byte(i)}, start)
			if err == nil {
				wins.Add(1)
				agents[i] = got.Agent
			} else if fault.CodeOf(err) != "E_TOKEN_USED" {
				r.T.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		r.T.Fatalf("%d keys redeemed the token, want 1", wins.Load())
	}
	for i, agent := range agents {
		if agent.IsZero() {
			continue
		}
		again, err := r.S.RedeemToken(Ctx, [32]byte{1}, [32]byte{byte(i)}, start)
		r.OK(err)
		if again.Agent != agent || !again.Repeat || again.Token.Group != tok.Group {
			r.T.Fatalf("the winner coming again gets %+v", again)
		}
	}
	_, err := r.S.RedeemToken(Ctx, [32]byte{9}, [32]byte{1}, start)
	r.Refused(err, "E_TOKEN_INVALID")
	_, err = r.S.RedeemToken(Ctx, [32]byte{1}, [32]byte{1}, start.Add(time.Hour))
	r.Refused(err, "E_TOKEN_EXPIRED")
	r.OK(r.S.RevokeEnrollToken(Ctx, r.Scope, tok.ID, "ann", start))
	_, err = r.S.RedeemToken(Ctx, [32]byte{1}, [32]byte{1}, start)
	r.Refused(err, "E_TOKEN_INVALID")
}

// agent enrolls an agent.
func (r *Rig) agent(name string) model.Agent {
	r.T.Helper()
	a := model.Agent{ID: page.NewID(), Tenant: r.Scope.Tenant, Environment: r.Scope.Environment,
		Group:     page.NewID(),
		GroupName: "plant-7", Name: name, State: model.AgentOffline, Hostname: "host",
		Serial: "0a" + name, Enrolled: start}
	r.OK(r.S.PutAgent(Ctx, a, []byte("key of "+name)))
	return a
}

func newestProcess(r *Rig) {
	a := r.agent("one")
	hello := func(process byte) (uint64, bool) {
		epoch, newest, err := r.S.Hello(Ctx, r.Scope, a.ID, [16]byte{process}, r.Now())
		r.OK(err)
		return epoch, newest
	}
	for _, c := range []struct {
		process byte
		epoch   uint64
		newest  bool
	}{{1, 1, true}, {1, 1, true}, {2, 2, true}, {1, 1, false}, {2, 2, true}, {3, 3, true}} {
		if epoch, newest := hello(c.process); epoch != c.epoch || newest != c.newest {
			r.T.Fatalf("process %d gets epoch %d, newest %v", c.process, epoch, newest)
		}
	}
	again := a
	again.Hostname = "moved"
	r.OK(r.S.PutAgent(Ctx, again, []byte("key 2")))
	if epoch, _ := hello(4); epoch != 4 {
		r.T.Fatalf("after a new enrollment the epoch is %d", epoch)
	}
}

func revokedAgents(r *Rig) {
	a, b := r.agent("one"), r.agent("two")
	twin := b
	twin.ID = page.NewID()
	r.Refused(r.S.PutAgent(Ctx, twin, nil), "E_EXISTS")
	got, err := r.S.RevokeAgent(Ctx, r.Scope, a.ID, "ann", "lost", r.Now())
	r.OK(err)
	if got.State != model.AgentRevoked || got.Revoked == nil {
		r.T.Fatalf("got %+v", got)
	}
	_, err = r.S.RevokeAgent(Ctx, r.Scope, a.ID, "ann", "lost", r.Now())
	r.OK(err)
	for _, c := range []struct {
		serial, key string
		want        bool
	}{{a.Serial, "x", true}, {"ff", "key of one", true}, {b.Serial, "key of two", false}} {
		revoked, err := r.S.Revoked(Ctx, r.Scope.Tenant, c.serial, []byte(c.key))
		if err != nil || revoked != c.want {
			r.T.Fatalf("%+v is revoked: %v, %v", c, revoked, err)
		}
	}
	_, _, err = r.S.Hello(Ctx, r.Scope, a.ID, [16]byte{1}, r.Now())
	r.Refused(err, "E_REVOKED")
	changed, err := r.S.ChangeAgent(Ctx, r.Scope, a.ID,
		func(a *model.Agent) { a.State = model.AgentOnline })
	r.OK(err)
	if changed.State != model.AgentRevoked {
		r.T.Fatalf("a revoked agent became %s", changed.State)
	}
	list, err := r.S.Agents(Ctx, r.Scope)
	r.OK(err)
	byName, err := r.S.AgentByName(Ctx, r.Scope, "two")
	r.OK(err)
	if len(list) != 2 || byName.ID != b.ID || byName.Hostname != "host" ||
		byName.GroupName != "plant-7" {
		r.T.Fatalf("got %+v and %+v", list, byName)
	}
}

func auditChain(r *Rig) {
	for range 5 {
		r.OK(r.S.Audit(Ctx, model.AuditEntry{At: r.Now(), Tenant: r.Scope.Tenant, Actor: "ann",
			Action: "secret set",
			Kind:   "Credential", Object: "erp"}, model.AuditEntry{At: r.Now(), Tenant: r.Scope.Tenant,
			Action: "x"}))
	}
	n, err := r.S.VerifyAudit(Ctx, r.Scope.Tenant)
	if err != nil || n != 10 {
		r.T.Fatalf("%d entries are sound, %v", n, err)
	}
	var seqs []uint64
	for before := uint64(0); ; {
		list, err := r.S.AuditEntries(Ctx, r.Scope.Tenant, 4, before)
		r.OK(err)
		for _, e := range list.Items {
			seqs = append(seqs, e.Seq)
		}
		if before = list.Next; before == 0 {
			break
		}
	}
	if d := cmp.Diff([]uint64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, seqs); d != "" {
		r.T.Fatal(d)
	}
	if n, err := r.S.VerifyAudit(Ctx, page.NewID()); err != nil || n != 0 {
		r.T.Fatalf("an empty log verifies as %d, %v", n, err)
	}
}
