package security

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ropeway/tests/rig"
)

// lone is a hub without agent or database.
func lone(t *testing.T) *site {
	t.Helper()
	s := &site{t: t}
	var err error
	if s.Site, err = rig.NewSite(bins, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Site.Close)
	s.must(s.StartHub(s.context()))
	return s
}

func (s *site) shake(protocol string) *tls.Conn {
	s.t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.Listen,
		&tls.Config{RootCAs: s.roots(), ServerName: "localhost", NextProtos: []string{protocol}})
	s.must(err)
	return conn
}

// Promise S8: whatever a stranger does slowly, the hub is rid of him in some ten
// seconds.
func TestS8_SlowStrangersAreShownOut(t *testing.T) {
	s := lone(t)
	raw := func() net.Conn {
		conn, err := net.Dial("tcp", s.Listen)
		s.must(err)
		return conn
	}
	drip := func(conn net.Conn, text string) {
		for i := range len(text) {
			if _, err := conn.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond) // being slow is the attack
		}
	}
	slow := map[string]func() net.Conn{
		"says nothing": raw,
		"drips a handshake": func() net.Conn {
			c := raw()
			go drip(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("x", 500))
			return c
		},
		"announces a long handshake": func() net.Conn {
			c := raw()
			go func() { // 64 KiB of client hello in records of 16 KiB
				head := "\x16\x03\x01\x40\x00"
				_, _ = io.WriteString(c, head+"\x01\x00\xff\xff"+strings.Repeat("x", 1<<14-4))
				for range 10 {
					_, _ = io.WriteString(c, head+strings.Repeat("x", 1<<14))
				}
			}()
			return c
		},
		"says nothing after a handshake": func() net.Conn { return s.shake("http/1.1") },
		"drips a header": func() net.Conn {
			c := s.shake("http/1.1")
			go drip(c, "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", 500))
			return c
		},
		"drips a body": func() net.Conn {
			c := s.shake("http/1.1")
			_, _ = io.WriteString(c, "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/yaml\r\nContent-Length: 1000\r\n\r\n")
			go drip(c, strings.Repeat("x", 500))
			return c
		},
		"drips a chunked body with a bad token": func() net.Conn {
			c := s.shake("http/1.1")
			_, _ = io.WriteString(c, "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nIdempotency-Key: k\r\n"+
				"Content-Type: application/yaml\r\nTransfer-Encoding: chunked\r\n\r\n")
			go drip(c, strings.Repeat("1\r\nx\r\n", 100))
			return c
		},
		"idles after an answer": func() net.Conn {
			c := s.shake("http/1.1")
			_, _ = io.WriteString(c, "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
			return c
		},
		"idles on HTTP/2": func() net.Conn {
			c := s.shake("h2")
			_, _ = io.WriteString(c, http2.ClientPreface)
			_ = http2.NewFramer(c, nil).WriteSettings()
			return c
		},
		"pings on HTTP/2": func() net.Conn {
			c := s.shake("h2")
			_, _ = io.WriteString(c, http2.ClientPreface)
			f := http2.NewFramer(c, nil)
			_ = f.WriteSettings()
			go func() {
				for f.WritePing(false, [8]byte{}) == nil {
					time.Sleep(300 * time.Millisecond)
				}
			}()
			return c
		},
		"asks for an enrollment and says nothing": func() net.Conn { return s.shake("ropeway-enroll/1") },
		"drips an enrollment": func() net.Conn {
			c := s.shake("ropeway-enroll/1")
			go drip(c, "\x00\x00\x7f\xff{\"version\":1,\"csr\":\""+strings.Repeat("x", 500))
			return c
		},
	}
	var all sync.WaitGroup
	for name, open := range slow {
		conn := open()
		all.Go(func() {
			defer conn.Close()
			began := time.Now()
			_ = conn.SetReadDeadline(began.Add(20 * time.Second))
			_, err := io.Copy(io.Discard, conn)
			took := time.Since(began)
			if e, ok := err.(net.Error); ok && e.Timeout() || took > 13*time.Second {
				t.Errorf("who %s was there for %s", name, took.Round(time.Second))
			}
		})
	}
	all.Wait()
}

// Promise S8: a stranger costs at most 64 KiB, and a thousand of them change
// nothing for callers.
func TestS8_StrangersCostLittle(t *testing.T) {
	s := lone(t)
	client, token := s.client(), s.token()
	latency := func() time.Duration {
		var worst time.Duration
		for range 50 {
			began := time.Now()
			haystack{}.get(t, client, "https://"+s.Listen+"/api/v1/me", token)
			worst = max(worst, time.Since(began))
		}
		return worst
	}
	quiet := latency()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for name, open := range map[string]func() net.Conn{
		"silent": func() net.Conn {
			c, err := net.Dial("tcp", s.Listen)
			s.must(err)
			return c
		},
		"after a handshake": func() net.Conn { return s.shake("http/1.1") },
		"on HTTP/2":         func() net.Conn { return s.http2(1) },
		"enrolling":         func() net.Conn { return s.shake("ropeway-enroll/1") },
	} {
		const n = 200
		before := s.held()
		for range n {
			conns = append(conns, open())
		}
		each := (s.held() - before) / n
		t.Logf("%s: %d KiB each", name, each>>10)
		if each > 64<<10 {
			t.Errorf("%s: a stranger costs %d KiB", name, each>>10)
		}
	}
	greedy := s.http2(100)
	defer greedy.Close()
	_ = greedy.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := io.Copy(io.Discard, greedy)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("a stranger may have a hundred requests under way")
	}
	if busy := latency(); busy > 20*quiet+500*time.Millisecond {
		t.Errorf("a caller waits %s beside 800 strangers, %s without", busy, quiet)
	}
}

// http2 opens a connection and asks for the description of the API on some
// streams, with no room for the answers.
func (s *site) http2(streams int) net.Conn {
	s.t.Helper()
	c := s.shake("h2")
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/api/v1/version"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, nil)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range streams {
		if f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: []byte(block.String()),
			EndStream: true, EndHeaders: true}) != nil {
			break // the hub has had enough
		}
	}
	return c
}

// held is the memory that the hub holds on to: heap after a collection, and
// stacks. It asks the local socket, which is the owner's.
func (s *site) held() int64 {
	s.t.Helper()
	socket := filepath.Join(s.Data, "hub.sock")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	h := haystack{}
	for range 2 { // what a pool keeps survives one collection
		h.get(s.t, client, "http://hub/debug/pprof/heap?gc=1&debug=1", "")
	}
	var total int64
	for line := range strings.Lines(string(h["GET http://hub/debug/pprof/heap?gc=1&debug=1"])) {
		for _, field := range []string{"# HeapAlloc = ", "# Stack = "} {
			if rest, ok := strings.CutPrefix(line, field); ok {
				var n int64
				_, err := fmt.Sscan(rest, &n)
				s.must(err)
				total += n
			}
		}
	}
	if total == 0 {
		s.t.Fatal("the hub does not tell its memory")
	}
	return total
}
