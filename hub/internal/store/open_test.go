package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ropeway/hub/internal/store"
	"ropeway/hub/internal/store/storetest"
)

func TestOpenRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, url := range []string{"", "hub.db", "sqlite:", "postgres://hub:canary@db/hub"} {
		s, err := store.Open(context.Background(), url)
		if err == nil {
			s.Close()
			t.Fatalf("%q was opened", url)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Fatalf("the error shows the password: %v", err)
		}
	}
	file := filepath.Join(t.TempDir(), "not-a-database")
	if err := os.WriteFile(file, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := store.Open(context.Background(), "sqlite:"+file); err == nil {
		s.Close()
		t.Fatal("a file of something else was opened")
	}
}

func TestPathsAreNotURLs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%20?mode=memory#x")
	path := filepath.Join(dir, "hub.db")
	s := openAt(t, path)
	if err := s.Health(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("hub.db%s has mode %o", suffix, info.Mode().Perm())
		}
	}
}

func TestReopenedStoreAndBackupHoldTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	s := openAt(t, path)
	run := storetest.NewRig(t, s).StartRun()
	run.Resume(0)
	a := run.Last(run.Next(8))
	run.Accept(a)
	run.Settle(run.Receipt(a, 1))
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Backup(context.Background(), backup); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, backup} {
		again := openAt(t, p)
		proof, err := again.Prove(context.Background(), run.Scope, run.Job, time.Now())
		if err != nil || !proof.Closed {
			t.Fatalf("%s: %+v, %v", p, proof, err)
		}
	}
}

func TestMutation_NoClaimsTakesStaleOwners(t *testing.T) {
	s := open(t, store.MutationNoClaims())
	run := storetest.NewRig(t, s).StartRun()
	run.Resume(0)
	a := run.Next(4)
	run.Accept(a)
	stale := run.Receipt(a, 0)
	if _, err := s.Admit(context.Background(), store.Admission{Scope: run.Scope, Name: stale.Name,
		Job:   run.Job,
		Claim: storetest.Claim(2), NeedClaim: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Settle(context.Background(), stale); err != nil {
		t.Fatalf("the mutant checks claims: %v", err)
	}
}
