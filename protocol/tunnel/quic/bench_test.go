package quic_test

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"ropeway/protocol/tunnel/quic"
)

// BenchmarkUpload moves 1 MiB an operation, over so many streams at once.
func BenchmarkUpload(b *testing.B) {
	for _, streams := range []int{1, 16} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			cfg := tlsConfig(b)
			l := listen(b, cfg, quic.Options{})
			client, server := meet(b, l.Addr().String(), l, cfg, quic.Options{})
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
				readers.Go(func() {
					_, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{to}, make([]byte, 64<<10))
					to.Close()
				})
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
	cfg := tlsConfig(b)
	l := listen(b, cfg, quic.Options{})
	client, server := meet(b, l.Addr().String(), l, cfg, quic.Options{})
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
