package odata_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func orders(from, to int) (list []page.Record) {
	for i := from; i <= to; i++ {
		list = append(list, rec("id", i, "customer", "c"))
	}
	return list
}

func status(code int, headers ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "<html><head><title>Logon\n Error</title></head><body>canary</body></html>")
		return true
	}
}

func isBatch(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "$batch") }

// TestDelivery_8_StatusesByClass: what answers in place of the service takes
// the connection or the job out of work, and never parks a record.
func TestDelivery_8_StatusesByClass(t *testing.T) {
	s := newSite(t)
	for _, test := range []struct {
		status int
		header []string
		code   string
	}{
		{401, nil, "E_AUTH_REJECTED"},
		{403, nil, "E_PERMISSION"},
		{404, nil, "E_UNREACHABLE"},
		{429, []string{"Retry-After", "7"}, "E_RATE_LIMIT"},
		{500, nil, "E_INTERMITTENT"},
		{502, nil, "E_INTERMITTENT"},
		{503, nil, "E_INTERMITTENT"},
		{503, []string{"Retry-After", "7"}, "E_RATE_LIMIT"},
		{400, nil, "E_QUERY"},
		{200, []string{"Content-Type", "text/html; charset=utf-8"}, "E_UNREACHABLE"},
	} {
		for _, version := range []string{"v2", "v4"} {
			s.front.Answer(status(test.status, test.header...))
			c := s.open(version)
			ping := odataType.Ping(t.Context(), c)
			_, _, read := readOnce(t, newRead(c, byID))
			_, write := load(t, c, insert, orders(1, 2)...)
			for what, err := range map[string]error{"ping": ping, "read": read, "import": write} {
				f := fault.From(err)
				if f == nil || f.Code != test.code || f.Fix == "" || f.Sentence == "" {
					t.Errorf("%d %s: %v (%s), want %s", test.status, what, err, fault.CodeOf(err), test.code)
					continue
				}
				if test.code == "E_RATE_LIMIT" && f.RetryAfter != 7*time.Second {
					t.Errorf("%d %s: retry after %v", test.status, what, f.RetryAfter)
				}
				if !strings.Contains(f.Cause, "Logon Error") || strings.Contains(err.Error(), "canary") {
					t.Errorf("%d %s: cause %q", test.status, what, f.Cause)
				}
			}
		}
	}
	s.front.Answer(nil)
	if n := s.count(); n != 0 {
		t.Errorf("%d orders were written", n)
	}
}

// TestRateLimitInTheMiddle: what was created before the endpoint asked to slow
// down is not created again, after a short wait or in the next delivery.
func TestRateLimitInTheMiddle(t *testing.T) {
	for _, wait := range []string{"1", "600"} {
		eachVersion(t, func(t *testing.T, s *site, version string) {
			var batches atomic.Int32
			s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
				return isBatch(r) && batches.Add(1) == 2 && status(429, "Retry-After", wait)(w, r)
			})
			c := s.open(version, func(m map[string]any) { m["batch"] = 3 })
			p := pageOf(t, orders(1, 9)...)
			a, err := loadPage(t, c, insert, p)
			if wait == "600" {
				if f := fault.From(err); f == nil || f.Code != "E_RATE_LIMIT" || f.RetryAfter != 10*time.Minute || s.count() != 3 {
					t.Fatalf("%v, %d orders", err, s.count())
				}
				a, err = loadPage(t, c, insert, p)
			}
			if err != nil || a.Applied != 9 || s.count() != 9 {
				t.Fatalf("%+v, %v, %d orders", a, err, s.count())
			}
		})
	}
}

// TestEndpointBreaks: an endpoint that breaks on everything is tried again
// later; one that breaks on a single record cannot have that record.
func TestEndpointBreaks(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			return strings.Contains(string(body), "poison") && status(500)(w, r)
		})
		c := s.open(version, func(m map[string]any) { m["batch"] = 1 })
		a := mustLoad(t, c, insert, rec("id", 1, "customer", "c"), rec("id", 2, "customer", "poison"), rec("id", 3, "customer", "c"))
		if a.Applied != 2 || len(a.Failed) != 1 || a.Failed[0].Fault.Class != fault.Value || !strings.Contains(a.Failed[0].Fault.Cause, "500") {
			t.Errorf("one in three: %+v", a)
		}
		a = mustLoad(t, c, insert, rec("id", 4, "customer", "poison"))
		if len(a.Failed) != 1 || a.Failed[0].Fault.Class != fault.Value {
			t.Errorf("alone: %+v", a)
		}
		c = s.open(version)
		if _, err := load(t, c, insert, rec("id", 5, "customer", "poison"), rec("id", 6, "customer", "c")); fault.ClassOf(err) != fault.Intermittent {
			t.Errorf("the batch itself: %v", err)
		}
	})
}

func TestBatchIsNotThere(t *testing.T) {
	s := newSite(t)
	s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool { return isBatch(r) && status(501)(w, r) })
	_, err := load(t, s.open("v2"), insert, orders(1, 2)...)
	if fault.CodeOf(err) != "E_UNSUPPORTED" || !strings.Contains(err.Error(), "batch: 1") {
		t.Errorf("%v", err)
	}
	a := mustLoad(t, s.open("v2", func(m map[string]any) { m["batch"] = 1 }), insert, orders(1, 2)...)
	if a.Applied != 2 || s.count() != 2 {
		t.Errorf("%+v", a)
	}
}

func TestCSRFThatNeverHolds(t *testing.T) {
	s := newSite(t)
	s.front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Cookie") // a balancer that sends each request to another server
		return false
	})
	_, err := load(t, s.open("v4"), insert, orders(1, 1)...)
	if n := s.front.Counts(); fault.ClassOf(err) != fault.Auth || n.Refused != 3 || !strings.Contains(err.Error(), "CSRF") {
		t.Errorf("%v, %+v", err, n)
	}
}

// TestHostile_LinksAndRedirects: no answer makes the connector speak to another
// host, nor to another service of the same.
func TestHostile_LinksAndRedirects(t *testing.T) {
	s := newSite(t)
	s.fill(1, 60)
	var strangers atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { strangers.Add(1) }))
	defer stranger.Close()
	sameName := "http://localhost:" + stranger.URL[strings.LastIndexByte(stranger.URL, ':')+1:]

	stream := connectors.Query{Table: "Orders"}
	for _, link := range []string{stranger.URL + "/x", sameName + testenvRoot("v4") + "/Orders", "//" + stranger.Listener.Addr().String() + "/x",
		"https://" + strings.TrimPrefix(s.front.Origin, "http://") + testenvRoot("v4") + "/Orders", "/admin?x", "../../../admin",
		strings.Replace(s.front.Origin, "http://", "http://user:pass@", 1) + testenvRoot("v4") + "/Orders", "file:///etc/passwd", "http://[::bad", "Orders?again"} {
		for _, body := range []string{`{"value":[],"@odata.nextLink":%q}`, `{"d":{"results":[],"__next":%q}}`} {
			s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/Orders") {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, body, link)
				return true
			})
			c := s.open("v4")
			if _, _, err := readOnce(t, newRead(c, stream)); fault.CodeOf(err) != "E_FOREIGN_LINK" || fault.ClassOf(err) != fault.Internal {
				t.Errorf("link %s: %v", link, err)
			}
		}
	}
	for _, code := range []int{301, 302, 307, 308} {
		for _, to := range []string{stranger.URL + "/x", sameName, "https://" + stranger.Listener.Addr().String(), ""} {
			s.front.Answer(status(code, "Location", to))
			if err := odataType.Ping(t.Context(), s.open("v4")); fault.ClassOf(err) != fault.Connection {
				t.Errorf("%d to %s: %v", code, to, err)
			}
		}
		s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			return isBatch(r) && status(code, "Location", "/elsewhere")(w, r)
		})
		if _, err := load(t, s.open("v4"), insert, orders(100, 100)...); fault.ClassOf(err) != fault.Connection {
			t.Errorf("%d of a write: %v", code, err)
		}
	}
	s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool { // a canonical address of the same host
		if r.URL.Query().Has("moved") || isBatch(r) {
			return false
		}
		return status(302, "Location", r.URL.Path+"?moved&"+strings.ReplaceAll(r.URL.RawQuery, "+", "%20"))(w, r)
	})
	if got := mustRead(t, s.open("v4"), byID); len(got) != 60 {
		t.Errorf("%d records by a redirect on the same host", len(got))
	}
	if n := strangers.Load(); n != 0 {
		t.Errorf("%d requests reached the stranger", n)
	}
}

func testenvRoot(version string) string { return roots[version] }

// TestHostile_LargeAnswers: an answer beyond the limit is not read to its end,
// compressed or not, with or without a length.
func TestHostile_LargeAnswers(t *testing.T) {
	s := newSite(t)
	s.fill(1, 3)
	var sent atomic.Int64
	zeros := make([]byte, 64<<10)
	pour := func(w io.Writer, most int64) {
		for n := int64(0); n < most; n += int64(len(zeros)) {
			if _, err := w.Write(zeros); err != nil {
				return
			}
			sent.Add(int64(len(zeros)))
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"length": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "1073741824"); pour(w, 1<<30) },
		"chunks": func(w http.ResponseWriter) { pour(w, 1<<30) },
		"bomb": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			pour(z, 1<<30)
			z.Close()
		},
	} {
		sent.Store(0)
		s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/Orders") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			answer(w)
			return true
		})
		_, _, err := readOnce(t, newRead(s.open("v4"), connectors.Query{Table: "Orders"}))
		if fault.CodeOf(err) != "E_TOO_LARGE" || sent.Load() > 256<<20 {
			t.Errorf("%s: %v after %d MiB", name, err, sent.Load()>>20)
		}
	}
	// A keyed read asks for less at a time.
	s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		top := r.URL.Query().Get("$top")
		if !strings.HasSuffix(r.URL.Path, "/Orders") || len(top) == 1 {
			return false
		}
		w.Header().Set("Content-Length", "1073741824")
		return true
	})
	if got := mustRead(t, s.open("v4"), byID); len(got) != 3 {
		t.Errorf("%d records", len(got))
	}
}

func TestHostile_BodiesThatAreNoAnswer(t *testing.T) {
	s := newSite(t)
	for _, body := range []string{``, `null`, `[]`, `{}`, `{"value":{}}`, `{"d":{}}`, `{"d":5}`, `{"value":[1]}`, `{"value":[null]}`,
		`{"value":[`, `<feed xmlns="http://www.w3.org/2005/Atom"/>`, strings.Repeat(`[`, 100_000), "\xff\xfe", `{"value":[{"id":null}]}`, `{"value":[{}]}`} {
		s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/Orders") {
				return false
			}
			_, _ = io.WriteString(w, body)
			return true
		})
		_, _, err := readOnce(t, newRead(s.open("v4"), byID))
		if f := fault.From(err); f == nil || f.Code != "E_UNREACHABLE" && f.Code != "E_QUERY" {
			t.Errorf("%.40q: %v", body, err)
		}
	}
	for _, body := range []string{"", "--x--\r\n", "--x\r\n\r\n--x--", "--x\r\nContent-Type: application/http\r\n\r\nnonsense\r\n--x--\r\n",
		strings.Repeat("--x\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 201 Created\r\n\r\n\r\n", 5000)} {
		s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			if !isBatch(r) {
				return false
			}
			w.Header().Set("Content-Type", "multipart/mixed; boundary=x")
			_, _ = io.WriteString(w, body)
			return true
		})
		if _, err := load(t, s.open("v4"), insert, rec("customer", "c"), rec("customer", "c")); fault.ClassOf(err) != fault.Intermittent {
			t.Errorf("batch %.40q: %v", body, err)
		}
	}
	for _, body := range []string{"", "<x/>", `{"x":1}`, `<edmx:Edmx Version="3.0"/>`, `<!DOCTYPE a [<!ENTITY b "c">]><edmx:Edmx Version="4.0">&b;</edmx:Edmx>`,
		strings.Repeat("<a>", 100_000)} {
		s.front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "$metadata") {
				return false
			}
			_, _ = io.WriteString(w, body)
			return true
		})
		if _, _, err := readOnce(t, newRead(s.open("v4"), byID)); fault.CodeOf(err) != "E_UNREACHABLE" {
			t.Errorf("$metadata %.40q: %v", body, err)
		}
	}
}

func TestConnecting(t *testing.T) {
	s := newSite(t)
	secret := "canary-" + s.cap.Password
	wrong := open(t, env(s.cap.User, secret), s.settings("v4"))
	if err := odataType.Ping(t.Context(), wrong); fault.ClassOf(err) != fault.Auth || strings.Contains(err.Error(), secret) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := load(t, wrong, insert, orders(1, 1)...); fault.ClassOf(err) != fault.Auth {
		t.Errorf("wrong password, import: %v", err)
	}
	for _, bad := range [][2]string{{"a:b", "x"}, {"a", "x\r\nX-Evil: 1"}} {
		if err := odataType.Ping(t.Context(), open(t, env(bad[0], bad[1]), s.settings("v4"))); fault.ClassOf(err) != fault.Auth {
			t.Errorf("credential %q: %v", bad, err)
		}
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	if err := odataType.Ping(t.Context(), open(t, env("u", "p"), map[string]any{"url": "http://" + closed})); fault.CodeOf(err) != "E_UNREACHABLE" {
		t.Errorf("nothing listens: %v", err)
	}
	denied := env("u", "p")
	denied.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, fault.Of("E_POLICY_DENIED").WithSource("policy")
	}
	if err := odataType.Ping(t.Context(), open(t, denied, s.settings("v4"))); fault.ClassOf(err) != fault.Policy {
		t.Errorf("denied by the policy: %v", err)
	}
	if err := odataType.Ping(t.Context(), s.open("v4", func(m map[string]any) {
		m["url"] = strings.Replace(m["url"].(string), "http:", "https:", 1)
	})); fault.CodeOf(err) != "E_TLS" && fault.CodeOf(err) != "E_UNREACHABLE" {
		t.Errorf("TLS where there is none: %v", err)
	}
	if _, _, err := readOnce(t, newRead(s.open("v4", func(m map[string]any) { m["version"] = "v2" }), byID)); fault.ClassOf(err) != fault.SchemaDrift {
		t.Errorf("the other version: %v", err)
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	s := newSite(t)
	held := make(chan struct{})
	defer close(held)
	s.front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-held:
		case <-r.Context().Done():
		}
		return true
	})
	c := s.open("v4", func(m map[string]any) { m["timeout"] = "100ms" })
	if err := odataType.Ping(t.Context(), c); fault.CodeOf(err) != "E_TIMEOUT" || fault.ClassOf(err) != fault.Intermittent {
		t.Errorf("slow: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := odataType.Ping(ctx, s.open("v4")); fault.CodeOf(err) != "E_CANCELLED" {
		t.Errorf("cancelled: %v", err)
	}
}

// TestDialsOnlyItsTarget: nothing but the address of the settings is dialled,
// whatever proxy the environment names.
func TestDialsOnlyItsTarget(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	t.Setenv("http_proxy", "http://127.0.0.1:9")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:9")
	s := newSite(t)
	s.fill(1, 60)
	e := env(s.cap.User, s.cap.Password)
	var dialled []string
	e.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, network+" "+address)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	settings, err := odataType.Settings.Validate(s.settings("v2"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := odataType.Target(settings)
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, open(t, e, s.settings("v2")), connectors.Query{Table: "Orders"})
	slices.Sort(dialled)
	if dialled = slices.Compact(dialled); len(dialled) != 1 || dialled[0] != "tcp "+target {
		t.Errorf("dialled %v, target %s", dialled, target)
	}
}
