// Command puppet is an agent with an uplink and nothing else, for tests of the
// gateway: what a step does is written in its spec. It prints what happens, one
// word or two a line.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ropeway/agent/internal/uplink"
	"ropeway/certs"
	"ropeway/protocol/control"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

// spec is what the test wants of a step.
type spec struct {
	Pages int  `json:"pages"` // READ: so many, from where resume says
	Size  int  `json:"size"`  // READ: bytes of each
	Wait  bool `json:"wait"`  // until the context ends
}

func main() {
	addr, dir, domain := os.Args[1], os.Args[2], os.Args[3]
	cert, err := tls.LoadX509KeyPair(dir+"/agent.pem", dir+"/agent.key")
	if err != nil {
		panic(err)
	}
	pem, err := os.ReadFile(dir + "/root.pem")
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	cfg := certs.AgentTLS(show, roots, domain)
	u := uplink.New(uplink.Config{
		Hub: addr,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Dial: func(ctx context.Context) (tunnel.Session, error) {
			return tcp.Dial(ctx, addr, cfg, tcp.Options{Keepalive: 500 * time.Millisecond})
		},
		Hello:       &control.AgentHello{Version: "puppet", Os: "test", Connectors: []string{"none"}},
		Run:         run,
		Welcome:     func(w *control.Welcome) { fmt.Println("welcome", w.GetProcessEpoch()) },
		Settled:     func(s *control.Settled) { fmt.Println("settled", s.GetSeq()) },
		Buffer:      func() *control.BufferState { return &control.BufferState{Pages: 3, Bytes: 99, OldestUs: 1} },
		BufferEvery: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() { <-term; u.Drain(ctx); cancel() }()
	go watch(ctx, u)
	_ = u.Run(ctx)
	fmt.Println("end")
}

// watch prints why the uplink is down, each reason once.
func watch(ctx context.Context, u *uplink.Uplink) {
	last := ""
	for ctx.Err() == nil {
		if s := u.State(); s.LastError != nil && s.LastError.Code != last {
			last = s.LastError.Code
			fmt.Println("down", last, s.LastError.Cause)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func run(ctx context.Context, c uplink.Call) *control.StepDone {
	fmt.Println("run", c.Step.GetName())
	var s spec
	if err := json.Unmarshal(c.Step.GetSpecJson(), &s); err != nil {
		return failed(err)
	}
	var done *control.StepDone
	var err error
	switch {
	case s.Wait:
		<-ctx.Done()
		switch err = context.Cause(ctx); {
		case uplink.IsCut(err):
			fmt.Println("cut", c.Step.GetName())
		case errors.Is(err, uplink.ErrCancelled):
			fmt.Println("cancelled", c.Step.GetName())
		}
	case c.Step.GetKind() == control.KindImport:
		done, err = take(ctx, c)
	case c.Step.GetKind() == control.KindRead:
		done, err = give(ctx, c, s)
	default:
		done = &control.StepDone{Answer: []byte(`"pong"`)}
	}
	if err != nil {
		return failed(err)
	}
	return done
}

func failed(err error) *control.StepDone {
	return &control.StepDone{Fault: control.FromError(err)}
}

// take answers an import with the hash of its page.
func take(ctx context.Context, c uplink.Call) (*control.StepDone, error) {
	st, err := c.Body(ctx)
	if err != nil {
		return nil, err
	}
	r := control.NewFrameReader(st)
	p, err := r.Page()
	if err != nil {
		return nil, err
	}
	body, err := p.Open()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &control.StepDone{Answer: []byte(hex.EncodeToString(sum[:]))}, nil
}

// give makes the pages of a read, at most a window of them unacked.
func give(ctx context.Context, c uplink.Call, s spec) (*control.StepDone, error) {
	epoch := page.NewEpoch()
	from, err := c.Resume(ctx, &control.Resume{Name: c.Step.GetName(), Claim: c.Step.GetClaim(), Epoch: epoch[:]})
	if err != nil {
		return nil, err
	}
	st, err := c.Body(ctx)
	if err != nil {
		return nil, err
	}
	job, _ := control.ToID(c.Step.GetJob())
	chain := page.Chain{Job: job, Step: c.Step.GetStep()}
	w, r := control.NewFrameWriter(st), control.NewFrameReader(st)
	window := make(chan struct{}, control.Window)
	acks := make(chan error, 1)
	total := uint64(s.Pages)
	go func() {
		for seq := from.GetSeq(); seq < total; seq++ {
			a, err := r.Ack()
			if err == nil && !a.Status.Taken() {
				err = a.Fault
			}
			if err == nil && a.Seq != seq {
				err = fault.New(fault.Internal, "E_INTERNAL", "acks out of order")
			}
			if err != nil {
				acks <- err
				return
			}
			<-window
		}
		acks <- nil
	}()
	prev, _ := control.ToHash(from.GetPrevHash())
	for seq := from.GetSeq(); seq < total; seq++ {
		select {
		case window <- struct{}{}:
		case err := <-acks:
			return nil, err
		}
		p := page.New(page.Header{Version: 1, Chain: chain, Epoch: epoch, Seq: seq, Prev: prev, Created: time.Now()},
			make([]byte, s.Size), 1)
		prev = p.Header.Hash()
		if err := w.Page(p); err != nil {
			return nil, err
		}
	}
	if err := w.End(); err != nil {
		return nil, err
	}
	if err := <-acks; err != nil {
		return nil, err
	}
	return &control.StepDone{End: &control.ReadEnd{Exhausted: true, Pages: total}}, nil
}
