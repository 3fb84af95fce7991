package tcp_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"ropeway/protocol/tunnel"
	"ropeway/protocol/tunnel/tcp"
)

// direct is a session over loopback without a proxy between.
func direct(b *testing.B) (client, server tunnel.Session) {
	b.Helper()
	cfg := tlsConfig(b)
	cfg.DynamicRecordSizingDisabled = true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan tunnel.Session, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		conn := tls.Server(tcp.Wrap(raw), cfg)
		if err := conn.Handshake(); err != nil {
			return
		}
		s, _ := tcp.Server(conn, tcp.Options{})
		accepted <- s
	}()
	client, err = tcp.Dial(b.Context(), l.Addr().String(), cfg, tcp.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server = <-accepted
	b.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// BenchmarkUpload moves 1 MiB an operation, over so many streams at once.
func BenchmarkUpload(b *testing.B) {
	for _, streams := range []int{1, 16} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			client, server := direct(b)
			body := make([]byte, 1<<20)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var readers, writers sync.WaitGroup
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			for range streams {
				from, err := client.Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				to, err := server.Accept(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				readers.Go(func() { _, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{to}, make([]byte, 64<<10)); to.Close() })
				writers.Go(func() {
					for range work {
						if _, err := from.Write(body); err != nil {
							b.Error(err)
							return
						}
					}
					from.Close()
				})
			}
			writers.Wait()
			readers.Wait()
		})
	}
}

// BenchmarkRoundTrip is one small message there and back on an open stream.
func BenchmarkRoundTrip(b *testing.B) {
	client, server := direct(b)
	st, err := client.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	other, err := server.Accept(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	go func() { _, _ = io.Copy(other, other) }()
	msg := make([]byte, 100)
	for b.Loop() {
		if _, err := st.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(st, msg); err != nil {
			b.Fatal(err)
		}
	}
}
