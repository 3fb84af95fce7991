package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResetKey_IsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), resetKeyFile)
	first, err := resetKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := resetKey(path)
	if err != nil || *again != *first || *first == [32]byte{} {
		t.Errorf("the second start has another key, %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, bad := range []string{"", "short", strings.Repeat("x", 33)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := resetKey(path); err == nil || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("a file of %d bytes: %v", len(bad), err)
		}
	}
}
