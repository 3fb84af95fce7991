package testenv_test

import (
	"os"
	"testing"

	"ropeway/tests/testenv"
)

func TestPostgresIsSharedAndAnswers(t *testing.T) {
	pg := testenv.Postgres(t)
	if again := testenv.Postgres(t); again != pg {
		t.Fatal("a second server was started")
	}
	db := pg.Database(t)
	if err := pg.Exec(t.Context(), db, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
}

func TestStartPostgresUsesItsClusterAgain(t *testing.T) {
	testenv.Postgres(t) // skips where there is none
	dir := t.TempDir()  // out of reach of another user
	first, err := testenv.StartPostgres(t.Context(), dir, "fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(first.Dir) })
	if err := first.Exec(t.Context(), "postgres", "CREATE TABLE kept (id int)"); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	second, err := testenv.StartPostgres(t.Context(), dir, "fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	if err := second.Exec(t.Context(), "postgres", "SELECT id FROM kept"); err != nil {
		t.Fatal(err)
	}
	if second.CA == "" || second.Password != first.Password {
		t.Error("authority or password is not that of the first start")
	}
}
