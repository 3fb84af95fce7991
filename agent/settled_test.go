package agent

import (
	"context"
	"crypto/sha256"
	"sync"
	"testing"

	"ropeway/protocol/control"
	"ropeway/protocol/page"
)

func TestDelivery_7_SettledPagesLeaveTheBuffer(t *testing.T) {
	p := newHub(t).agent(t, 0)
	chain, epoch := page.Chain{Job: page.NewID(), Step: "export"}, page.NewEpoch()
	var prev page.Hash
	for seq := range uint64(4) {
		payload := page.NewEncoder().Finish(nil)
		h := page.Header{
			Version: 1, Tenant: page.NewID(), Environment: page.NewID(), Flow: page.NewID(), FlowVersion: 1,
			Chain: chain, Epoch: epoch, Seq: seq, Prev: prev, PayloadSize: uint32(len(payload)), PayloadHash: sha256.Sum256(payload),
		}
		if err := p.buffer.Put(t.Context(), &page.Page{Header: h, Payload: page.Compress(payload)}); err != nil {
			t.Fatal(err)
		}
		prev = h.Hash()
	}
	s := newSettlements()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { s.run(ctx, p) })
	for _, m := range []*control.Settled{
		{Job: chain.Job[:], Step: "export", Epoch: epoch[:], Seq: 3},
		{Job: chain.Job[:], Step: "export", Epoch: epoch[:], Seq: 1}, // an older mark that came late
		{Job: []byte("short"), Step: "export", Epoch: epoch[:], Seq: 9},
		{Job: chain.Job[:], Step: "export", Epoch: nil, Seq: 9},
		{},
	} {
		s.settled(m)
	}
	until(t, func() bool {
		stats, err := p.buffer.Stats(t.Context())
		return err == nil && stats.Pages == 1
	})
	cancel()
	wait.Wait()
	list, err := p.bufferList(t.Context(), 10)
	if err != nil || len(list) != 1 || list[0].Name != page.ChainedName(chain, epoch, 3) {
		t.Errorf("left: %v, %v", list, err)
	}
}
