package odata_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/connectors/sap/odata"
	"ropeway/protocol/page"
	"ropeway/tests/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.IgnoreServers()) }

// A site is a CAP server behind a front of its own.
type site struct {
	t     *testing.T
	cap   *testenv.CAP
	front *testenv.SAPFront
}

func newSite(t *testing.T) *site {
	t.Helper()
	c := testenv.SAP(t)
	s := &site{t: t, cap: c, front: testenv.NewSAPFront(t, c)}
	s.wipe()
	return s
}

var odataType = odata.Type()

var roots = map[string]string{"v2": testenv.CAPRoot2, "v4": testenv.CAPRoot4}

// eachVersion runs a test against both versions of the service.
func eachVersion(t *testing.T, test func(t *testing.T, s *site, version string)) {
	for _, version := range []string{"v2", "v4"} {
		t.Run(version, func(t *testing.T) { test(t, newSite(t), version) })
	}
}

func (s *site) settings(version string) map[string]any {
	return map[string]any{"url": s.front.Origin + roots[version], "timeout": "20s"}
}

func env(user, password string) connectors.Env {
	return connectors.Env{
		Dial: (&net.Dialer{}).DialContext,
		Secret: func(context.Context) (map[string]string, error) {
			return map[string]string{"username": user, "password": password}, nil
		},
		Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, e connectors.Env, given map[string]any) connectors.Conn {
	t.Helper()
	settings, err := odata.Type().Settings.Validate(given)
	if err != nil {
		t.Fatal(err)
	}
	c, err := odata.Type().Open(t.Context(), e, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// open opens the service; change may alter the settings.
func (s *site) open(version string, change ...func(map[string]any)) connectors.Conn {
	settings := s.settings(version)
	for _, f := range change {
		f(settings)
	}
	return open(s.t, env(s.cap.User, s.cap.Password), settings)
}

// call speaks to CAP behind the connector's back.
func (s *site) call(method, path, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method,
		s.cap.Origin+testenv.CAPRoot4+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth(s.cap.User, s.cap.Password)
	r.Header.Set("Content-Type", "application/json;IEEE754Compatible=true")
	r.Header.Set("Accept", "application/json;IEEE754Compatible=true")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// post creates a record behind the connector's back.
func (s *site) post(set, body string) {
	s.t.Helper()
	if status, answer := s.call("POST", "/"+set, body); status != 201 {
		s.t.Fatalf("%s: %d %s", body, status, answer)
	}
}

// fill creates orders from…to.
func (s *site) fill(from, to int) {
	s.t.Helper()
	var b bytes.Buffer
	b.WriteString(`{"requests":[`)
	for i := from; i <= to; i++ {
		if i > from {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%d","method":"POST","url":"/Orders","headers":{"content-type":"application/json"},`+
			`"body":{"id":%d,"customer":"customer %d"}}`, i, i, i)
	}
	b.WriteString(`]}`)
	if status, answer := s.call("POST", "/$batch", b.String()); status != 200 || strings.Contains(answer, `"error"`) {
		s.t.Fatalf("fill: %d %.300s", status, answer)
	}
}

// wipe empties the server.
func (s *site) wipe() {
	s.t.Helper()
	for {
		_, body := s.call("GET", "/Orders?$select=id&$top=1000", "")
		ids := values(s.t, body)
		for _, o := range ids {
			s.call("DELETE", "/Orders("+string(o["id"])+")", "")
		}
		if len(ids) == 0 {
			break
		}
	}
	_, body := s.call("GET", "/Names?$top=1000", "")
	for _, n := range values(s.t, body) {
		var name string
		_ = json.Unmarshal(n["name"], &name)
		s.call("DELETE", fmt.Sprintf("/Names(name='%s',part=%s)",
			strings.NewReplacer("'", "''", " ", "%20", "?", "%3F", "/", "%2F", "#", "%23", "&", "%26", "+", "%2B", "%", "%25").Replace(name), n["part"]), "")
	}
}

func values(t *testing.T, body string) []map[string]json.RawMessage {
	t.Helper()
	var doc struct{ Value []map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("%v in %.300s", err, body)
	}
	return doc.Value
}

// order returns one order as the server has it; "" = it is not there.
func (s *site) order(id int) string {
	status, body := s.call("GET", fmt.Sprintf("/Orders(%d)", id), "")
	if status == 404 {
		return ""
	}
	return body
}

func (s *site) count() int {
	s.t.Helper()
	_, body := s.call("GET", "/Orders/$count", "")
	var n int
	if _, err := fmt.Sscan(body, &n); err != nil {
		s.t.Fatalf("%v in %.300s", err, body)
	}
	return n
}

func newRead(c connectors.Conn, q connectors.Query) request.Read {
	return request.Read{
		Type: odata.Type(), Conn: c, Query: q, Epoch: page.NewEpoch(), Clock: time.Now,
		Header: page.Header{Tenant: page.NewID(), Environment: page.NewID(), Flow: page.NewID(),
			FlowVersion: 1, Chain: page.Chain{Job: page.NewID(), Step: "export"}},
	}
}

// readOnce runs one request.
func readOnce(t *testing.T, r request.Read) ([]page.Record, request.End, error) {
	t.Helper()
	var records []page.Record
	end, err := r.Run(t.Context(), func(_ context.Context, p *page.Page) error {
		payload, err := p.Open()
		if err != nil {
			return err
		}
		list, err := page.DecodeAll(payload)
		records = append(records, list...)
		return err
	})
	return records, end, err
}

// readAll reads to the end, request by request.
func readAll(t *testing.T, c connectors.Conn, q connectors.Query, limits request.Limits) ([]page.Record, error) {
	t.Helper()
	r := newRead(c, q)
	r.Limits = limits
	var all []page.Record
	for {
		records, end, err := readOnce(t, r)
		all = append(all, records...)
		if err != nil || end.Exhausted {
			return all, err
		}
		r.Cursor, r.Seq, r.Prev, r.Pages, r.Records = end.Cursor, end.Seq, end.Prev, end.Pages, end.Records
	}
}

func mustRead(t *testing.T, c connectors.Conn, q connectors.Query) []page.Record {
	t.Helper()
	records, err := readAll(t, c, q, request.Limits{})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return records
}

// ids are the values of a whole-number field.
func ids(t *testing.T, records []page.Record, field string) []int64 {
	t.Helper()
	list := make([]int64, len(records))
	for i, r := range records {
		v, present := r.Field(field)
		if !present {
			t.Fatalf("record %d has no %s", i, field)
		}
		list[i] = v.Int()
	}
	return list
}

// load imports records as one page.
func load(t *testing.T, c connectors.Conn, spec connectors.ImportSpec, records ...page.Record) (connectors.Answer, error) {
	t.Helper()
	return loadPage(t, c, spec, pageOf(t, records...))
}

func loadPage(t *testing.T, c connectors.Conn, spec connectors.ImportSpec, p *page.Page) (connectors.Answer, error) {
	t.Helper()
	return request.Import{Type: odata.Type(), Conn: c, Spec: spec, Step: "load"}.Run(t.Context(), p)
}

func mustLoad(t *testing.T, c connectors.Conn, spec connectors.ImportSpec, records ...page.Record) connectors.Answer {
	t.Helper()
	a, err := load(t, c, spec, records...)
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	return a
}

func pageOf(t *testing.T, records ...page.Record) *page.Page {
	t.Helper()
	e := page.NewEncoder()
	for _, r := range records {
		if err := e.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	payload := e.Finish(nil)
	return &page.Page{Payload: page.Compress(payload), Header: page.Header{
		Version: 1, Tenant: page.NewID(), Environment: page.NewID(), Flow: page.NewID(), FlowVersion: 1,
		Chain: page.Chain{Job: page.NewID(), Step: "export"}, Epoch: page.NewEpoch(), Created: time.Now().UTC().Truncate(time.Microsecond),
		Records: uint32(len(records)), PayloadSize: uint32(len(payload)), PayloadHash: sha256.Sum256(payload),
	}}
}

// rec makes a record of names and values in turn.
func rec(pairs ...any) page.Record {
	var names []string
	var vals []page.Value
	for i := 0; i < len(pairs); i += 2 {
		names = append(names, pairs[i].(string))
		switch v := pairs[i+1].(type) {
		case int:
			vals = append(vals, page.Int(int64(v)))
		case string:
			vals = append(vals, page.String(v))
		case page.Value:
			vals = append(vals, v)
		case nil:
			vals = append(vals, page.Null())
		}
	}
	return page.NewRecord(page.NewShape(names...), vals...)
}

func codes(a connectors.Answer) map[int]string {
	m := map[int]string{}
	for _, f := range a.Failed {
		m[f.Index] = f.Fault.Code
	}
	return m
}

func dec(s string) page.Value {
	v, err := page.DecimalFromString(s)
	if err != nil {
		panic(err)
	}
	return v
}
