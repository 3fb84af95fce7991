package odata

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/page"
)

func testEnv() connectors.Env {
	return connectors.Env{Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
}

func seed(f *testing.F, pattern string) {
	files, err := filepath.Glob("testdata/" + pattern)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

func FuzzMetadata(f *testing.F) {
	seed(f, "*.xml")
	f.Fuzz(func(t *testing.T, b []byte) {
		svc, err := parseMetadata(b)
		if err != nil {
			return
		}
		for _, s := range svc.sets {
			for _, p := range s.fields() {
				p.value(json.RawMessage(`{"results":[1]}`))
			}
		}
	})
}

// FuzzValue: no body makes a value that cannot be encoded, and every value that
// fits its type is written so that it reads the same again.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`{"value":[{"p":"/Date(0)/"}]}`, `{"d":{"results":[{"p":1.5}]}}`, `{"d":[{"p":"PT1H"}]}`,
		`{"value":[{"p":"2024-01-31T12:00:00.1+01:00"}]}`, `{"value":[{"p":"-P1DT1S"}]}`} {
		for prim := range structured {
			f.Add([]byte(s), uint8(prim))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, prim uint8) {
		p := &property{name: "p", typ: "T", prim: primitive(prim) % structured, precision: -1, scale: -1}
		records, _, err := parseCollection(b)
		if err != nil {
			return
		}
		for _, raw := range records {
			var fields map[string]json.RawMessage
			if json.Unmarshal(raw, &fields) != nil {
				continue
			}
			v := p.value(fields["p"])
			e := page.NewEncoder()
			if err := e.Record(page.NewRecord(page.NewShape("p"), v)); err != nil {
				t.Fatalf("%s %v: %v", v.Kind(), v, err)
			}
			if v.Kind() == page.KindForeign || v.Kind() == page.KindJSON || v.IsNull() {
				continue
			}
			checkRoundTrip(t, p, v)
		}
	})
}

func checkRoundTrip(t *testing.T, p *property, v page.Value) {
	t.Helper()
	for _, version := range []int{2, 4} {
		raw, err := form{version}.appendJSON(nil, v, p)
		if err != nil {
			continue // such as text that is not UTF-8, or too many digits
		}
		if !json.Valid(raw) {
			t.Fatalf("version %d: %q is not JSON", version, raw)
		}
		again := p.value(raw)
		same := page.Equal(again, v)
		if v.Kind() == page.KindTimestamp { // the moment counts: version 2 writes it in UTC
			same = again.Kind() == v.Kind() && again.Micros() == v.Micros()
		}
		if p.prim == dateTime && version == 4 { // no such type there
			same = true
		}
		if !same {
			t.Fatalf("version %d: %v became %s, then %v", version, v, raw, again)
		}
	}
}

func FuzzBatch(f *testing.F) {
	seed(f, "*.txt")
	f.Fuzz(func(t *testing.T, b []byte) {
		a := &httpapi.Answer{Header: http.Header{"Content-Type": {"multipart/mixed; boundary=0E3C9B1A"}}, Body: b}
		answers, err := parseBatch(a, 10)
		if err == nil && len(answers) > 10 {
			t.Fatal("more answers than requests")
		}
	})
}

func FuzzComplaint(f *testing.F) {
	f.Add([]byte(`{"error":{"code":"x","message":{"value":"y"},"details":[{"target":"a/b"}]}}`))
	f.Add([]byte(`<error><code>x</code><message>y</message></error>`))
	s := &structure{byName: map[string]*property{"a": {name: "a"}}}
	c := &conn{env: testEnv()}
	f.Fuzz(func(t *testing.T, b []byte) {
		fault := c.faultOf(&httpapi.Answer{Status: 400, Body: b, Header: http.Header{}}, s)
		if len(fault.Cause) > 16<<10 {
			t.Fatalf("a cause of %d bytes", len(fault.Cause))
		}
	})
}

func FuzzLike(f *testing.F) {
	f.Add(`' or 1 eq 1`)
	s := &structure{name: "T", byName: map[string]*property{"a": {name: "a", prim: text}}}
	f.Fuzz(func(t *testing.T, value string) {
		raw, err := json.Marshal(value)
		if err != nil {
			return
		}
		for _, op := range []string{"=", "like"} {
			got, err := filter{form{4}, s}.where(connectors.Where{All: []connectors.Condition{{Column: "a", Op: op, Value: raw}}})
			if err == nil && balanced(got) != nil {
				t.Fatalf("%q is not closed", got)
			}
		}
	})
}
