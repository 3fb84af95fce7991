package page_test

import (
	"bytes"
	"testing"

	"ropeway/protocol/page"
)

func FuzzDecode(f *testing.F) {
	f.Add(goldenPayload(f))
	f.Add(cell(0))
	f.Add(page.NewEncoder().Finish(nil))
	_, rows, _ := benchPayload(f, 3)
	f.Add(rows)
	f.Fuzz(func(t *testing.T, b []byte) {
		readAll(b)
		records, err := page.DecodeAll(b)
		if err != nil {
			return
		}
		for _, r := range records {
			again, err := page.ParseRecord(r.AppendJSON(nil))
			if err != nil || !page.EqualRecords(r, again) {
				t.Fatalf("JSON of a decoded record: %v", err)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	chained, pushed := chainedHeader(), pushedHeader()
	f.Add(chained.Marshal())
	f.Add(pushed.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := page.UnmarshalHeader(b)
		if err != nil {
			return
		}
		if !bytes.Equal(h.Marshal(), b) {
			t.Fatal("not canonical")
		}
		if _, err := page.ParseName(h.Name()); err != nil {
			t.Fatalf("name %s: %v", h.Name(), err)
		}
	})
}

func FuzzOpenPage(f *testing.F) {
	k, keys := testKeys(f)
	p := samplePage(f)
	f.Add(page.SealPage(k, p, 1), p.Payload)
	f.Add(page.SealBytes(k, []byte("x"), nil), page.Compress([]byte("abc")))
	f.Fuzz(func(t *testing.T, sealed, payload []byte) {
		if h, err := page.PeekHeader(sealed); err == nil {
			_, _ = (&page.Page{Header: h, Payload: payload}).Decode()
		}
		if got, _, err := page.OpenPage(sealed, keys); err == nil {
			_, _ = got.Open()
		}
		if b, err := page.Decompress(payload, 1<<16); err == nil && len(b) > 1<<16 {
			t.Fatalf("%d bytes", len(b))
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	for _, v := range extremes(f) {
		if text := page.NewRecord(page.NewShape("v"), v).AppendJSON(nil); len(text) < 500 {
			f.Add(text)
		}
	}
	f.Add([]byte(`{"$type":"object","value":{"$type":"x","a":[1,2.50,{"b":null}]}}`))
	e := page.NewEncoder()
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = page.ParsePlainRecord(b)
		r, err := page.ParseRecord(b)
		if err != nil {
			return
		}
		again, err := page.ParseRecord(r.AppendJSON(nil))
		if err != nil || !page.EqualRecords(r, again) {
			t.Fatalf("second reading: %v", err)
		}
		e.Reset()
		if err := e.Record(r); err != nil {
			t.Fatalf("encode: %v", err)
		}
		back, err := page.DecodeAll(e.Finish(nil))
		if err != nil || len(back) != 1 || !page.EqualRecords(r, back[0]) {
			t.Fatalf("codec: %v", err)
		}
	})
}
