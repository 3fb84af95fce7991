package credential_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/agent/internal/credential"
	"ropeway/protocol/fault"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestSetListFieldsRemove(t *testing.T) {
	dir := t.TempDir()
	s := credential.Open(dir)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Fatalf("List of nothing = %v, %v", list, err)
	}
	fields := map[string]string{"username": "erp", "password": "canary-4711"}
	if err := s.Set("erp-site", fields, at); err != nil {
		t.Fatal(err)
	}
	got, err := credential.Open(dir).Fields("erp-site")
	if err != nil || !cmp.Equal(got, fields) {
		t.Errorf("Fields = %v, %v", got, err)
	}
	list, err := s.List()
	want := []credential.Info{{Name: "erp-site", Fields: []string{"password", "username"}, Updated: at}}
	if err != nil || !cmp.Equal(list, want) {
		t.Errorf("List = %v, %v", list, err)
	}
	if err := s.Remove("erp-site"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("erp-site"); fault.CodeOf(err) != "E_NOT_FOUND" {
		t.Errorf("second Remove = %v", err)
	}
	if _, err := s.Fields("erp-site"); fault.CodeOf(err) != "E_NO_CREDENTIAL" {
		t.Errorf("Fields of nothing = %v", err)
	}
}

func TestNothingLiesInClear(t *testing.T) {
	dir := t.TempDir()
	if err := credential.Open(dir).Set("secret-name", map[string]string{"password": "canary-4711"}, at); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range files {
		info, _ := os.Stat(file)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
		if contents, _ := os.ReadFile(file); bytes.Contains(contents, []byte("canary")) || bytes.Contains(contents, []byte("secret-name")) {
			t.Errorf("%s shows what it hides", file)
		}
	}
}

func TestBadInput(t *testing.T) {
	s := credential.Open(t.TempDir())
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint("f", i)] = ""
	}
	ok := map[string]string{"password": "x"}
	for name, test := range map[string]struct {
		name   string
		fields map[string]string
	}{
		"no name": {"", ok}, "path": {"../x", ok}, "long": {strings.Repeat("a", 64), ok}, "NUL": {"a\x00", ok},
		"no fields": {"a", nil}, "many fields": {"a", many}, "empty field": {"a", map[string]string{"": "x"}},
		"odd field": {"a", map[string]string{"a b": "x"}}, "long value": {"a", map[string]string{"a": strings.Repeat("x", 64<<10+1)}},
	} {
		if err := s.Set(test.name, test.fields, at); fault.CodeOf(err) != "E_REQUEST" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpoiledFiles(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(dir string) error
		code  string
	}{
		"sealed changed": {func(dir string) error { return flip(filepath.Join(dir, "credentials.sealed")) }, "E_SEALED"},
		"sealed cut":     {func(dir string) error { return os.Truncate(filepath.Join(dir, "credentials.sealed"), 3) }, "E_SEALED"},
		"sealed empty":   {func(dir string) error { return os.Truncate(filepath.Join(dir, "credentials.sealed"), 0) }, "E_SEALED"},
		"another key":    {func(dir string) error { return flip(filepath.Join(dir, "credentials.key")) }, "E_SEALED"},
		"no key":         {func(dir string) error { return os.Remove(filepath.Join(dir, "credentials.key")) }, "E_STATE"},
		"short key":      {func(dir string) error { return os.Truncate(filepath.Join(dir, "credentials.key"), 8) }, "E_STATE"},
		"open key":       {func(dir string) error { return os.Chmod(filepath.Join(dir, "credentials.key"), 0o640) }, "E_STATE"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := credential.Open(dir)
			if err := s.Set("a", map[string]string{"password": "x"}, at); err != nil {
				t.Fatal(err)
			}
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Fields("a"); fault.CodeOf(err) != test.code {
				t.Errorf("Fields = %v", err)
			}
			if err := s.Set("b", map[string]string{"password": "x"}, at); err == nil {
				t.Error("Set went over what it could not read")
			}
		})
	}
}

func TestConcurrentSetsAreAllKept(t *testing.T) {
	dir := t.TempDir()
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			if err := credential.Open(dir).Set(fmt.Sprint("c", i), map[string]string{"a": "b"}, at); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if list, err := credential.Open(dir).List(); err != nil || len(list) != 20 {
		t.Errorf("%d credentials, %v", len(list), err)
	}
}

func flip(path string) error {
	contents, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	contents[len(contents)/2] ^= 1
	return os.WriteFile(path, contents, 0o600)
}
