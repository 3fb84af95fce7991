package gateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ropeway/hub/internal/gateway"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func importOf(body []byte) *page.Page {
	return page.New(page.Header{Version: 1, Chain: page.Chain{Job: page.NewID(), Step: "export"},
		Epoch: page.NewEpoch(), Created: time.Now()}, body, 1)
}

func TestRun_ImportGoesThereAndTheAnswerBack(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	h.start(t, dir, h.addr)
	h.online(t, true)
	var g errgroup.Group
	for i := range 32 {
		g.Go(func() error {
			body := noise(1<<20, byte(i))
			done, err := h.Run(within(t), h.group, &control.RunStep{
				Kind: control.KindImport, Name: fmt.Sprint("import ", i), SpecJson: []byte(`{}`)},
				gateway.Exchange{Page: importOf(body)})
			if err != nil {
				return err
			}
			if f := control.ToError(done.GetFault()); f != nil {
				return f
			}
			if sum := sha256.Sum256(body); string(done.GetAnswer()) != hex.EncodeToString(sum[:]) {
				return fmt.Errorf("import %d: answer %q", i, done.GetAnswer())
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	done, err := h.Run(within(t), h.group, &control.RunStep{Kind: control.KindPing, SpecJson: []byte(`{}`)}, gateway.Exchange{})
	if err != nil || string(done.GetAnswer()) != `"pong"` {
		t.Fatalf("ping gave %v, %v", done, err)
	}
}

// A ledger stands for the chain state of the store.
type ledger struct {
	mu     sync.Mutex
	next   uint64
	prev   page.Hash
	epoch  page.Epoch
	resume int
	refuse func(seq uint64) *fault.Error
	taken  func(seq uint64)
}

func (l *ledger) exchange() gateway.Exchange {
	return gateway.Exchange{Accept: l.accept, Resume: l.resumed}
}

func (l *ledger) resumed(_ context.Context, r *control.Resume) (*control.Resumed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resume++
	l.epoch, _ = control.ToEpoch(r.GetEpoch())
	return &control.Resumed{Seq: l.next, PrevHash: l.prev[:], Pages: l.next}, nil
}

func (l *ledger) accept(_ context.Context, p *page.Page) (control.AckStatus, *fault.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Header.Epoch != l.epoch {
		return control.Superseded, fault.Of("E_SUPERSEDED")
	}
	if l.refuse != nil {
		if f := l.refuse(p.Header.Seq); f != nil {
			return control.Refused, f
		}
	}
	if p.Header.Seq != l.next || p.Header.Prev != l.prev {
		return control.Conflict, fault.Of("E_PAGE_CONFLICT").WithCause(fmt.Sprint("seq ", p.Header.Seq, " after ", l.next))
	}
	l.next, l.prev = l.next+1, p.Header.Hash()
	if l.taken != nil {
		l.taken(p.Header.Seq)
	}
	return control.Accepted, nil
}

func readStep(pages int) *control.RunStep {
	job := page.NewID()
	return &control.RunStep{Kind: control.KindRead, Name: job.String() + ".export/read.0", Job: job[:], Step: "export",
		SpecJson: fmt.Appendf(nil, `{"pages": %d, "size": 100000}`, pages)}
}

func TestRun_ReadSendsPagesAndGetsAcks(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	h.start(t, dir, h.addr)
	h.online(t, true)
	var l ledger
	done, err := h.Run(within(t), h.group, readStep(40), l.exchange())
	if err != nil {
		t.Fatal(err)
	}
	if f := control.ToError(done.GetFault()); f != nil {
		t.Fatal(f)
	}
	if l.next != 40 || l.resume != 1 || !done.GetEnd().GetExhausted() {
		t.Errorf("%d pages, %d resumes, end %v", l.next, l.resume, done.GetEnd())
	}
}

func TestRun_RefusedPageEndsTheRead(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	h.start(t, dir, h.addr)
	h.online(t, true)
	asked := 0
	l := ledger{refuse: func(seq uint64) *fault.Error {
		if asked++; seq == 7 {
			return fault.Of("E_CHECKSUM")
		}
		return nil
	}}
	done, err := h.Run(within(t), h.group, readStep(40), l.exchange())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, control.ToError(done.GetFault()), "E_CHECKSUM")
	if l.next != 7 || asked != 8 {
		t.Errorf("%d pages taken, %d offered after a refusal at 7", l.next, asked)
	}
}

func TestRun_ResumeRefusesAnExecution(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	h.start(t, dir, h.addr)
	h.online(t, true)
	done, err := h.Run(within(t), h.group, readStep(3), gateway.Exchange{
		Accept: func(context.Context, *page.Page) (control.AckStatus, *fault.Error) {
			t.Error("a page of a refused execution")
			return control.Refused, nil
		},
		Resume: func(context.Context, *control.Resume) (*control.Resumed, error) {
			return nil, fault.Of("E_SUPERSEDED")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, control.ToError(done.GetFault()), "E_SUPERSEDED")
}

func TestRun_CancelReachesTheAgent(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.addr)
	h.online(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { p.says(t, "run long"); cancel() }()
	_, err := h.Run(ctx, h.group, &control.RunStep{Name: "long", Kind: control.KindPing, SpecJson: []byte(`{"wait":true}`)},
		gateway.Exchange{})
	wantCode(t, err, "E_CANCELLED")
	p.says(t, "cancelled long")

	late, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	_, err = h.Run(late, h.group, &control.RunStep{Name: "late", Kind: control.KindPing, SpecJson: []byte(`{"wait":true}`)},
		gateway.Exchange{})
	wantCode(t, err, "E_TIMEOUT")
	p.says(t, "cancelled late")
}

// A cut in the middle of a read ends Run at once; the agent comes back by itself
// and the next run goes on where the last accepted page was.
func TestDelivery_2_1_CutReadGoesOnWhereItWas(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.proxy.addr)
	h.online(t, true)
	step := readStep(60)
	l := ledger{taken: func(seq uint64) {
		if seq == 20 {
			h.proxy.cut(false)
		}
	}}
	start := time.Now()
	_, err := h.Run(within(t), h.group, step, l.exchange())
	wantCode(t, err, "E_TUNNEL_CUT")
	if fault.ClassOf(err) != fault.Connection {
		t.Errorf("class %s", fault.ClassOf(err))
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the cut was noticed after %s", took)
	}
	p.says(t, "down")
	h.online(t, true)
	accepted := l.next
	done, err := h.Run(within(t), h.group, step, l.exchange())
	if err != nil {
		t.Fatal(err)
	}
	if f := control.ToError(done.GetFault()); f != nil {
		t.Fatal(f)
	}
	if accepted < 21 || l.next != 60 || l.resume != 2 {
		t.Errorf("%d pages before the cut, %d after, %d resumes", accepted, l.next, l.resume)
	}
}

func TestRun_CutIsNoCancel(t *testing.T) {
	h := newHub(t)
	dir, _ := h.agent(t)
	p := h.start(t, dir, h.proxy.addr)
	h.online(t, true)
	go func() { p.says(t, "run page"); h.proxy.cut(false) }()
	_, err := h.Run(within(t), h.group, &control.RunStep{Name: "page", Kind: control.KindPing, SpecJson: []byte(`{"wait":true}`)},
		gateway.Exchange{})
	wantCode(t, err, "E_TUNNEL_CUT")
	p.says(t, "cut page")
}

func TestRun_NobodyThere(t *testing.T) {
	h := newHub(t)
	_, err := h.Run(within(t), h.group, readStep(1), gateway.Exchange{})
	wantCode(t, err, "E_AGENT_OFFLINE")
	if fault.ClassOf(err) != fault.Connection {
		t.Errorf("class %s", fault.ClassOf(err))
	}
}

// A redelivered step goes to the agent that ran it, others to the one with the
// least to do; a killed agent's work goes to its sibling.
func TestRun_ChoosesTheAgent(t *testing.T) {
	h := newHub(t)
	var agents [2]*process
	for i := range agents {
		dir, _ := h.agent(t)
		agents[i] = h.start(t, dir, h.addr)
	}
	eventually(t, h.changed, func() bool { return len(h.Agents()) == 2 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := func(name string) {
		_, _ = h.Run(ctx, h.group, &control.RunStep{Name: name, Kind: control.KindPing, SpecJson: []byte(`{"wait":true}`)},
			gateway.Exchange{})
	}
	var runs sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		runs.Go(func() { wait(name) })
	}
	eventually(t, nil, func() bool {
		list := h.Agents()
		return list[0].Running == 1 && list[1].Running == 1
	})
	// both are busy with one; the third run of "one" joins its agent
	first, second := agents[0], agents[1]
	if got := first.says(t, "run "); got == "run two" {
		first, second = second, first
	}
	runs.Go(func() { wait("one") })
	if agents[0] != first {
		first.says(t, "run one")
	}
	first.says(t, "run one")
	first.signal(t, syscall.SIGKILL)
	eventually(t, h.changed, func() bool { return len(h.Agents()) == 1 })
	runs.Go(func() { wait("one") })
	second.says(t, "run one")
	cancel()
	runs.Wait()
}
