package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ropeway/hub/internal/queue"
)

func FuzzMessage(f *testing.F) {
	subject, h, err := queue.Encode(message(newLane(1), "job.step:00ff:1/map"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(subject, h["Ropeway-Name"][0], "page", "1", "import", h["Ropeway-Job"][0], "7")
	f.Add("pages.*.>.$JS.x", "a\r\nb", "", "-1", "\x00", "x", "18446744073709551616")
	f.Fuzz(func(t *testing.T, subject, name, kind, attempt, step, id, version string) {
		headers := map[string][]string{
			"Ropeway-Format": {"1"}, "Ropeway-Name": {name}, "Ropeway-Kind": {kind},
			"Ropeway-Attempt": {attempt}, "Ropeway-Step": {step}, "Ropeway-Job": {id},
			"Ropeway-Flow": {id}, "Ropeway-Flow-Version": {version},
		}
		m, err := queue.Decode(subject, headers, []byte("x"))
		if err != nil {
			return
		}
		again, h, err := queue.Encode(m)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := queue.Decode(again, h, m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back); diff != "" {
			t.Errorf("changed on the way:\n%s", diff)
		}
	})
}

// BenchmarkPublish measures durable publishes of 64 KiB by eight publishers.
func BenchmarkPublish(b *testing.B) {
	c := quick(b.TempDir())
	c.AckWait = 20 * time.Second
	q, err := queue.Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	l := newLane(1)
	m := message(l, "x")
	m.Body = make([]byte, 64<<10)
	b.SetBytes(int64(len(m.Body)))
	b.SetParallelism(4)
	names := make(chan string, 1024)
	go func() {
		for i := range b.N + 1024 {
			names <- fmt.Sprint("p.", i)
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m := m
			m.Name = <-names
			if err := q.Publish(b.Context(), m); err != nil {
				b.Error(err)
			}
		}
	})
}
