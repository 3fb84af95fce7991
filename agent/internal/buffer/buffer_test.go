package buffer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/agent/internal/buffer"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var created = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// chain makes pages of one execution.
type chain struct {
	tenant, environment, flow page.ID
	chain                     page.Chain
	epoch                     page.Epoch
}

func newChain() chain {
	return chain{page.NewID(), page.NewID(), page.NewID(), page.Chain{Job: page.NewID(), Step: "export"}, page.NewEpoch()}
}

func (c chain) page(seq uint64, payload string) *page.Page {
	return page.New(page.Header{
		Version: page.Version, Tenant: c.tenant, Environment: c.environment, Flow: c.flow, FlowVersion: 1,
		Chain: c.chain, Epoch: c.epoch, Seq: seq, Created: created,
	}, []byte(payload), 1)
}

func event(listener page.ID, payload string) *page.Page {
	c := newChain()
	return page.New(page.Header{
		Version: page.Version, Tenant: c.tenant, Environment: c.environment, Flow: c.flow, FlowVersion: 1,
		Listener: listener, Event: sha256.Sum256([]byte(payload)), Created: created,
	}, []byte(payload), 1)
}

func open(t testing.TB, dir string, quota int64) *buffer.Buffer {
	t.Helper()
	b, err := buffer.Open(context.Background(), buffer.Config{Dir: dir, Quota: quota})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stats(t testing.TB, b *buffer.Buffer) buffer.Stats {
	t.Helper()
	s, err := b.Stats(t.Context())
	must(t, err)
	return s
}

func payload(t testing.TB, p *page.Page) string {
	t.Helper()
	b, err := p.Open()
	must(t, err)
	return string(b)
}

func TestPutIsThereAfterReopen(t *testing.T) {
	dir, c := t.TempDir(), newChain()
	b := open(t, dir, 0)
	for i := range uint64(5) {
		must(t, b.Put(t.Context(), c.page(i, fmt.Sprint("page ", i))))
	}
	must(t, b.Close())
	b = open(t, dir, 0)
	list, err := b.Next(t.Context(), 0, 100)
	must(t, err)
	if len(list) != 5 {
		t.Fatalf("%d pages, want 5", len(list))
	}
	for i, s := range list {
		if payload(t, s.Page) != fmt.Sprint("page ", i) || s.Page.Header.Seq != uint64(i) {
			t.Errorf("page %d is %q, seq %d", i, payload(t, s.Page), s.Page.Header.Seq)
		}
	}
	if s := stats(t, b); s.Pages != 5 || s.Unacked != 5 || s.Bytes == 0 || s.Oldest.IsZero() {
		t.Errorf("stats %+v", s)
	}
}

func TestPutIsIdempotentByName(t *testing.T) {
	b, c := open(t, t.TempDir(), 0), newChain()
	must(t, b.Put(t.Context(), c.page(0, "a")))
	must(t, b.Put(t.Context(), c.page(0, "a")))
	if s := stats(t, b); s.Pages != 1 {
		t.Fatalf("%d pages after putting one twice", s.Pages)
	}
	err := b.Put(t.Context(), c.page(0, "b"))
	if fault.CodeOf(err) != "E_PAGE_CONFLICT" {
		t.Fatalf("another page of the same name: %v, want E_PAGE_CONFLICT", err)
	}
	p, err := b.Page(t.Context(), c.page(0, "a").Header.Name())
	must(t, err)
	if payload(t, p) != "a" {
		t.Fatal("the first page was overwritten")
	}
}

func TestManyPuttersShareCommits(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	var wg sync.WaitGroup
	for range 16 {
		c := newChain()
		wg.Go(func() {
			for i := range uint64(50) {
				if err := b.Put(t.Context(), c.page(i, "x")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	next := map[string]uint64{}
	must(t, b.Scan(t.Context(), func(s buffer.Stored) error {
		h := s.Page.Header
		if h.Seq != next[h.Chain.String()] {
			return fmt.Errorf("seq %d of %s out of order", h.Seq, h.Chain)
		}
		next[h.Chain.String()]++
		return nil
	}))
	if s := stats(t, b); s.Pages != 800 || len(next) != 16 {
		t.Fatalf("%d pages of %d chains", s.Pages, len(next))
	}
}

func TestAckedAndSettled(t *testing.T) {
	b, c := open(t, t.TempDir(), 0), newChain()
	other := newChain()
	must(t, b.Put(t.Context(), other.page(0, "other")))
	var names []string
	for i := range uint64(12) {
		p := c.page(i, "x")
		names = append(names, p.Header.Name())
		must(t, b.Put(t.Context(), p))
	}
	must(t, b.MarkAcked(t.Context(), names[:11]...))
	must(t, b.MarkAcked(t.Context(), append(names[:11:11], "unknown")...))
	if s := stats(t, b); s.Unacked != 2 || s.Pages != 13 {
		t.Fatalf("after acks: %+v", s)
	}
	must(t, b.Settled(t.Context(), c.chain, c.epoch, 10))
	if s := stats(t, b); s.Unacked != 2 || s.Pages != 3 {
		t.Fatalf("after settling ten: %+v", s)
	}
	list, err := b.Next(t.Context(), 0, 9)
	must(t, err)
	if len(list) != 2 || list[0].Page.Header.Chain != other.chain || list[1].Page.Header.Seq != 11 {
		t.Fatalf("unacked: %v", list)
	}
}

func TestFullBufferLosesNothing(t *testing.T) {
	b, c := open(t, t.TempDir(), 64<<10), newChain()
	big := strings.Repeat("0123456789abcdef", 16) // compresses, so many are needed
	var names []string
	var full error
	for i := uint64(0); full == nil; i++ {
		p := c.page(i, fmt.Sprint(big, i))
		if full = b.Put(t.Context(), p); full == nil {
			names = append(names, p.Header.Name())
		}
	}
	if f := fault.From(full); f.Code != "E_BUFFER_FULL" {
		t.Fatalf("got %v, want E_BUFFER_FULL", full)
	}
	must(t, b.Put(t.Context(), c.page(0, fmt.Sprint(big, 0)))) // the same again is no new page
	if s := stats(t, b); s.Unacked != len(names) || s.Evicted != 0 || s.Bytes > s.Quota {
		t.Fatalf("when full: %+v, want %d unacked", s, len(names))
	}
	must(t, b.MarkAcked(t.Context(), names[:3]...))
	next := uint64(len(names)) + 1
	must(t, b.Put(t.Context(), c.page(next, fmt.Sprint(big, next))))
	s := stats(t, b)
	if s.Evicted == 0 || s.Evicted > 3 || s.Unacked != len(names)-3+1 || s.Bytes > s.Quota {
		t.Fatalf("an acked page should make room: %+v", s)
	}
	for _, name := range names[3:] {
		if _, err := b.Page(t.Context(), name); err != nil {
			t.Fatalf("unacked page lost: %v", err)
		}
	}
}

func TestPutEventReservesItsKey(t *testing.T) {
	b, listener := open(t, t.TempDir(), 0), page.NewID()
	put := func(key, body string) (bool, error) {
		return b.PutEvent(t.Context(), listener, key, event(listener, body))
	}
	already, err := put("k", "one")
	if err != nil || already {
		t.Fatal(already, err)
	}
	if already, err = put("k", "one"); err != nil || !already {
		t.Fatalf("the same key and payload: %v, %v", already, err)
	}
	if _, err = put("k", "two"); fault.CodeOf(err) != "E_CONFLICT" {
		t.Fatalf("the same key, another payload: %v", err)
	}
	if already, err = put("", "three"); err != nil || already {
		t.Fatal(already, err)
	}
	if s := stats(t, b); s.Pages != 2 {
		t.Fatalf("%d pages, want 2", s.Pages)
	}
	_, err = b.Purge(t.Context(), buffer.Selection{All: true})
	must(t, err)
	if already, err = put("k", "one"); err != nil || !already {
		t.Fatalf("the key outlives its page: %v, %v", already, err)
	}
}

func TestExecutions(t *testing.T) {
	dir, c := t.TempDir(), newChain()
	b := open(t, dir, 0)
	e := buffer.Execution{Name: page.ReadName(c.chain, 0), Chain: c.chain, Epoch: c.epoch, Begun: created}
	must(t, b.BeginExecution(t.Context(), e))
	must(t, b.Put(t.Context(), c.page(0, "x")))
	must(t, b.Close())
	b = open(t, dir, 0)
	got, ok, err := b.Execution(t.Context(), e.Name)
	if err != nil || !ok || got != e {
		t.Fatalf("got %+v, %v, %v, want %+v", got, ok, err, e)
	}
	if n, err := b.Purge(t.Context(), buffer.Selection{Execution: &e}); err != nil || n != 1 {
		t.Fatalf("purged %d, %v", n, err)
	}
	must(t, b.EndExecution(t.Context(), e.Name))
	if _, ok, err = b.Execution(t.Context(), e.Name); ok || err != nil {
		t.Fatalf("ended, still there: %v, %v", ok, err)
	}
}

// TestPromise_S6_NoPlainTextAtRest looks for a canary in every file, and at the
// rights of the key.
func TestPromise_S6_NoPlainTextAtRest(t *testing.T) {
	dir, c := t.TempDir(), newChain()
	b := open(t, dir, 0)
	must(t, b.Put(t.Context(), c.page(0, "canary-7f3a canary-7f3a")))
	for _, closed := range []bool{false, true} {
		if closed {
			must(t, b.Close())
		}
		files, err := os.ReadDir(dir)
		must(t, err)
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(dir, f.Name()))
			must(t, err)
			if bytes.Contains(text, []byte("canary-7f3a")) {
				t.Errorf("%s holds plain text", f.Name())
			}
			info, err := f.Info()
			must(t, err)
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s may be read by others: %o", f.Name(), info.Mode().Perm())
			}
		}
	}
}

func TestABufferWithoutItsKeyIsNotOpenedOver(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir, 0).Close())
	must(t, os.Remove(filepath.Join(dir, "buffer.key")))
	_, err := buffer.Open(t.Context(), buffer.Config{Dir: dir})
	if fault.CodeOf(err) != "E_SEALED" {
		t.Fatalf("got %v, want E_SEALED", err)
	}
}

func change(t *testing.T, dir, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(dir, "buffer.db"))
	must(t, err)
	defer db.Close()
	_, err = db.Exec(statement, args...)
	must(t, err)
}

// TestPromise_D8_DamagedPageIsSetAside damages one body, and swaps two others,
// which their seals must notice.
func TestPromise_D8_DamagedPageIsSetAside(t *testing.T) {
	dir, c := t.TempDir(), newChain()
	b := open(t, dir, 0)
	for i := range uint64(6) {
		must(t, b.Put(t.Context(), c.page(i, fmt.Sprint("page ", i))))
	}
	must(t, b.Close())
	change(t, dir, "UPDATE bodies SET sealed = CAST(sealed || x'00' AS BLOB) WHERE id = 2")
	change(t, dir, "UPDATE bodies SET id = -id WHERE id IN (4, 5)")
	change(t, dir, "UPDATE bodies SET id = 9 + id WHERE id < 0")
	var log bytes.Buffer
	b, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer b.Close()
	var seen []string
	must(t, b.Scan(t.Context(), func(s buffer.Stored) error {
		seen = append(seen, payload(t, s.Page))
		return nil
	}))
	if got := strings.Join(seen, ","); got != "page 0,page 2,page 5" {
		t.Errorf("delivered %s", got)
	}
	if s := stats(t, b); s.Damaged != 3 || s.Pages != 3 || s.Unacked != 3 {
		t.Errorf("stats %+v", s)
	}
	if strings.Count(log.String(), "damaged and set aside") != 3 {
		t.Errorf("the log does not say so three times:\n%s", &log)
	}
	if _, err := b.Page(t.Context(), c.page(1, "").Header.Name()); fault.CodeOf(err) != "E_CHECKSUM" {
		t.Errorf("a damaged page by name: %v", err)
	}
	r, err := b.Verify(t.Context())
	if err != nil || r.Checked != 6 || len(r.Damaged) != 3 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if n, err := b.Purge(t.Context(), buffer.Selection{Damaged: true}); n != 3 || err != nil {
		t.Errorf("purge of damaged: %d, %v", n, err)
	}
}

// TestPromise_D8_DamagedFile harms the closed file in many places and demands
// that whatever comes out is what was put, and that all but one page comes out.
func TestPromise_D8_DamagedFile(t *testing.T) {
	dir, c := t.TempDir(), newChain()
	b := open(t, dir, 0)
	want := map[string]string{}
	for i := range uint64(40) {
		body := noise(20_000 + int(i))
		p := c.page(i, body)
		want[p.Header.Name()] = body
		must(t, b.Put(t.Context(), p))
	}
	must(t, b.Close())
	clean, err := os.ReadFile(filepath.Join(dir, "buffer.db"))
	must(t, err)
	const block = 16384
	if len(clean) < 20*block {
		t.Fatalf("the closed file has only %d bytes: its pages are elsewhere", len(clean))
	}
	damage := map[string]func([]byte) []byte{
		"first block zeroed":  func(b []byte) []byte { clear(b[:block]); return b },
		"header flipped":      func(b []byte) []byte { b[3] ^= 1; return b },
		"last block cut off":  func(b []byte) []byte { return b[:len(b)-block] },
		"last bytes cut off":  func(b []byte) []byte { return b[:len(b)-100] },
		"middle block zeroed": func(b []byte) []byte { at := len(b) / 2 / block * block; clear(b[at : at+block]); return b },
	}
	for at := block + 777; at < len(clean); at += block * 3 {
		damage[fmt.Sprint("flip at ", at)] = func(b []byte) []byte { b[at] ^= 0x10; return b }
	}
	key, err := os.ReadFile(filepath.Join(dir, "buffer.key"))
	must(t, err)
	for name, harm := range damage {
		try := t.TempDir()
		must(t, os.WriteFile(filepath.Join(try, "buffer.key"), key, 0o600))
		must(t, os.WriteFile(filepath.Join(try, "buffer.db"), harm(bytes.Clone(clean)), 0o600))
		b, err := buffer.Open(t.Context(), buffer.Config{Dir: try})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := 0
		err = b.Scan(t.Context(), func(s buffer.Stored) error {
			if body := want[s.Page.Header.Name()]; body == "" || body != payload(t, s.Page) {
				return errors.New("wrong bytes delivered")
			}
			got++
			return nil
		})
		if err != nil || got < len(want)-1 {
			t.Errorf("%s: %d of %d pages, %v", name, got, len(want), err)
		}
		must(t, b.Put(t.Context(), c.page(1000, "goes on")))
		must(t, b.Close())
	}
}

func TestCallsAfterCloseFail(t *testing.T) {
	b, c := open(t, t.TempDir(), 0), newChain()
	must(t, b.Close())
	if err := b.Put(t.Context(), c.page(0, "x")); err == nil {
		t.Fatal("a closed buffer took a page")
	}
	must(t, b.Close())
}
