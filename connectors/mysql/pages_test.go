package mysql_test

import (
	"context"
	"crypto/sha256"
	"testing"

	"ropeway/connectors"
	"ropeway/connectors/mysql"
	"ropeway/connectors/request"
	"ropeway/protocol/page"
)

// onePage makes a page of records with the given fields.
func onePage(t testing.TB, names []string, rows ...[]page.Value) *page.Page {
	t.Helper()
	e, shape := page.NewEncoder(), page.NewShape(names...)
	for _, values := range rows {
		if err := e.Record(page.Record{Shape: shape, Values: values}); err != nil {
			t.Fatal(err)
		}
	}
	payload := e.Finish(nil)
	return &page.Page{Payload: page.Compress(payload), Header: page.Header{
		Version: page.Version, Chain: page.Chain{Job: page.NewID(), Step: "export"}, Epoch: page.NewEpoch(),
		Records: uint32(len(rows)), PayloadSize: uint32(len(payload)), PayloadHash: sha256.Sum256(payload)}}
}

func load(t testing.TB, c connectors.Conn, spec connectors.ImportSpec, p *page.Page) (connectors.Answer, error) {
	t.Helper()
	return request.Import{Type: mysql.Type(), Conn: c, Spec: spec, Step: "load"}.Run(t.Context(), p)
}

func newRead(c connectors.Conn, q connectors.Query) request.Read {
	return request.Read{Type: mysql.Type(), Conn: c, Query: q, Epoch: page.NewEpoch(),
		Header: page.Header{Chain: page.Chain{Job: page.NewID(), Step: "export"}}}
}

func discard(context.Context, *page.Page) error { return nil }

// readAll reads a query to its end, in requests of the given limits.
func readAll(t testing.TB, c connectors.Conn, q connectors.Query, l request.Limits) ([]page.Record, error) {
	t.Helper()
	var records []page.Record
	r := newRead(c, q)
	r.Limits = l
	for {
		end, err := r.Run(t.Context(), func(_ context.Context, p *page.Page) error {
			payload, err := p.Open()
			if err != nil {
				return err
			}
			all, err := page.DecodeAll(payload)
			records = append(records, all...)
			return err
		})
		if err != nil || end.Exhausted {
			return records, err
		}
		r.Cursor, r.Seq, r.Prev, r.Pages, r.Records = end.Cursor, end.Seq, end.Prev, end.Pages, end.Records
	}
}
