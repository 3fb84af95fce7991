package connectortest

import (
	"strconv"
	"testing"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// testCells tries every type of column, value by value, through read and
// import.
func testCells(t *testing.T, s *suite) {
	c := s.open(t)
	for _, column := range s.Columns {
		t.Run(column.Type, func(t *testing.T) {
			source := s.tableOf(t, "id bigint PRIMARY KEY, v "+column.Type)
			for i, sample := range append(column.Samples, Sample{"NULL", page.Null()}) {
				s.Exec(t, "INSERT INTO "+source+" (id, v) VALUES ("+strconv.Itoa(i+1)+", "+sample.SQL+")")
			}
			query := connectors.Query{Table: source, Key: []string{"id"}}
			checkCells(t, s.readAll(t, c, query), column)

			target := s.tableOf(t, "id bigint, v "+column.Type)
			pages, _, err := run(t.Context(), s.newRead(c, query))
			if err != nil {
				t.Fatal(err)
			}
			answer := s.mustLoad(t, c, connectors.ImportSpec{Table: target}, pages[0])
			if len(answer.Failed) > 0 {
				t.Fatalf("records failed: %v", answer.Failed[0].Fault)
			}
			checkCells(t, s.readAll(t, c, connectors.Query{Table: target, Key: []string{"id"}}), column)

			pages[0].Header.Path = "/other" // another page to the inbox
			upserted := s.tableOf(t, "id bigint PRIMARY KEY, v "+column.Type)
			s.mustLoad(t, c, connectors.ImportSpec{Table: upserted, Mode: "upsert", Key: []string{"id"}}, pages[0])
			checkCells(t, s.readAll(t, c, connectors.Query{SQL: "SELECT id, v FROM " + upserted,
				Key: []string{"id"}}), column)
		})
	}
	t.Run("casts", func(t *testing.T) { testCasts(t, s, c) })
	t.Run("refused", func(t *testing.T) { testRefused(t, s, c) })
}

func checkCells(t *testing.T, got []page.Record, column Column) {
	t.Helper()
	if len(got) != len(column.Samples)+1 {
		t.Fatalf("%d records, want %d", len(got), len(column.Samples)+1)
	}
	for i, sample := range column.Samples {
		v, _ := got[i].Field("v")
		if !page.Equal(v, sample.Want) {
			t.Errorf("%s: got %s %v, want %s %v", sample.SQL, v.Kind(), v, sample.Want.Kind(), sample.Want)
		}
	}
	if v, present := got[len(got)-1].Field("v"); !present || !v.IsNull() {
		t.Errorf("null: got %v", v)
	}
}

func testCasts(t *testing.T, s *suite, c connectors.Conn) {
	for _, cast := range s.Casts {
		target := s.tableOf(t, "id bigint, v "+cast.Type)
		answer := s.mustLoad(t, c, connectors.ImportSpec{Table: target}, pageOf(t, rowsOf(cast.Value)...))
		if len(answer.Failed) > 0 {
			t.Errorf("%s %v into %s: %v", cast.Value.Kind(), cast.Value, cast.Type, answer.Failed[0].Fault)
			continue
		}
		if got := s.Text(t, "SELECT v FROM "+target); got != cast.Text {
			t.Errorf("%s %v into %s: shows %q, want %q", cast.Value.Kind(), cast.Value, cast.Type, got, cast.Text)
		}
	}
}

func testRefused(t *testing.T, s *suite, c connectors.Conn) {
	for _, cast := range s.Refused {
		target := s.tableOf(t, "id bigint, v "+cast.Type)
		answer := s.mustLoad(t, c, connectors.ImportSpec{Table: target},
			pageOf(t, rowsOf(page.Null(), cast.Value, page.Null())...))
		if len(answer.Failed) != 1 || answer.Failed[0].Index != 1 || answer.Applied != 2 {
			t.Errorf("%s %v into %s: answer %+v", cast.Value.Kind(), cast.Value, cast.Type, answer)
			continue
		}
		f := answer.Failed[0].Fault
		if f.Class != fault.Value || f.Code != "E_VALUE" {
			t.Errorf("%s %v into %s: %s %s", cast.Value.Kind(), cast.Value, cast.Type, f.Class, f.Code)
		}
		if got := s.count(t, target); got != "2" {
			t.Errorf("%v into %s: %s rows, want 2", cast.Value, cast.Type, got)
		}
	}
}
