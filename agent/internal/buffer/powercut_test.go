package buffer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ropeway/agent/internal/buffer"
	"ropeway/protocol/fault"
	"ropeway/tests/powercut"
)

// The victim of a power cut is this test binary in another process: the ledger
// of what was acknowledged stays outside of the machine that loses its power.
const (
	victimDir    = "ROPEWAY_POWERCUT_VICTIM"
	victimNoFull = "ROPEWAY_POWERCUT_NO_FULL"
)

// victim puts pages for ever and tells each one that was acknowledged.
func victim(dir string) {
	var options []buffer.Option
	if os.Getenv(victimNoFull) != "" {
		options = append(options, buffer.MutationNoFull())
	}
	b, err := buffer.Open(context.Background(), buffer.Config{Dir: dir}, options...)
	if err != nil {
		fmt.Println("open failed:", err)
		return
	}
	fmt.Println("ready")
	var out sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		c := newChain()
		wg.Go(func() {
			for i := uint64(0); ; i++ {
				p := c.page(i, strings.Repeat(fmt.Sprint(c.epoch, i), 50))
				if err := b.Put(context.Background(), p); err != nil {
					return
				}
				out.Lock()
				fmt.Println("acked", p.Header.Name())
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestPromise_D2_PowerCut cuts the power under load again and again; nothing
// acknowledged may be missing afterwards, and the buffer opens every time.
func TestPromise_D2_PowerCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lost, acked := cuts(t, 12, seed, "")
	t.Logf("%d pages acknowledged over 12 power cuts, %d lost", acked, lost)
	if lost > 0 {
		t.Fatalf("seed %d: %d of %d acknowledged pages lost", seed, lost, acked)
	}
}

// TestMutation_D2_WithoutFull proves that the test above can fail.
func TestMutation_D2_WithoutFull(t *testing.T) {
	lost, acked := cuts(t, 3, 1, "1")
	t.Logf("without FULL: %d of %d acknowledged pages lost", lost, acked)
	if lost == 0 {
		t.Fatalf("without synchronous=FULL none of %d pages was lost: the power-cut test proves nothing", acked)
	}
}

func cuts(t *testing.T, n int, seed uint64, noFull string) (lost, total int) {
	t.Helper()
	if why := powercut.Missing(); why != "" {
		t.Skip(why)
	}
	disk, err := powercut.Mount(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, disk.Close()) })
	r := rand.New(rand.NewPCG(seed, 0))
	var ledger []string
	for cut := range n {
		acked, open := load(t, disk, r, noFull, cut%2 == 1)
		if !open {
			t.Fatalf("the buffer did not open before cut %d: %v", cut, acked)
		}
		must(t, disk.Remount())
		ledger = append(ledger, acked...)
		total += len(acked)
		if cut < n-1 {
			lost += audit(t, disk.Dir(), acked)
		}
	}
	if lost > 0 {
		return lost, total // each page is counted once
	}
	return audit(t, disk.Dir(), ledger), total
}

// load runs the victim until a random number of acks, cuts the power under it
// and returns every ack that was told.
func load(t *testing.T, disk *powercut.FS, r *rand.Rand, noFull string, torn bool) (acked []string, opened bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+disk.Dir(), victimNoFull+"="+noFull,
		"GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return []string{lines.Text()}, false
	}
	for enough := 20 + r.IntN(120); lines.Scan(); {
		acked = append(acked, strings.TrimPrefix(lines.Text(), "acked "))
		if len(acked) == enough {
			if torn {
				disk.CutTorn(r)
			} else {
				disk.Cut()
			}
		}
	}
	_ = cmd.Wait() // it ends by itself: every put fails
	return acked, true
}

// audit counts the pages of the ledger that cannot be read.
func audit(t *testing.T, dir string, ledger []string) (missing int) {
	t.Helper()
	b, err := buffer.Open(t.Context(), buffer.Config{Dir: dir})
	must(t, err)
	for _, name := range ledger {
		if _, err := b.Page(t.Context(), name); err != nil {
			missing++
		}
	}
	must(t, b.Close())
	return missing
}

// TestPromise_D9_DiskErrorsAreNotAcknowledged lets random writes and syncs fail.
func TestPromise_D9_DiskErrorsAreNotAcknowledged(t *testing.T) {
	disk, b := onDisk(t)
	r := rand.New(rand.NewPCG(7, 7))
	var mu sync.Mutex
	disk.SetFault(func(op powercut.Op) syscall.Errno {
		mu.Lock()
		defer mu.Unlock()
		if (op == powercut.OpWrite || op == powercut.OpSync) && r.IntN(40) == 0 {
			return syscall.EIO
		}
		return 0
	})
	c := newChain()
	var ledger []string
	failed := 0
	for i := range uint64(300) {
		p := c.page(i, strings.Repeat("x", 1000))
		if err := b.Put(t.Context(), p); err != nil {
			failed++
			continue
		}
		ledger = append(ledger, p.Header.Name())
	}
	disk.SetFault(nil)
	must(t, b.Put(t.Context(), c.page(1000, "heals")))
	disk.Cut()
	_ = b.Close()
	must(t, disk.Remount())
	if missing := audit(t, disk.Dir(), ledger); missing > 0 || failed == 0 || len(ledger) == 0 {
		t.Fatalf("%d of %d acknowledged pages lost, %d failed", missing, len(ledger), failed)
	}
}

// TestPromise_D7_FullDisk fills the disk; the buffer refuses, loses nothing and
// takes pages again once there is space.
func TestPromise_D7_FullDisk(t *testing.T) {
	disk, b := onDisk(t)
	disk.SetLimit(1 << 20)
	c := newChain()
	var ledger []string
	var full error
	for i := uint64(0); full == nil; i++ {
		p := c.page(i, noise(20_000))
		if full = b.Put(t.Context(), p); full == nil {
			ledger = append(ledger, p.Header.Name())
		}
	}
	if fault.CodeOf(full) != "E_BUFFER_FULL" {
		t.Fatalf("a full disk: %v, want E_BUFFER_FULL", full)
	}
	if len(ledger) < 5 {
		t.Fatalf("full after %d pages: the test proves little", len(ledger))
	}
	disk.SetLimit(64 << 20)
	must(t, b.Put(t.Context(), c.page(9999, "space again")))
	for _, name := range ledger {
		if _, err := b.Page(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	must(t, b.Close())
	if missing := audit(t, disk.Dir(), ledger); missing > 0 {
		t.Fatalf("%d pages lost", missing)
	}
}

func noise(n int) string {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func onDisk(t *testing.T) (*powercut.FS, *buffer.Buffer) {
	t.Helper()
	if why := powercut.Missing(); why != "" {
		t.Skip(why)
	}
	disk, err := powercut.Mount(t.TempDir())
	must(t, err)
	b, err := buffer.Open(t.Context(), buffer.Config{Dir: disk.Dir()})
	must(t, errors.Join(err))
	t.Cleanup(func() {
		_ = b.Close()
		must(t, disk.Close())
	})
	return disk, b
}
