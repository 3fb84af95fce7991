package chaos

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"ropeway/tests/powercut"
	"ropeway/tests/rig"
)

// TestPromise_D2_PowerCutUnderTheHub cuts the power under all the hub keeps —
// store, queue, secrets, certificates — while a flow runs. Each part forgets what
// it had not synced, and the whole must still add up.
func TestPromise_D2_PowerCutUnderTheHub(t *testing.T) {
	if why := powercut.Missing(); why != "" {
		t.Skip(why)
	}
	const cuts = 10
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 4))
	p := layPlant(t, "auto", 5, seed)
	disk, err := powercut.Mount(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, disk.Close()) })
	p.Data = disk.Dir()
	p.bringUp(t)
	t.Cleanup(p.Site.Close) // before the disk goes

	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	for done := 0; done < cuts; {
		execute(t, p.target, `TRUNCATE orders`)
		id, err := p.RunFlow(ctx, "orders")
		must(t, err)
		for done < cuts {
			<-time.After(time.Duration(100+rnd.IntN(900)) * time.Millisecond)
			if job, err := p.JobOf(ctx, id); err == nil && rig.Ended(job.State) {
				break
			}
			if done%2 == 0 {
				disk.Cut()
			} else {
				disk.CutTorn(rnd)
			}
			p.Hub.Kill()
			must(t, disk.Remount())
			must(t, p.StartHub(ctx))
			done++
		}
		job, err := p.WaitJob(ctx, id)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, rig.Tail(p.Path("hub.log"), 40))
		}
		c := p.count(t)
		t.Logf("%d cuts, job %+v, target %+v", done, job.Records, c)
		if c.lost != 0 || c.doubled != 0 || job.Records.Delivered != int64(c.rows) {
			t.Fatalf("seed %d: lost %d, doubled %d, delivered %d of %d rows", seed, c.lost, c.doubled, job.Records.Delivered, c.rows)
		}
	}
}
