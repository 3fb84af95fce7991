package testenv_test

import (
	"os"
	"testing"

	"ropeway/tests/testenv"
)

func TestMariaDBIsSharedAndAnswers(t *testing.T) {
	m := testenv.Maria(t)
	if again := testenv.Maria(t); again != m {
		t.Fatal("a second server was started")
	}
	db := m.Database(t)
	if err := m.Exec(t.Context(), db, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
}

func TestStartMariaDBUsesItsDataAgain(t *testing.T) {
	testenv.Maria(t)   // skips where there is none
	dir := t.TempDir() // out of reach of another user
	first, err := testenv.StartMariaDB(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(first.Dir) })
	if err := first.Exec(t.Context(), "", "CREATE DATABASE kept; CREATE TABLE kept.t (id int)"); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	second, err := testenv.StartMariaDB(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	if err := second.Exec(t.Context(), "kept", "SELECT id FROM t"); err != nil {
		t.Fatal(err)
	}
	if second.CA == "" || second.Password != first.Password {
		t.Error("authority or password is not that of the first start")
	}
}
