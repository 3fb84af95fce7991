package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/hub/internal/store"
	"ropeway/hub/internal/store/storetest"
)

const (
	crashEnv   = "ROPEWAY_STORE_CRASH_DIR"
	mutantEnv  = "ROPEWAY_STORE_CRASH_MUTANT"
	crashPages = 400 // more than a child settles before it is killed
)

func crashDir() string { return os.Getenv(crashEnv) }

// settleUntilKilled is the child: it plays an engine over the database, reports
// each acknowledged receipt on stdout, and is killed in the middle.
func settleUntilKilled(dir string) {
	var opts []store.Option
	if os.Getenv(mutantEnv) != "" {
		opts = append(opts, store.MutationReceiptApart())
	}
	s, err := store.Open(context.Background(), "sqlite:"+filepath.Join(dir, "hub.db"), opts...)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	t := &childTB{}
	run := storetest.NewRig(t, s).StartRun()
	run.Resume(0)
	fmt.Println("job", run.Scope.Tenant, run.Scope.Environment, run.Job)
	receipts := make(chan store.Receipt, crashPages)
	for range crashPages {
		a := run.Next(8)
		run.Accept(a)
		receipts <- run.Receipt(a, 2)
	}
	fmt.Println("go")
	var wg sync.WaitGroup
	var out sync.Mutex
	for range 16 {
		wg.Go(func() {
			for r := range receipts {
				if _, err := s.Settle(context.Background(), r); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println("settled", r.Name)
				out.Unlock()
			}
		})
	}
	wg.Wait()
	select {}
}

// childTB lets the child use the rig; it ends the process on a failure.
type childTB struct{ testing.TB }

func (childTB) Helper() {}
func (childTB) Fatal(args ...any) {
	fmt.Println("error", fmt.Sprint(args...))
	os.Exit(1)
}
func (childTB) Fatalf(format string, args ...any) {
	fmt.Println("error", fmt.Sprintf(format, args...))
	os.Exit(1)
}

// crash runs a child, kills it with −9 after some acknowledged receipts, and
// returns the proof of its job and the names that were acknowledged.
func crash(
	t *testing.T, after int, env ...string,
) (model.Proof, []string, *store.Store, store.Scope) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), crashEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var job model.Job
	var acked []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch f[0] {
		case "error":
			t.Error(lines.Text())
		case "job":
			for i, id := range []interface{ UnmarshalText([]byte) error }{&job.Tenant, &job.Environment,
				&job.ID} {
				if err := id.UnmarshalText([]byte(f[1+i])); err != nil {
					t.Fatal(err)
				}
			}
		case "settled":
			acked = append(acked, f[1])
			if len(acked) == after {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	_ = cmd.Wait() // killed
	s := openAt(t, filepath.Join(dir, "hub.db"))
	scope := store.Scope{Tenant: job.Tenant, Environment: job.Environment}
	proof, err := s.Prove(context.Background(), scope, job.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return proof, acked, s, scope
}

func TestDelivery_3_4_SumsCloseAfterAKill(t *testing.T) {
	for i := range 4 {
		proof, acked, s, scope := crash(t, 20+40*i)
		// The job runs on; that it does is the only thing a proof may find.
		if len(proof.Findings) != 1 || !strings.HasPrefix(proof.Findings[0], "the job has not ended") {
			t.Fatalf("after the kill: %v", proof.Findings)
		}
		if len(acked) < 20+40*i {
			t.Fatalf("the child settled %d pages only", len(acked))
		}
		for _, name := range acked {
			got, err := s.Admit(context.Background(), store.Admission{Scope: scope, Name: name,
				Job: proof.Job})
			if err != nil || got.Entry != store.EntryDone {
				t.Fatalf("the acknowledged receipt of %s is gone: %s, %v", name, got.Entry, err)
			}
		}
	}
}

// A receipt written apart from its counters must be noticed, else the test above
// proves nothing.
func TestMutation_ReceiptApartOpensTheSum(t *testing.T) {
	for i := range 10 {
		proof, _, _, _ := crash(t, 10+7*i, mutantEnv+"=1")
		if len(proof.Findings) > 1 {
			return
		}
	}
	t.Fatal("ten kills of the mutant, and every sum closed")
}
