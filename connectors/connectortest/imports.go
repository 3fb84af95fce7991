package connectortest

import (
	"strconv"
	"testing"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func itoa(i int) string { return strconv.Itoa(i) }

func testImports(t *testing.T, s *suite) {
	c := s.open(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite, connectors.Conn)
	}{
		{"insert with one bad record in 5,000", importBisects},
		{"all records bad", importAllBad},
		{"constraints by class", importConstraints},
		{"upsert", importUpsert},
		{"update", importUpdate},
		{"delete", importDelete},
		{"key missing in the record", importNullKey},
		{"records of different shapes", importShapes},
		{"fieldErrors", importFieldErrors},
		{"fieldErrors by key", importFieldErrorsByKey},
		{"unknown field and unknown table", importDrift},
		{"table changed in the meantime", importTableChanged},
		{"guarantee", importGuarantee},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, c) })
	}
}

// checkFailed checks the answer's failures: index and code.
func checkFailed(t *testing.T, a connectors.Answer, want map[int]string) {
	t.Helper()
	got := map[int]string{}
	for _, f := range a.Failed {
		got[f.Index] = f.Fault.Code
	}
	if len(got) != len(want) {
		t.Fatalf("failed: %v, want %v", got, want)
	}
	for i, code := range want {
		if got[i] != code {
			t.Fatalf("failed: %v, want %v", got, want)
		}
	}
}

func importBisects(t *testing.T, s *suite, c connectors.Conn) {
	const n, bad = 5000, 3210
	target := s.tableOf(t, "id bigint, v text, CHECK (v <> 'bad')")
	values := make([]page.Value, n)
	for i := range values {
		values[i] = page.String("good")
	}
	values[bad] = page.String("bad")
	answer := s.mustLoad(t, c, connectors.ImportSpec{Table: target}, pageOf(t, rowsOf(values...)...))
	checkFailed(t, answer, map[int]string{bad: "E_VALUE"})
	if got := s.count(t, target); got != itoa(n-1) || answer.Applied != n-1 {
		t.Errorf("%s rows, answer %d", got, answer.Applied)
	}
}

func importAllBad(t *testing.T, s *suite, c connectors.Conn) {
	const n = 200
	target := s.tableOf(t, "id bigint, v text NOT NULL")
	answer := s.mustLoad(t, c, connectors.ImportSpec{Table: target}, pageOf(t, rowsOf(make([]page.Value, n)...)...))
	if len(answer.Failed) != n || answer.Applied != 0 || s.count(t, target) != "0" {
		t.Fatalf("%d failed, %d applied", len(answer.Failed), answer.Applied)
	}
	f := answer.Failed[n/2].Fault
	if f.Class != fault.Missing || f.Field != "v" {
		t.Errorf("class %s, field %q", f.Class, f.Field)
	}
}

func importConstraints(t *testing.T, s *suite, c connectors.Conn) {
	parent := s.tableOf(t, "id text PRIMARY KEY")
	s.Exec(t, "INSERT INTO "+parent+" (id) VALUES ('here')")
	target := s.tableOf(t, "id bigint PRIMARY KEY, v text NOT NULL REFERENCES "+parent+" (id)")
	s.Exec(t, "INSERT INTO "+target+" (id, v) VALUES (1, 'here')")
	records := rowsOf(page.String("here"), page.String("gone"), page.Null(), page.String("here"))
	records = append(records, records[3]) // the same key again
	answer := s.mustLoad(t, c, connectors.ImportSpec{Table: target}, pageOf(t, records...))
	checkFailed(t, answer, map[int]string{0: "E_DUPLICATE", 1: "E_MISSING", 2: "E_MISSING", 4: "E_DUPLICATE"})
	if got := s.count(t, target); got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
}

func importUpsert(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint PRIMARY KEY, v text CHECK (v <> 'bad'), kept text")
	s.Exec(t, "INSERT INTO "+target+" (id, v, kept) VALUES (1, 'old', 'kept'), (2, 'old', 'kept')")
	records := rowsOf(page.String("new"), page.String("bad"), page.String("first"))
	records = append(records, rowsOf(page.Null(), page.Null(), page.String("last"))[2])
	spec := connectors.ImportSpec{Table: target, Mode: "upsert", Key: []string{"id"}}
	checkFailed(t, s.mustLoad(t, c, spec, pageOf(t, records...)), map[int]string{1: "E_VALUE"})
	for id, want := range map[string]string{"1": "new kept", "2": "old kept", "3": "last -"} {
		got := s.Text(t, "SELECT v || ' ' || coalesce(kept, '-') FROM "+target+" WHERE id = "+id)
		if got != want {
			t.Errorf("row %s is %q, want %q", id, got, want)
		}
	}
	if got := s.count(t, target); got != "3" {
		t.Errorf("%s rows, want 3", got)
	}
}

func importUpdate(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v text")
	s.Exec(t, "INSERT INTO "+target+" (id, v) VALUES (1, 'old'), (3, 'old')")
	records := rowsOf(page.String("new"), page.String("new"), page.String("first"))
	records = append(records, rowsOf(page.Null(), page.Null(), page.String("last"))[2])
	spec := connectors.ImportSpec{Table: target, Mode: "update", Key: []string{"id"}}
	checkFailed(t, s.mustLoad(t, c, spec, pageOf(t, records...)), map[int]string{1: "E_MISSING"})
	if got := s.Text(t, "SELECT v FROM "+target+" WHERE id = 3"); got != "last" {
		t.Errorf("row 3 is %q", got)
	}
	if got := s.count(t, target); got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
}

func importDelete(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v text")
	s.fill(t, target, 5)
	spec := connectors.ImportSpec{Table: target, Mode: "delete", Key: []string{"id"}}
	answer := s.mustLoad(t, c, spec, pageOf(t, rowsOf(page.Null(), page.String("any"))...))
	if answer.Applied != 2 || s.count(t, target) != "3" {
		t.Errorf("answer %+v", answer)
	}
	answer = s.mustLoad(t, c, spec, pageOf(t, rowsOf(page.Null())...)) // gone already
	if answer.Applied != 1 || s.count(t, target) != "3" {
		t.Errorf("answer %+v", answer)
	}
}

func importNullKey(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint UNIQUE, v text")
	id, other := page.NewShape("id", "v"), page.NewShape("v")
	records := []page.Record{
		{Shape: id, Values: []page.Value{page.Null(), page.String("x")}},
		{Shape: id, Values: []page.Value{page.Int(1), page.String("x")}},
		{Shape: other, Values: []page.Value{page.String("x")}},
	}
	for _, mode := range []string{"upsert", "update", "delete"} {
		spec := connectors.ImportSpec{Table: target, Mode: mode, Key: []string{"id"}}
		checkFailed(t, s.mustLoad(t, c, spec, pageOf(t, records...)),
			map[int]string{0: "E_MISSING", 2: "E_MISSING"})
	}
}

// importShapes: a field that is absent is left to the target's default; a field
// that is null is null.
func importShapes(t *testing.T, s *suite, c connectors.Conn) {
	for _, mode := range []string{"insert", "upsert"} {
		target := s.tableOf(t, "id bigint PRIMARY KEY, v text DEFAULT 'none', w text")
		full, part := page.NewShape("id", "w", "v"), page.NewShape("id")
		var records []page.Record
		for i := range 6 {
			r := page.Record{Shape: part, Values: []page.Value{page.Int(int64(i))}}
			if i%2 == 0 {
				r = page.Record{Shape: full, Values: []page.Value{page.Int(int64(i)), page.String("w"), page.Null()}}
			}
			records = append(records, r)
		}
		s.mustLoad(t, c, connectors.ImportSpec{Table: target, Mode: mode, Key: []string{"id"}}, pageOf(t, records...))
		if got := s.Text(t, "SELECT count(*) FROM "+target+" WHERE v = 'none' AND w IS NULL"); got != "3" {
			t.Errorf("%s: %s rows with defaults, want 3", mode, got)
		}
		if got := s.Text(t, "SELECT count(*) FROM "+target+" WHERE v IS NULL AND w = 'w'"); got != "3" {
			t.Errorf("%s: %s rows with nulls, want 3", mode, got)
		}
	}
}

func importFieldErrors(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint, v integer, w text NOT NULL DEFAULT 'default'")
	shape := page.NewShape("id", "v", "w")
	records := []page.Record{
		{Shape: shape, Values: []page.Value{page.Int(1), page.Int(7), page.String("w")}},
		{Shape: shape, Values: []page.Value{page.Int(2), page.String("seven"), page.String("w")}},
		{Shape: shape, Values: []page.Value{page.Int(3), page.Int(7), page.Null()}},
	}
	spec := connectors.ImportSpec{Table: target, FieldErrors: connectors.FieldErrors{Remove: []string{"v", "w"}}}
	answer := s.mustLoad(t, c, spec, pageOf(t, records...))
	if answer.Applied != 3 || len(answer.Degraded) != 2 || answer.Degraded[0].Index != 1 ||
		answer.Degraded[0].Fault.Field != "v" || answer.Degraded[1].Fault.Field != "w" {
		t.Fatalf("answer %+v", answer)
	}
	if got := s.Text(t, "SELECT count(*) FROM "+target+" WHERE id = 2 AND v IS NULL AND w = 'w'"); got != "1" {
		t.Error("record 2 is not there without its field")
	}
	if got := s.Text(t, "SELECT count(*) FROM "+target+" WHERE id = 3 AND v = 7 AND w = 'default'"); got != "1" {
		t.Error("record 3 is not there with the default")
	}
	spec.FieldErrors.Remove = []string{"v"}
	checkFailed(t, s.mustLoad(t, c, spec, pageOf(t, records...)), map[int]string{2: "E_MISSING"})
}

// importFieldErrorsByKey: a record that lost a field keeps its place among the
// records of its key.
func importFieldErrorsByKey(t *testing.T, s *suite, c connectors.Conn) {
	shape := page.NewShape("id", "v", "w")
	row := func(id int64, v page.Value, w string) page.Record {
		return page.Record{Shape: shape, Values: []page.Value{page.Int(id), v, page.String(w)}}
	}
	for _, mode := range []string{"upsert", "update"} {
		target := s.tableOf(t, "id bigint PRIMARY KEY, v integer CHECK (v < 100), w text")
		s.Exec(t, "INSERT INTO "+target+" (id, v, w) VALUES (1, 1, 'old'), (2, 1, 'old')")
		spec := connectors.ImportSpec{Table: target, Mode: mode, Key: []string{"id"},
			FieldErrors: connectors.FieldErrors{Remove: []string{"*"}}}
		answer := s.mustLoad(t, c, spec, pageOf(t,
			row(1, page.Int(2), "first"), row(1, page.String("x"), "second"), row(1, page.Int(3), "third"),
			row(2, page.Int(2), "first"), row(2, page.String("x"), "second")))
		if answer.Applied != 5 || len(answer.Degraded) != 2 {
			t.Fatalf("%s: %+v", mode, answer)
		}
		for id, want := range map[string]string{"1": "3 third", "2": "2 second"} {
			if got := s.Text(t, "SELECT v || ' ' || w FROM "+target+" WHERE id = "+id); got != want {
				t.Errorf("%s: row %s is %q, want %q", mode, id, got, want)
			}
		}
	}
}

func importDrift(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint")
	_, err := s.load(t.Context(), c, connectors.ImportSpec{Table: target}, pageOf(t, rowsOf(page.Null())...))
	if fault.CodeOf(err) != "E_COLUMN_MISSING" || fault.ClassOf(err) != fault.SchemaDrift || fault.From(err).Field != "v" {
		t.Errorf("unknown field: %v", err)
	}
	if got := s.count(t, target); got != "0" {
		t.Errorf("%s rows were written", got)
	}
	_, err = s.load(t.Context(), c, connectors.ImportSpec{Table: table()}, pageOf(t, rowsOf(page.Null())...))
	if fault.CodeOf(err) != "E_TABLE_MISSING" || fault.ClassOf(err) != fault.SchemaDrift {
		t.Errorf("unknown table: %v", err)
	}
}

// importTableChanged: what is remembered of a table must not outlive a change.
func importTableChanged(t *testing.T, s *suite, c connectors.Conn) {
	target := s.tableOf(t, "id bigint")
	spec := connectors.ImportSpec{Table: target}
	id := page.NewShape("id")
	s.mustLoad(t, c, spec, pageOf(t, page.Record{Shape: id, Values: []page.Value{page.Int(1)}}))
	s.Exec(t, "ALTER TABLE "+target+" ADD COLUMN v text")
	s.mustLoad(t, c, spec, pageOf(t, rowsOf(page.String("x"))...))
	s.Exec(t, "DROP TABLE "+target)
	s.Exec(t, "CREATE TABLE "+target+" (id text, v double precision)")
	s.mustLoad(t, c, spec, pageOf(t, rowsOf(page.Int(1))...))
	if got := s.Text(t, "SELECT count(*) FROM "+target+" WHERE id = '1' AND v = 1.0"); got != "1" {
		t.Error("the row was written in the form of the old table")
	}
}

func importGuarantee(t *testing.T, s *suite, _ connectors.Conn) {
	for _, test := range []struct{ mode, inbox, want string }{
		{"insert", "", connectors.ExactlyOnce},
		{"insert", "true", connectors.ExactlyOnce},
		{"upsert", "auto", connectors.ExactlyOnce},
		{"upsert", "false", connectors.EffectivelyOnce},
		{"insert", "false", connectors.AtLeastOnce},
	} {
		spec := connectors.ImportSpec{Table: "t", Mode: test.mode, Key: []string{"id"}, Inbox: test.inbox}
		if got := s.Type.ImportsOnce(spec); got.Level != test.want || got.Reason == "" {
			t.Errorf("%s with inbox %q: %+v, want %s", test.mode, test.inbox, got, test.want)
		}
	}
}
