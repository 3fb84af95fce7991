package postgres

import (
	"testing"

	"ropeway/connectors"
	"ropeway/protocol/page"
)

// encoded is one record of the given fields as a chunk.
func encoded(t *testing.T, table *table, names ...string) *chunk {
	t.Helper()
	values := map[string]page.Value{"a": page.Int(7), "b": page.Null(), "c": page.Bool(true)}
	record := page.Record{Shape: page.NewShape(names...)}
	for _, n := range names {
		record.Values = append(record.Values, values[n])
	}
	e := page.NewEncoder()
	if err := e.Record(record); err != nil {
		t.Fatal(err)
	}
	spec, err := connectors.ImportSpec{Table: "t"}.Normal()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := build(table, spec, connectors.Batch{Payload: e.Finish(nil), Records: 1}, nil)
	if err != nil || len(rows.chunks) != 1 {
		t.Fatalf("%d chunks, %v", len(rows.chunks), err)
	}
	return rows.chunks[0]
}
