package tcp

import (
	"bufio"
	"bytes"
	"io"
	"testing"
	"time"
)

// FuzzFramesIn feeds a link any bytes: it must end with an error, never panic,
// and its table must stay within its caps whatever came in.
func FuzzFramesIn(f *testing.F) {
	var b []byte
	b = frame{kind: typeData, flags: flagSYN, stream: 1, length: 3}.append(b)
	b = append(b, "abc"...)
	b = frame{kind: typeWindow, flags: flagFIN, stream: 1}.append(b)
	b = frame{kind: typePing, flags: flagSYN}.append(b)
	b = frame{kind: typeGoAway}.append(b)
	f.Add(b)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const streams, budget = 4, 1 << 20
		l := &link{
			in:   bufio.NewReader(bytes.NewReader(b)),
			wake: make(chan struct{}, 1),
			table: table{limit: streams, budget: budget, streams: map[uint32]*entry{},
				freeLocal: func() { t.Error("a stream of this side ended; there was none") }},
		}
		out, err := io.ReadAll(readerFunc(l.read))
		if len(out) > len(b) {
			t.Errorf("%d bytes became %d", len(b), len(out))
		}
		if err == nil && len(b) > 0 && len(b) < headerSize {
			t.Error("a broken header was taken as an end")
		}
		if n := len(l.table.streams); n > streams || n != l.table.remote {
			t.Errorf("%d streams in the table, %d counted", n, l.table.remote)
		}
		if l.table.budget != budget {
			t.Errorf("budget is %d without a reader", l.table.budget)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The sum of all windows beyond the first 256 KiB stays within the budget, and
// comes back when streams end.
func TestTable_WindowsGrowWithinTheBudget(t *testing.T) {
	const budget = 8 << 20
	tab := table{limit: 64, budget: budget, streams: map[uint32]*entry{}}
	for id := uint32(1); id < 100; id += 2 {
		tab.add(id, false)
		for range 50 {
			e := tab.streams[id]
			n := e.granted - e.received
			if _, err := tab.in(frame{kind: typeData, stream: id, length: uint32(n)}); err != nil {
				t.Fatal(err)
			}
			e.lastGrant = time.Now() // a fast reader
			tab.grant(id, int(n), time.Millisecond)
			if e.granted-e.consumed > e.window || e.window > maxWindow {
				t.Fatalf("stream %d may send %d with a window of %d", id, e.granted-e.consumed, e.window)
			}
		}
	}
	var extra int64
	for _, e := range tab.streams {
		extra += e.window - firstWindow
	}
	if extra > budget || extra+tab.budget != budget || extra < budget/2 {
		t.Errorf("windows took %d of %d, %d left", extra, budget, tab.budget)
	}
	if tab.streams[1].window != maxWindow {
		t.Errorf("the first stream got %d, want %d", tab.streams[1].window, maxWindow)
	}
	for id := range tab.streams {
		tab.remove(id)
	}
	if tab.budget != budget || tab.remote != 0 {
		t.Errorf("after the end %d of the budget and %d streams", tab.budget, tab.remote)
	}
}

// Promise T1: half-open noticed in 15 s, with the defaults.
func TestT1_DefaultsNoticeSilenceIn15Seconds(t *testing.T) {
	opt := Options{}.withDefaults()
	if worst := opt.dead() + opt.Keepalive/4; worst > 15*time.Second {
		t.Errorf("silence is noticed after %s", worst)
	}
	if opt.stall() > 15*time.Second {
		t.Errorf("a stall is noticed after %s", opt.stall())
	}
}
