package hub

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func (r running) addr() string { return strings.TrimPrefix(r.url, "https://") }

// from dials the hub from an address of loopback.
func (r running) from(t *testing.T, ip string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// web shakes hands for HTTP.
func (r running) web(t *testing.T, raw net.Conn, protocol string) (*tls.Conn, error) {
	t.Helper()
	conn := tls.Client(raw, &tls.Config{RootCAs: r.roots(t), ServerName: "localhost", NextProtos: []string{protocol}})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return conn, conn.HandshakeContext(ctx)
}

// Promise S8: more silent connections than there is room for, from one address,
// keep neither other addresses out nor, after a moment, the same one.
func TestS8_AFloodKeepsNobodyOut(t *testing.T) {
	r := start(t, t.TempDir())
	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	for range maxVisitors + 200 {
		flood = append(flood, r.from(t, "127.0.0.2"))
	}
	began := time.Now()
	for range 5 {
		conn, err := r.web(t, r.from(t, "127.0.0.1"), "h2")
		if err != nil {
			t.Fatalf("another address: %v", err)
		}
		conn.Close()
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("five handshakes under the flood took %s", took)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		conn, err := r.web(t, r.from(t, "127.0.0.2"), "h2")
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the address of the flood is out for longer than its grace: %v", err)
		}
	}
}

// Who gives way, and who does not.
func TestS8_RoomOfVisitors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all := newVisitors(4)
	enter := func(ip string) *visitor {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		out, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close(); in.Close() })
		return all.enter(in.(*net.TCPConn))
	}
	crowd := []*visitor{enter("127.0.0.2"), enter("127.0.0.2"), enter("127.0.0.2")}
	guest := enter("127.0.0.3")
	if enter("127.0.0.2") != nil {
		t.Error("the busiest address pushed its own fresh handshake out")
	}
	late := enter("127.0.0.4")
	if late == nil || crowd[0].place != nil || guest.place == nil {
		t.Error("a newcomer from elsewhere did not get the place of the crowd's oldest")
	}
	crowd[1].since = crowd[1].since.Add(-2 * graceOfVisitors)
	if enter("127.0.0.2") == nil || crowd[1].place != nil {
		t.Error("one that idles did not give way to its own address")
	}
	for _, v := range []*visitor{guest, guest, late, crowd[0], nil} {
		v.known()
	}
	if n := all.len(); n != 2 {
		t.Errorf("%d visitors are left, want 2", n)
	}
}

func TestNetworkOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7/32", "[::ffff:192.0.2.7]:1": "192.0.2.7/32", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64",
	} {
		if got := networkOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got.String() != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
}

// Who has shown a token takes no room of the strangers any more.
func TestS8_CallersAreNoStrangers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	all := newVisitors(10)
	v := all.enter(raw.(*net.TCPConn))
	knows := false
	h := politely(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if knows {
			proved(r.Context(), "ann")
		}
	}))
	ask := func() int {
		req, err := http.NewRequestWithContext(context.WithValue(t.Context(), visitorKey{}, v), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		h.ServeHTTP(&recorder{}, req)
		return all.len()
	}
	if n := ask(); n != 1 {
		t.Errorf("after a request without token: %d visitors, want 1", n)
	}
	knows = true
	if n := ask(); n != 0 {
		t.Errorf("after a request with one: %d visitors, want 0", n)
	}
}

// say writes raw bytes to the HTTP side of the port and returns the answer.
func (r running) say(t *testing.T, text string) string {
	t.Helper()
	raw, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn, err := r.web(t, raw, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	go func() { _, _ = io.WriteString(conn, text) }()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "closed"
	}
	defer answer.Body.Close()
	return answer.Status
}

// Requests that two parsers could read in two ways, and such as are too much.
func TestHostileHTTP(t *testing.T) {
	r := start(t, t.TempDir())
	token := r.token(t)
	get := "GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\n"
	post := "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\n"
	for name, c := range map[string]struct{ text, want string }{
		"good":                     {get + "\r\n", "200 OK"},
		"two lengths":              {post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400"},
		"length with a sign":       {post + "Content-Length: +3\r\n\r\nabc", "400"},
		"length beyond 63 bits":    {post + "Content-Length: 99999999999999999999\r\n\r\n", "400"},
		"unknown transfer":         {post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "501"},
		"hidden transfer":          {post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400"},
		"space before the colon":   {post + "Content-Length : 3\r\n\r\nabc", "400"},
		"folded header":            {get + "X: a\r\n b\r\n\r\n", "200"}, // one value, as RFC 9112 has it
		"bare line feed in a name": {get + "X\ny: 1\r\n\r\n", "400"},
		"two hosts":                {get + "Host: evil\r\n\r\n", "400"},
		"no host":                  {"GET /api/v1/me HTTP/1.1\r\n\r\n", "400"},
		"absolute form":            {"GET http://evil/api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"},
		"path without slash":       {"GET api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		"encoded slash":            {"GET /api%2fv1%2fme HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		"dots":                     {"GET /api/v1/agents/../me HTTP/1.1\r\nHost: localhost\r\n\r\n", "3"},
		"two slashes":              {"GET //api/v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n", "3"},
		"a method over another":    {get + "X-HTTP-Method-Override: DELETE\r\n\r\n", "200"},
		"a token in the query":     {"GET /api/v1/me?token=" + token + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "401"},
		"two tokens":               {get + "Authorization: Bearer x\r\n\r\n", "200"},
		"4,000 cookies":            {get + strings.Repeat("Cookie: a=b\r\n", 4000) + "\r\n", "431"},
		"a header of 1 MiB":        {get + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "431"},
		"upgrade":                  {get + "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "200"},
		"connect":                  {"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", "40"},
		"HTTP/0.9":                 {"GET /api/v1/me\r\n\r\n", "400"},
		"not HTTP":                 {"SSH-2.0-OpenSSH_9.6\r\n\r\n", "400"},
	} {
		if got := r.say(t, c.text); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Bodies that expand, nest or never fit: refused quickly, with little memory.
func TestHostileBodies(t *testing.T) {
	r := start(t, t.TempDir())
	token, client := r.token(t), r.client(t)
	var laughs strings.Builder
	laughs.WriteString("kind: Flow\nname: x\nlabels: &l0 {a: b}\n")
	for i := range 40 {
		fmt.Fprintf(&laughs, "x%d: &l%d [*l%d,*l%d,*l%d,*l%d,*l%d,*l%d,*l%d,*l%d,*l%d]\n", i, i+1, i, i, i, i, i, i, i, i, i)
	}
	self := "kind: Flow\nname: x\nsteps: &a [*a]\n"
	deep := func(open string) string { return strings.Repeat(open, 100_000) }
	for name, c := range map[string]struct{ method, path, kind, body string }{
		"billion laughs":         {"POST", "/api/v1/apply", "application/yaml", laughs.String()},
		"an alias of itself":     {"POST", "/api/v1/apply", "application/yaml", self},
		"deep lists":             {"POST", "/api/v1/apply", "application/yaml", deep("[")},
		"deep maps":              {"POST", "/api/v1/apply", "application/yaml", deep("{a: ")},
		"deep blocks":            {"POST", "/api/v1/apply", "application/yaml", deep("- ")},
		"a million documents":    {"POST", "/api/v1/apply", "application/yaml", strings.Repeat("---\n", 1_000_000)},
		"many anchors":           {"POST", "/api/v1/apply", "application/yaml", strings.Repeat("- &a b\n", 500_000)},
		"too large":              {"POST", "/api/v1/apply", "application/yaml", strings.Repeat("#", 5<<20)},
		"deep JSON":              {"PUT", "/api/v1/credentials/c/secret", "application/json", deep(`{"a":`)},
		"deep JSON lists":        {"POST", "/api/v1/parked/retry", "application/json", `{"ids":` + deep("[")},
		"a key twice":            {"POST", "/api/v1/parked/retry", "application/json", `{"flow":"a","flow":"b"}`},
		"a number beyond all":    {"POST", "/api/v1/agent-groups/g/tokens", "application/json", `{"uses":1e999}`},
		"not UTF-8":              {"PUT", "/api/v1/credentials/c/secret", "application/json", "{\"a\":\"\xff\"}"},
		"UTF-16":                 {"PUT", "/api/v1/credentials/c/secret", "application/json", "\xff\xfe{\x00}\x00"},
		"null":                   {"PUT", "/api/v1/credentials/c/secret", "application/json", "null"},
		"a list for an object":   {"PUT", "/api/v1/credentials/c/secret", "application/json", "[]"},
		"something behind":       {"PUT", "/api/v1/credentials/c/secret", "application/json", `{"a":"b"}{"c":"d"}`},
		"expressions too deep":   {"POST", "/api/v1/apply", "application/yaml", flowOf(strings.Repeat("(", 50_000))},
		"expressions too long":   {"POST", "/api/v1/apply", "application/yaml", flowOf(strings.Repeat("1+", 500_000) + "1")},
		"a regular expression":   {"POST", "/api/v1/apply", "application/yaml", flowOf(`record.a matches "` + strings.Repeat("(a+)+", 5000) + `$"`)},
		"repetitions of nothing": {"POST", "/api/v1/apply", "application/yaml", flowOf(`record.a matches "((a{0,1000}){0,1000}){0,1000}"`)},
	} {
		began := time.Now()
		req, err := http.NewRequest(c.method, r.url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", c.kind)
		resp, err := client.Do(req)
		if err != nil {
			if name != "too large" { // the hub stops reading and says so, or the client meets the end first
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 || !bytes.Contains(body, []byte(`"code":"E_`)) || len(body) > 64<<10 {
			t.Errorf("%s: %d, %d bytes: %.300s", name, resp.StatusCode, len(body), body)
		}
		if took := time.Since(began); took > 10*time.Second { // some 0.5 s on an idle machine
			t.Errorf("%s: it took %s", name, took)
		}
	}
}

func flowOf(filter string) string {
	return "kind: Flow\nname: x\nexport: {connection: c, table: t, key: [id]}\nsteps:\n  - filter: '" + filter + "'\n"
}

// GO-2023-2153 and its kind: streams that are opened and reset at once.
func TestS8_RapidReset(t *testing.T) {
	r := start(t, t.TempDir())
	raw, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn, err := r.web(t, raw, "h2")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	ended := make(chan int)
	go func() { ended <- resets(conn, 100_000) }()
	token, slowest := r.token(t), time.Duration(0)
	for n := -1; n < 0; {
		began := time.Now()
		if code, _ := r.get(t, "/api/v1/me", token); code != 200 {
			t.Fatalf("a caller got %d", code)
		}
		slowest = max(slowest, time.Since(began))
		select {
		case n = <-ended:
			t.Logf("the hub took %d resets; a caller waited %s at most", n, slowest)
		default:
		}
	}
	if slowest > 3*time.Second {
		t.Errorf("a caller waited %s", slowest)
	}
}

// resets opens and resets n streams and returns how many got out.
func resets(conn net.Conn, n int) int {
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	w := bufio.NewWriterSize(conn, 64<<10)
	_, _ = w.WriteString(http2.ClientPreface)
	f := http2.NewFramer(w, nil)
	_ = f.WriteSettings()
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/api/v1/me"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	block := head.Bytes()
	for i := range n {
		id := uint32(2*i + 1)
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
		if err == nil {
			err = f.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err == nil && i%100 == 99 {
			err = w.Flush()
		}
		if err != nil {
			return i
		}
	}
	return n
}
