package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// openInside opens a store for tests of what is behind its methods.
func openInside(t testing.TB, opts ...Option) *Store {
	t.Helper()
	s, err := Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "hub.db"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// group makes the writer commit fns together: a first write holds it until all
// of them wait.
func group(t *testing.T, s *Store, fns ...func(*tx) error) []error {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s.write(context.Background(), func(*tx) error { close(held); <-release; return nil })
	})
	<-held
	errs := make([]error, len(fns))
	for i, fn := range fns {
		wg.Go(func() { errs[i] = s.write(context.Background(), fn) })
	}
	for deadline := time.Now().Add(10 * time.Second); len(s.writes.tasks) < len(fns); {
		if time.Now().After(deadline) {
			t.Fatal("the writes do not wait")
		}
	}
	close(release)
	wg.Wait()
	return errs
}

func setMeta(name string) func(*tx) error {
	return func(t *tx) error {
		_, err := t.exec(`INSERT INTO meta (name, value) VALUES (?, '1')`, name)
		return err
	}
}

func TestGroupCommitIsolatesAFailingWrite(t *testing.T) {
	s := openInside(t)
	boom := errors.New("boom")
	errs := group(t, s,
		setMeta("a"),
		func(t *tx) error { return errors.Join(setMeta("half")(t), boom) },
		setMeta("b"),
		func(t *tx) error { setMeta("panicked")(t); panic("bug") },
		func(t *tx) error { _, err := t.exec(`INSERT INTO no_table VALUES (1)`); return err },
		setMeta("c"))
	for i, want := range []string{"", "boom", "", "panicked: bug", "no such table", ""} {
		if (errs[i] == nil) != (want == "") || errs[i] != nil && !strings.Contains(errs[i].Error(),
			want) {
			t.Errorf("write %d: got %v, want %q", i, errs[i], want)
		}
	}
	for name, want := range map[string]string{"a": "1", "b": "1", "c": "1", "half": "",
		"panicked": ""} {
		if got, err := s.Meta(context.Background(), name); err != nil || got != want {
			t.Errorf("%s is %q, want %q, %v", name, got, want, err)
		}
	}
}

func TestWriteThatWasGivenUpNeverRuns(t *testing.T) {
	s := openInside(t)
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s.write(context.Background(), func(*tx) error { close(held); <-release; return nil })
	})
	<-held
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	go func() { gone <- s.write(ctx, setMeta("late")) }()
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(release)
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.write(context.Background(), setMeta("closed")); !errors.Is(err, errClosed) {
		t.Fatalf("a write to a closed store gives %v", err)
	}
}

func TestSecurity_S7_ATouchedAuditLogIsNoticed(t *testing.T) {
	for name, touch := range map[string]string{
		"edited":    `UPDATE audit SET actor = 'eve' WHERE seq = 2`,
		"deleted":   `DELETE FROM audit WHERE seq = 2`,
		"cut off":   `DELETE FROM audit WHERE seq > 2`,
		"cut first": `DELETE FROM audit WHERE seq = 1`,
		"reordered": `UPDATE audit SET seq = CASE seq WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE seq END WHERE seq
			IN (0)`,
		"swapped": `UPDATE audit SET detail = (SELECT detail FROM audit a WHERE a.seq = 3) WHERE seq =
			2`,
		"moved time": `UPDATE audit SET at = at + 1 WHERE seq = 4`,
		"emptied":    `DELETE FROM audit`,
		"head moved": `UPDATE audit_heads SET seq = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			s := openInside(t)
			tenant := page.NewID()
			for i := range 4 {
				if err := s.Audit(context.Background(), model.AuditEntry{Tenant: tenant, Actor: "ann",
					Action: "apply",
					At:     time.Now(), Detail: fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := s.VerifyAudit(context.Background(), tenant); err != nil || n != 4 {
				t.Fatalf("the untouched log: %d, %v", n, err)
			}
			if err := s.write(context.Background(), func(x *tx) error {
				return swap(x, name,
					touch)
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.VerifyAudit(context.Background(), tenant); fault.CodeOf(err) != "E_AUDIT" {
				t.Fatalf("got %v, want E_AUDIT", err)
			}
		})
	}
}

// swap exchanges two rows where one statement would meet the primary key.
func swap(x *tx, name, touch string) error {
	if name != "reordered" {
		_, err := x.exec(touch)
		return err
	}
	for _, q := range []string{`UPDATE audit SET seq = 99 WHERE seq = 2`, `UPDATE audit SET seq = 2
		WHERE seq = 3`,
		`UPDATE audit SET seq = 3 WHERE seq = 99`} {
		if _, err := x.exec(q); err != nil {
			return err
		}
	}
	return nil
}
