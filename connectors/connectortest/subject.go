// Package connectortest is the contract that every SQL connector keeps: what
// it reads and writes value by value, how it resumes and ends, what it answers
// per record, what it does with a page that comes twice, and which faults it
// reports. It does not know any particular system: a Subject brings one.
package connectortest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/page"
)

// A Subject is a connector and a database of its own to try it with.
type Subject struct {
	Type     *connectors.Type
	Env      connectors.Env
	Settings map[string]any

	// Exec runs statements behind the connector's back; Text returns the
	// single value of a query as text.
	Exec func(t testing.TB, sql string)
	Text func(t testing.TB, sql string) string

	// Columns are the types of columns with values at their extremes.
	Columns []Column
	// Casts are values that a column takes from another kind of cell.
	Casts []Cast
	// Refused are values that a column cannot hold: E_VALUE, and no other
	// record suffers.
	Refused []Cast

	// Long is a query that runs for minutes; "" = there is none.
	Long string
	// Rejected and Unreachable change what Open is given so that the
	// credential is refused or nothing answers; nil = impossible here.
	Rejected    func(env *connectors.Env, settings map[string]any)
	Unreachable func(env *connectors.Env, settings map[string]any)
	// Secrets must not be in any error.
	Secrets []string
}

// A Column is a type of column and samples of its values.
type Column struct {
	Type    string
	Samples []Sample
}

// A Sample is a value as the system's SQL writes it and as it must be read.
type Sample struct {
	SQL  string
	Want page.Value
}

// A Cast is a value imported into a column, and what the system then shows as
// text (not used for refused values).
type Cast struct {
	Type  string
	Value page.Value
	Text  string
}

// Run tries everything.
func Run(t *testing.T, s Subject) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Cells", testCells},
		{"Reads", testReads},
		{"Imports", testImports},
		{"Inbox", testInbox},
		{"Faults", testFaults},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, &suite{Subject: s}) })
	}
}

type suite struct{ Subject }

func (s *suite) open(t testing.TB) connectors.Conn {
	t.Helper()
	c, err := s.openWith(t, s.Env, s.Settings)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func (s *suite) openWith(t testing.TB, env connectors.Env, settings map[string]any) (connectors.Conn, error) {
	t.Helper()
	valid, err := s.Type.Settings.Validate(maps.Clone(settings))
	if err != nil {
		t.Fatalf("settings: %v", err)
	}
	return s.Type.Open(t.Context(), env, valid)
}

// table is a name that no other test uses.
func table() string { return "t_" + strings.ToLower(rand.Text()) }

// tableOf makes a table of the given columns.
func (s *suite) tableOf(t testing.TB, columns string) string {
	t.Helper()
	name := table()
	s.Exec(t, "CREATE TABLE "+name+" ("+columns+")")
	return name
}

func (s *suite) count(t testing.TB, table string) string {
	t.Helper()
	return s.Text(t, "SELECT count(*) FROM "+table)
}

// fill puts rows 1…n into a table (id, v).
func (s *suite) fill(t testing.TB, table string, n int) {
	t.Helper()
	const step = 500
	for lo := 1; lo <= n; lo += step {
		var values []string
		for i := lo; i < min(lo+step, n+1); i++ {
			values = append(values, fmt.Sprintf("(%d, 'row %d')", i, i))
		}
		s.Exec(t, "INSERT INTO "+table+" (id, v) VALUES "+strings.Join(values, ", "))
	}
}

// newRead is a read request of a new chain.
func (s *suite) newRead(c connectors.Conn, q connectors.Query) request.Read {
	return request.Read{
		Type: s.Type, Conn: c, Query: q, Epoch: page.NewEpoch(), Clock: time.Now,
		Header: page.Header{Tenant: page.NewID(), Environment: page.NewID(), Flow: page.NewID(),
			FlowVersion: 1, Chain: page.Chain{Job: page.NewID(), Step: "export"}},
	}
}

// run runs one request and collects its pages.
func run(ctx context.Context, r request.Read) ([]*page.Page, request.End, error) {
	var pages []*page.Page
	end, err := r.Run(ctx, func(_ context.Context, p *page.Page) error {
		pages = append(pages, p)
		return nil
	})
	return pages, end, err
}

// next is the request after r.
func next(r request.Read, end request.End) request.Read {
	r.Cursor, r.Seq, r.Prev = end.Cursor, end.Seq, end.Prev
	r.Pages, r.Records = end.Pages, end.Records
	return r
}

// readAll reads a query to its end and returns its records.
func (s *suite) readAll(t testing.TB, c connectors.Conn, q connectors.Query) []page.Record {
	t.Helper()
	r := s.newRead(c, q)
	var records []page.Record
	for {
		pages, end, err := run(t.Context(), r)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		for _, p := range pages {
			records = append(records, open(t, p)...)
		}
		if end.Exhausted {
			return records
		}
		r = next(r, end)
	}
}

func open(t testing.TB, p *page.Page) []page.Record {
	t.Helper()
	payload, err := p.Open()
	if err != nil {
		t.Fatalf("open page: %v", err)
	}
	records, err := page.DecodeAll(payload)
	if err != nil {
		t.Fatalf("decode page: %v", err)
	}
	return records
}

// pageOf makes a page of records as a chain would.
func pageOf(t testing.TB, records ...page.Record) *page.Page {
	t.Helper()
	e := page.NewEncoder()
	for _, r := range records {
		if err := e.Record(r); err != nil {
			t.Fatalf("encode: %v", err)
		}
	}
	return seal(e)
}

// rowsOf makes records (id, v) from values.
func rowsOf(values ...page.Value) []page.Record {
	shape := page.NewShape("id", "v")
	records := make([]page.Record, len(values))
	for i, v := range values {
		records[i] = page.Record{Shape: shape, Values: []page.Value{page.Int(int64(i + 1)), v}}
	}
	return records
}
