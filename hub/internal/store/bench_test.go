package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// BenchmarkSettle is the throughput of receipts from 32 writers at once, each
// durable when it returns.
func BenchmarkSettle(b *testing.B) {
	s, err := Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "hub.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	benchmarkPages(b, s)
}

// benchmarkPages accepts b.N pages and measures their settlement.
func benchmarkPages(b *testing.B, s *Store) {
	ctx, now := context.Background(), time.Now()
	scope := Scope{Tenant: page.NewID(), Environment: page.NewID()}
	n := NewJob{Scope: scope, ID: page.NewID(), Flow: page.NewID(), Kind: model.JobRun,
		Steps:       []string{"read", "map-1", "load"},
		Connections: []page.ID{page.NewID()}, Export: &NewChain{Step: "read", Resumable: true}, Now: now}
	if _, err := s.CreateJob(ctx, n); err != nil {
		b.Fatal(err)
	}
	chain, epoch := page.Chain{Job: n.ID, Step: "read"}, page.NewEpoch()
	if _, err := s.Resume(ctx, ResumeRequest{Scope: scope, Chain: chain, Epoch: epoch,
		Now: now}); err != nil {
		b.Fatal(err)
	}
	names := make([]string, b.N)
	var prev page.Hash
	for i := range names {
		root := page.ChainedName(chain, epoch, uint64(i))
		names[i] = root + "/load"
		a := Acceptance{Scope: scope, Root: root, Prev: prev, Records: 5000, Published: names[i : i+1],
			Now: now}
		copy(a.PageHash[:], fmt.Append(nil, i))
		prev = a.PageHash
		if got, err := s.Accept(ctx, a); err != nil || got.Status != PageAccepted {
			b.Fatal(got.Status, err)
		}
	}
	var next atomic.Int64
	b.SetParallelism(16) // × GOMAXPROCS of 2
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1) - 1
			got, err := s.Settle(ctx, Receipt{Scope: scope, Name: names[i], Job: n.ID, Step: "load",
				Counts: []model.StepCount{{Step: "map-1", In: 5000, Out: 5000}, {Step: "load", In: 5000,
					Out: 5000}},
				Outcomes: Outcomes{Delivered: 5000}, Now: now})
			if err != nil || !got.Settled {
				b.Error(got, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "receipts/s")
}
