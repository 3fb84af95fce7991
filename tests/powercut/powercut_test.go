package powercut_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ropeway/tests/powercut"
)

func mount(t *testing.T) *powercut.FS {
	t.Helper()
	if why := powercut.Missing(); why != "" {
		t.Skip(why)
	}
	f, err := powercut.Mount(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
}

func create(t *testing.T, path string, synced bool, content []byte) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	if synced {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func reboot(t *testing.T, f *powercut.FS) {
	t.Helper()
	f.Cut()
	must(t, f.Remount())
}

func TestOnlySyncedBytesSurvive(t *testing.T) {
	fs := mount(t)
	path := filepath.Join(fs.Dir(), "a")
	f, err := os.Create(path)
	must(t, err)
	_, err = f.WriteString("kept")
	must(t, err)
	must(t, f.Sync())
	syncDir(t, fs.Dir())
	_, err = f.WriteString(" and lost")
	must(t, err)
	must(t, f.Close())

	before, err := os.ReadFile(path)
	must(t, err)
	if string(before) != "kept and lost" {
		t.Fatalf("before the cut the program reads %q", before)
	}
	reboot(t, fs)
	after, err := os.ReadFile(path)
	must(t, err)
	if string(after) != "kept" {
		t.Fatalf("after the cut %q survived, want only the synced bytes", after)
	}
}

func TestOnlySyncedNamesSurvive(t *testing.T) {
	fs := mount(t)
	must(t, os.Mkdir(filepath.Join(fs.Dir(), "d"), 0o700))
	create(t, filepath.Join(fs.Dir(), "d", "named"), true, []byte("x"))
	syncDir(t, filepath.Join(fs.Dir(), "d"))
	syncDir(t, fs.Dir())
	create(t, filepath.Join(fs.Dir(), "d", "unnamed"), true, []byte("x"))
	must(t, os.Rename(filepath.Join(fs.Dir(), "d", "named"), filepath.Join(fs.Dir(), "d", "moved")))

	reboot(t, fs)
	entries, err := os.ReadDir(filepath.Join(fs.Dir(), "d"))
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != "named" {
		t.Fatalf("after the cut the directory holds %v, want only the synced name", entries)
	}
}

func TestSyncedNameOfUnsyncedFileIsEmpty(t *testing.T) {
	fs := mount(t)
	create(t, filepath.Join(fs.Dir(), "a"), false, []byte("never synced"))
	syncDir(t, fs.Dir())
	reboot(t, fs)
	info, err := os.Stat(filepath.Join(fs.Dir(), "a"))
	must(t, err)
	if info.Size() != 0 {
		t.Fatalf("%d unsynced bytes survived", info.Size())
	}
}

func TestCallsAfterTheCutFail(t *testing.T) {
	fs := mount(t)
	f, err := os.Create(filepath.Join(fs.Dir(), "a"))
	must(t, err)
	fs.Cut()
	if _, err := f.WriteString("x"); !errors.Is(err, syscall.EIO) {
		t.Errorf("write after the cut: %v, want EIO", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync after the cut: %v, want EIO", err)
	}
	if _, err := os.Create(filepath.Join(fs.Dir(), "b")); !errors.Is(err, syscall.EIO) {
		t.Errorf("create after the cut: %v, want EIO", err)
	}
	_ = f.Close()
	must(t, fs.Remount())
}

// TestCloseWithOpenFiles must not leave a process that cannot exit.
func TestCloseWithOpenFiles(t *testing.T) {
	fs := mount(t)
	f, err := os.Create(filepath.Join(fs.Dir(), "a"))
	must(t, err)
	defer f.Close()
	must(t, fs.Close())
	if _, err := f.WriteString("x"); err == nil {
		t.Error("a closed disk took bytes")
	}
	if entries, err := os.ReadDir(fs.Dir()); err != nil || len(entries) != 0 {
		t.Errorf("still mounted: %v, %v", entries, err)
	}
}

func TestTruncateAndOverwriteOrder(t *testing.T) {
	fs := mount(t)
	path := filepath.Join(fs.Dir(), "a")
	create(t, path, true, bytes.Repeat([]byte("x"), 10000))
	syncDir(t, fs.Dir())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(10))
	_, err = f.WriteAt([]byte("end"), 20)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Truncate(0))
	must(t, f.Close())
	reboot(t, fs)
	got, err := os.ReadFile(path)
	must(t, err)
	want := append(append(bytes.Repeat([]byte("x"), 10), make([]byte, 10)...), "end"...)
	if !bytes.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestTornCutKeepsSyncedBytes(t *testing.T) {
	fs := mount(t)
	path := filepath.Join(fs.Dir(), "a")
	create(t, path, true, bytes.Repeat([]byte("s"), 4096))
	syncDir(t, fs.Dir())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	for i := range int64(16) {
		_, err = f.WriteAt(bytes.Repeat([]byte("u"), 4096), 4096*(i+1))
		must(t, err)
	}
	must(t, f.Close())
	fs.CutTorn(rand.New(rand.NewPCG(1, 2)))
	must(t, fs.Remount())
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.HasPrefix(got, bytes.Repeat([]byte("s"), 4096)) {
		t.Fatal("a torn cut lost synced bytes")
	}
	if !bytes.Contains(got, []byte("u")) || len(got) == 17*4096 && !bytes.Contains(got, []byte{0}) {
		t.Fatal("a torn cut should keep some unsynced sectors and lose others")
	}
}

func TestFaultsAndLimit(t *testing.T) {
	fs := mount(t)
	f, err := os.Create(filepath.Join(fs.Dir(), "a"))
	must(t, err)
	defer f.Close()

	fs.SetFault(func(op powercut.Op) syscall.Errno {
		if op == powercut.OpSync {
			return syscall.EIO
		}
		return 0
	})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync with a fault: %v, want EIO", err)
	}
	fs.SetFault(nil)
	fs.SetLimit(1 << 20)
	_, err = f.Write(make([]byte, 2<<20))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write over the limit: %v, want ENOSPC", err)
	}
	must(t, f.Truncate(0))
	if _, err = f.WriteAt(make([]byte, 1<<19), 0); err != nil {
		t.Errorf("write after space is free: %v", err)
	}
}
