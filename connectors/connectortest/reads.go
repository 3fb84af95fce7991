package connectortest

import (
	"encoding/json"
	"slices"
	"testing"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func testReads(t *testing.T, s *suite) {
	c := s.open(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite, connectors.Conn)
	}{
		{"resumes by cursor", readResumes},
		{"meets its end exactly", readEndsExactly},
		{"finds nothing", readEmpty},
		{"is bounded by pages", readBounded},
		{"cuts pages by records and bytes", readPageBounds},
		{"selects columns and conditions", readStructured},
		{"streams without a key", readStream},
		{"goes on when the source changes", readWhileChanging},
		{"composite key", readCompositeKey},
		{"key that is not unique", readDuplicateKey},
		{"key that is null", readNullKey},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, c) })
	}
}

func (s *suite) numbered(t *testing.T, n int) connectors.Query {
	t.Helper()
	source := s.tableOf(t, "id bigint PRIMARY KEY, v text")
	s.fill(t, source, n)
	return connectors.Query{Table: source, Key: []string{"id"}}
}

func ids(t *testing.T, records []page.Record) []int64 {
	t.Helper()
	var out []int64
	for _, r := range records {
		v, present := r.Field("id")
		if !present {
			t.Fatal("a record has no id")
		}
		out = append(out, v.Int())
	}
	return out
}

func checkIDs(t *testing.T, got []int64, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	for i, id := range got {
		if id != int64(i+1) {
			t.Fatalf("record %d has id %d", i, id)
		}
	}
}

// checkChain checks names, hashes and totals over all pages of a chain.
func checkChain(t *testing.T, pages []*page.Page, records uint64) {
	t.Helper()
	var before page.Hash
	for i, p := range pages {
		h := p.Header
		last := i == len(pages)-1
		if h.Seq != uint64(i) || h.Prev != before || h.Last != last {
			t.Fatalf("page %d: seq %d, prev %v, last %v", i, h.Seq, h.Prev, h.Last)
		}
		if last && (h.TotalPages != uint64(len(pages)) || h.TotalRecords != records) {
			t.Fatalf("totals %d pages, %d records; want %d, %d", h.TotalPages, h.TotalRecords, len(pages), records)
		}
		before = h.Hash()
	}
}

func readResumes(t *testing.T, s *suite, c connectors.Conn) {
	const n = 2345
	for _, q := range []connectors.Query{s.numbered(t, n), {}} {
		if q.Table == "" {
			source := s.tableOf(t, "id bigint PRIMARY KEY, v text")
			s.fill(t, source, n)
			q = connectors.Query{SQL: "SELECT id, v FROM " + source + " -- all ;\n;", Key: []string{"id"}}
		}
		r := s.newRead(c, q)
		r.Limits = request.Limits{Pages: 2, PageRecords: 100}
		var all []*page.Page
		var got []int64
		for requests := 0; ; requests++ {
			pages, end, err := run(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pages {
				got = append(got, ids(t, open(t, p))...)
			}
			all = append(all, pages...)
			if end.Exhausted {
				break
			}
			if len(pages) != 2 || requests > n {
				t.Fatalf("request %d: %d pages", requests, len(pages))
			}
			// Another execution continues with an epoch and connection of its own.
			r = next(r, end)
			r.Epoch = page.NewEpoch()
			r.Conn = s.open(t)
		}
		checkIDs(t, got, n)
		checkChain(t, all, n)
	}
}

func readEndsExactly(t *testing.T, s *suite, c connectors.Conn) {
	for _, n := range []int{100, 200} { // one page; as many as a request may make
		r := s.newRead(c, s.numbered(t, n))
		r.Limits = request.Limits{Pages: 2, PageRecords: 100}
		pages, end, err := run(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !end.Exhausted || len(pages) != n/100 || end.Records != uint64(n) {
			t.Fatalf("%d rows: %d pages, end %+v", n, len(pages), end)
		}
		checkChain(t, pages, uint64(n))
	}
}

func readEmpty(t *testing.T, s *suite, c connectors.Conn) {
	q := s.numbered(t, 0)
	stream := q
	stream.Key = nil
	for _, q := range []connectors.Query{q, stream} {
		pages, end, err := run(t.Context(), s.newRead(c, q))
		if err != nil {
			t.Fatal(err)
		}
		if !end.Exhausted || len(pages) != 1 || pages[0].Header.Records != 0 {
			t.Fatalf("%d pages, end %+v", len(pages), end)
		}
		checkChain(t, pages, 0)
	}
}

func readBounded(t *testing.T, s *suite, c connectors.Conn) {
	r := s.newRead(c, s.numbered(t, 400))
	r.Query.PageSize = 10
	pages, end, err := run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if end.Exhausted || len(pages) != 16 || end.Records != 160 || pages[15].Header.Last {
		t.Fatalf("%d pages, end %+v", len(pages), end)
	}
	payload, err := pages[15].Open()
	if err != nil {
		t.Fatal(err)
	}
	d, err := page.NewDecoder(payload)
	if err != nil {
		t.Fatal(err)
	}
	for d.Next() {
	}
	if !slices.Equal(d.Cursor(), end.Cursor) || len(end.Cursor) == 0 {
		t.Error("the last page's cursor is not that of the end")
	}
}

func readPageBounds(t *testing.T, s *suite, c connectors.Conn) {
	r := s.newRead(c, s.numbered(t, 300))
	r.Limits = request.Limits{PageBytes: 500}
	pages, _, err := run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pages[:len(pages)-1] {
		if size := p.Header.PayloadSize; size < 500 || size > 1000 {
			t.Errorf("page %d has %d bytes", i, size)
		}
	}
}

func readStructured(t *testing.T, s *suite, c connectors.Conn) {
	q := s.numbered(t, 50)
	q.Columns = []string{"v"} // the key is read, but not part of the record
	q.Where.All = []connectors.Condition{
		{Column: "id", Op: ">", Value: json.RawMessage("10")},
		{Column: "v", Op: "in", Value: json.RawMessage(`["row 11", "row 5", "row 12", "it's; --"]`)},
		{Column: "v", Op: "is not null"},
	}
	got := s.readAll(t, c, q)
	if len(got) != 2 || len(got[0].Shape.Names) != 1 || got[1].Values[0].Text() != "row 12" {
		t.Fatalf("got %v", got)
	}
	q.Where = connectors.Where{SQL: "id < 4 -- few"}
	if got := s.readAll(t, c, q); len(got) != 3 {
		t.Fatalf("%d records, want 3", len(got))
	}
}

func readStream(t *testing.T, s *suite, c connectors.Conn) {
	q := s.numbered(t, 2000)
	r := s.newRead(c, connectors.Query{SQL: "SELECT id FROM " + q.Table + " ORDER BY id"})
	r.Limits = request.Limits{Pages: 2, PageRecords: 100}
	pages, end, err := run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !end.Exhausted || len(pages) != 20 || end.Cursor != nil {
		t.Fatalf("%d pages, end %+v", len(pages), end)
	}
	checkChain(t, pages, 2000)
}

// readWhileChanging deletes and inserts rows on both sides of the cursor.
func readWhileChanging(t *testing.T, s *suite, c connectors.Conn) {
	q := s.numbered(t, 30)
	r := s.newRead(c, q)
	r.Limits = request.Limits{Pages: 1, PageRecords: 10}
	_, end, err := run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "DELETE FROM "+q.Table+" WHERE id IN (3, 10, 11)")
	s.Exec(t, "INSERT INTO "+q.Table+" (id, v) VALUES (0, 'before'), (31, 'after')")
	r = next(r, end)
	r.Limits = request.Limits{}
	pages, _, err := run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	got := ids(t, open(t, pages[0]))
	if len(got) != 20 || got[0] != 12 || got[19] != 31 {
		t.Errorf("got %v", got)
	}
}

func readCompositeKey(t *testing.T, s *suite, c connectors.Conn) {
	source := s.tableOf(t, "id bigint NOT NULL, v text NOT NULL, PRIMARY KEY (v, id)")
	s.Exec(t, "INSERT INTO "+source+" (id, v) VALUES (2, 'a'), (1, 'b'), (1, 'a'), (3, 'a'), (2, 'b')")
	r := s.newRead(c, connectors.Query{Table: source, Key: []string{"v", "id"}})
	r.Limits = request.Limits{Pages: 1, PageRecords: 2}
	var got []int64
	for {
		pages, end, err := run(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(t, open(t, pages[0]))...)
		if end.Exhausted {
			break
		}
		r = next(r, end)
	}
	if !slices.Equal(got, []int64{1, 2, 3, 1, 2}) {
		t.Errorf("got %v", got)
	}
}

// readDuplicateKey puts the doubles on every side of a page's and a request's
// end: they must never be lost silently.
func readDuplicateKey(t *testing.T, s *suite, c connectors.Conn) {
	for _, double := range []int{5, 10, 20, 30} {
		source := s.tableOf(t, "id bigint, v text")
		s.fill(t, source, 30)
		s.Exec(t, "INSERT INTO "+source+" (id, v) SELECT id, v FROM "+source+" WHERE id = "+itoa(double))
		r := s.newRead(c, connectors.Query{Table: source, Key: []string{"id"}})
		r.Limits = request.Limits{Pages: 2, PageRecords: 10}
		if err := readToEnd(t, r); fault.CodeOf(err) != "E_QUERY" {
			t.Errorf("id %d twice: %v", double, err)
		}
	}
}

func readNullKey(t *testing.T, s *suite, c connectors.Conn) {
	for _, n := range []int{0, 5, 10, 15} {
		source := s.tableOf(t, "id bigint, v text")
		s.fill(t, source, n)
		s.Exec(t, "INSERT INTO "+source+" (id, v) VALUES (NULL, 'lost')")
		r := s.newRead(c, connectors.Query{Table: source, Key: []string{"id"}})
		r.Limits = request.Limits{Pages: 1, PageRecords: 5}
		if err := readToEnd(t, r); fault.CodeOf(err) != "E_QUERY" || fault.From(err).Field != "id" {
			t.Errorf("%d rows and a null: %v", n, err)
		}
	}
}

func readToEnd(t *testing.T, r request.Read) error {
	for {
		_, end, err := run(t.Context(), r)
		if err != nil || end.Exhausted {
			return err
		}
		r = next(r, end)
	}
}
