package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"ropeway/hub/internal/store"
	"ropeway/hub/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := crashDir(); dir != "" {
		settleUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// open opens an empty store under the test's folder.
func open(t testing.TB, opts ...store.Option) *store.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "hub.db"), opts...)
}

func openAt(t testing.TB, path string, opts ...store.Option) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), "sqlite:"+path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) { storetest.Run(t, open) }
