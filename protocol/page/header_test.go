package page_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func chainedHeader() page.Header {
	return page.Header{
		Version: page.Version, Tenant: page.ID{1}, Environment: page.ID{2}, Flow: page.ID{3}, FlowVersion: 4,
		Chain: page.Chain{Job: page.ID{5}, Step: "export"}, Epoch: page.Epoch{6}, Seq: 7,
		Path: "/map/split.3", Records: 8, PayloadSize: 9, PayloadHash: page.Hash{10}, Prev: page.Hash{11},
		Last: true, TotalPages: 12, TotalRecords: 13, Blob: page.Blob{ID: page.ID{14}, Offset: 15, Total: 16},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		Trace:   page.Trace{TraceID: [16]byte{17}, SpanID: [8]byte{18}, Flags: 1},
	}
}

func pushedHeader() page.Header {
	return page.Header{
		Version: page.Version, Tenant: page.ID{1}, Environment: page.ID{2}, Flow: page.ID{3}, FlowVersion: 1,
		Listener: page.ID{4}, Event: page.Hash{5}, Records: 1, PayloadSize: 100, PayloadHash: page.Hash{6},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func TestDelivery_2_2_HeaderSurvivesMarshal(t *testing.T) {
	for name, h := range map[string]page.Header{"chained": chainedHeader(), "pushed": pushedHeader()} {
		t.Run(name, func(t *testing.T) {
			b := h.Marshal()
			got, err := page.UnmarshalHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(h, got); diff != "" {
				t.Error(diff)
			}
			if h.Hash() != page.Hash(sha256.Sum256(b)) {
				t.Error("the hash is not that of the bytes")
			}
			if parsed, err := page.ParseName(h.Name()); err != nil || page.Root(h.Name()) != h.Root() {
				t.Errorf("name %s: %+v, %v", h.Name(), parsed, err)
			}
		})
	}
}

func TestDelivery_2_2_HeaderIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHeader(t)
		b := h.Marshal()
		if _, err := page.UnmarshalHeader(b); err != nil {
			t.Fatalf("%v: %+v", err, h)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "byte")
		b[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := page.UnmarshalHeader(b); err == nil && !bytes.Equal(got.Marshal(), b) {
			t.Fatalf("changed byte %d was read as another header", i)
		}
	})
}

func drawHeader(t *rapid.T) page.Header {
	h := chainedHeader()
	if rapid.Bool().Draw(t, "pushed") {
		h = pushedHeader()
	}
	for _, clear := range []func(){
		func() { h.Last, h.TotalPages, h.TotalRecords = false, 0, 0 },
		func() { h.Prev = page.Hash{} },
		func() { h.Blob = page.Blob{} },
		func() { h.Trace = page.Trace{} },
		func() { h.Path = "" },
		func() { h.Created = time.Time{} },
	} {
		if rapid.Bool().Draw(t, "clear") {
			clear()
		}
	}
	return h
}

func TestHeaderRefusesBadBytes(t *testing.T) {
	good := chainedHeader()
	change := func(f func(h *page.Header)) []byte {
		h := good
		f(&h)
		return h.Marshal()
	}
	flags := func(set byte) []byte { b := good.Marshal(); b[58] ^= set; return b }
	tests := map[string]struct {
		b    []byte
		code string
	}{
		"empty":           {nil, "E_PAGE_FORMAT"},
		"trailing byte":   {append(good.Marshal(), 0), "E_PAGE_FORMAT"},
		"unknown version": {change(func(h *page.Header) { h.Version = 2 }), "E_FORMAT_VERSION"},
		"version 0":       {change(func(h *page.Header) { h.Version = 0 }), "E_FORMAT_VERSION"},
		"unknown flag":    {flags(0x40), "E_PAGE_FORMAT"},
		"flag missing":    {flags(0x04), "E_PAGE_FORMAT"},
		"no name": {change(func(h *page.Header) {
			h.Chain, h.Epoch, h.Seq = page.Chain{}, page.Epoch{}, 0
		}), "E_PAGE_FORMAT"},
		"empty step":      {change(func(h *page.Header) { h.Chain.Step = "" }), "E_PAGE_FORMAT"},
		"step with upper": {change(func(h *page.Header) { h.Chain.Step = "Export" }), "E_PAGE_FORMAT"},
		"step too long":   {change(func(h *page.Header) { h.Chain.Step = string(bytes.Repeat([]byte("a"), 33)) }), "E_PAGE_FORMAT"},
		"path with dots":  {change(func(h *page.Header) { h.Path = "/../x" }), "E_PAGE_FORMAT"},
		"path too long":   {change(func(h *page.Header) { h.Path = string(bytes.Repeat([]byte("/a"), page.MaxPath)) }), "E_PAGE_FORMAT"},
		"payload size":    {change(func(h *page.Header) { h.PayloadSize = page.MaxPayload + 1 }), "E_PAGE_FORMAT"},
		"records":         {change(func(h *page.Header) { h.Records = 1<<32 - 1 }), "E_PAGE_FORMAT"},
		"year 10000":      {change(func(h *page.Header) { h.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), "E_PAGE_FORMAT"},
		"endless":         {make([]byte, page.MaxHeader+1), "E_PAGE_FORMAT"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := page.UnmarshalHeader(test.b); fault.CodeOf(err) != test.code {
				t.Errorf("got %v, want %s", err, test.code)
			}
		})
	}
	whole := good.Marshal()
	for n := range whole {
		if _, err := page.UnmarshalHeader(whole[:n]); err == nil {
			t.Fatalf("the first %d bytes pass for a header", n)
		}
	}
}

func TestHeaderRefusesPartsThatAreThereButZero(t *testing.T) {
	h := pushedHeader()
	h.Created = time.UnixMicro(0).UTC() // so that all bytes behind are zero
	for flag, size := range map[byte]int{0x01: 16 + 1 + 16 + 8, 0x04: 32, 0x10: 32, 0x20: 25} {
		b := h.Marshal()
		at := len(b) - 8
		if flag == 0x01 {
			at = 59
		}
		b[58] |= flag
		b = slices.Insert(b, at, make([]byte, size)...)
		if _, err := page.UnmarshalHeader(b); fault.CodeOf(err) != "E_PAGE_FORMAT" {
			t.Errorf("flag %x over zeros: %v", flag, err)
		}
	}
}

func TestNames(t *testing.T) {
	job, listener := page.ID{1, 2, 3}, page.ID{0xff, 15: 0xff}
	c := page.Chain{Job: job, Step: "export"}
	e := page.Epoch{0xab, 15: 0xcd}
	h := page.Hash{0x12, 31: 0x34}
	tests := []struct {
		name string
		want page.ParsedName
	}{
		{page.ChainedName(c, e, 0), page.ParsedName{Chain: c, Epoch: e}},
		{page.ChainedName(c, e, 1<<64-1) + "/map/split.12", page.ParsedName{Chain: c, Epoch: e, Seq: 1<<64 - 1, Path: "/map/split.12"}},
		{page.PushedName(listener, h) + "/x", page.ParsedName{Listener: listener, EventHash: h, Pushed: true, Path: "/x"}},
		{page.ReadName(c, 3), page.ParsedName{Chain: c, Read: true, ReadN: 3, Path: "/read.3"}},
	}
	for _, test := range tests {
		got, err := page.ParseName(test.name)
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", test.name, err, diff)
		}
	}
	if got := page.Root(tests[1].name); got != page.ChainedName(c, e, 1<<64-1) {
		t.Errorf("root %s", got)
	}
	if got := tests[0].name; got != "04106000000000000000000000.export:ab0000000000000000000000000000cd:0" {
		t.Errorf("the spelling of names has changed: %s", got)
	}
	if got := page.NameHash64("abc"); got != 0xba7816bf8f01cfea {
		t.Errorf("name hash %x", got)
	}
	chain, err := page.ParseChain(c.String())
	if err != nil || chain != c {
		t.Errorf("chain %v, %v", chain, err)
	}
}

func TestParseNameRefuses(t *testing.T) {
	c := page.Chain{Job: page.ID{1}, Step: "s"}
	root := page.ChainedName(c, page.Epoch{}, 1)
	for _, name := range []string{
		"", "/", "x", c.String(), c.String() + "/read", c.String() + "/read.", c.String() + "/read.01",
		c.String() + "/read.1/x", c.String() + ":00:1", root + "0000000000000000000000", root + "/", root + "//a",
		root + "/A", root + "/a.", root + "/a.01", root + "/a.1.2", root + "/.1", root + "/..", root + ":1",
		root[:len(root)-1] + "+1", root[:len(root)-1] + "01", "A" + root[1:], root + "/\x00", root + "/a b",
		page.PushedName(page.ID{}, page.Hash{})[1:], page.PushedName(page.ID{}, page.Hash{}) + "0",
		string(bytes.Repeat([]byte("a"), 1<<20)),
	} {
		if p, err := page.ParseName(name); err == nil {
			t.Errorf("%.60q was read as %+v", name, p)
		}
	}
}

func TestIDs(t *testing.T) {
	a, b := page.NewID(), page.NewID()
	if a == b || a.String() >= b.String() || a[6]>>4 != 7 {
		t.Errorf("ids %s, %s", a, b)
	}
	back, err := page.ParseID(a.String())
	if err != nil || back != a || len(a.String()) != 26 {
		t.Errorf("%s: %s, %v", a, back, err)
	}
	var zero, read page.ID
	text, _ := zero.MarshalText()
	if err := read.UnmarshalText(text); err != nil || len(text) != 0 || !read.IsZero() {
		t.Errorf("zero id as %q: %v", text, err)
	}
	for _, s := range []string{"", "a", a.String()[:25] + "b", a.String()[:25] + "1", a.String() + "a",
		"A" + a.String()[1:], a.String()[:24] + "\n\n", a.String()[:25] + "="} {
		if _, err := page.ParseID(s); err == nil {
			t.Errorf("%q passes for an id", s)
		}
	}
	e := page.NewEpoch()
	if back, err := page.ParseEpoch(e.String()); err != nil || back != e || e == page.NewEpoch() {
		t.Errorf("epoch %s: %v", e, err)
	}
	if _, err := page.ParseEpoch("AB" + e.String()[2:]); err == nil {
		t.Error("an upper-case epoch was read")
	}
}

func TestDelivery_5_2_ClaimsAreOrdered(t *testing.T) {
	claims := []page.Claim{{1, 1}, {1, 2}, {2, 1}, {2, 9}}
	for i, a := range claims {
		for j, b := range claims {
			if a.Less(b) != (i < j) {
				t.Errorf("%v < %v is %v", a, b, a.Less(b))
			}
		}
	}
}
