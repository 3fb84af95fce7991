package buffer_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"ropeway/agent/internal/buffer"
	"ropeway/protocol/page"
)

const putters = 16

// BenchmarkPut64KiB measures P11: durable 64 KiB pages into the buffer, beside
// raw append and fdatasync in the same run, and out of it again.
func BenchmarkPut64KiB(b *testing.B) {
	b.Run("append+fdatasync", benchmarkRaw)
	b.Run("put/1", func(b *testing.B) { benchmarkPut(b, 1) })
	b.Run("put/16", func(b *testing.B) { benchmarkPut(b, putters) })
	b.Run("next", benchmarkNext)
}

func block(b *testing.B) []byte {
	b.Helper()
	data := make([]byte, 64<<10)
	if _, err := rand.Read(data); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	return data
}

func benchmarkRaw(b *testing.B) {
	data := block(b)
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ResetTimer()
	for range b.N {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

// fill puts n pages by several putters and acks and settles none.
func fill(b *testing.B, to *buffer.Buffer, n, putters int, data []byte) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range putters {
		c := newChain()
		wg.Go(func() {
			for i := uint64(0); next.Add(1) <= int64(n); i++ {
				p := page.New(c.page(i, "").Header, data, 1)
				if err := to.Put(context.Background(), p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchmarkPut(b *testing.B, putters int) {
	data := block(b)
	to := open(b, b.TempDir(), 64<<30)
	b.ResetTimer()
	fill(b, to, b.N, putters, data)
}

func benchmarkNext(b *testing.B) {
	data := block(b)
	to := open(b, b.TempDir(), 64<<30)
	fill(b, to, b.N, putters, data)
	b.ResetTimer()
	n := 0
	err := to.Scan(b.Context(), func(buffer.Stored) error { n++; return nil })
	if err != nil || n != b.N {
		b.Fatalf("%d of %d pages, %v", n, b.N, err)
	}
}
